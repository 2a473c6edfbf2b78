"""The findings as cards, each with its remedies first and its rule's own text folded in."""

from isograd.findings import Diagnosis, Finding
from isograd.reporting import _summary as summary
from isograd.reporting._markup import Markup, join, tag
from isograd.reporting._numbers import value

CHIPS = 8
"""Sites shown at once; the rest is folded."""
MOST_FOLDED = 400
"""Sites in the fold; the JSON form holds all."""


def cards(diagnosis: Diagnosis) -> list[Markup]:
    """One card per finding, in order."""
    return [_card(number, finding) for number, finding in enumerate(diagnosis.findings, 1)]


def _card(number: int, finding: Finding) -> Markup:
    severity = finding.severity.value
    rule = summary.rule_text(finding.code)
    head = tag(
        "header",
        tag("span", str(number), class_="flag"),
        tag("h3", finding.cause),
        tag("span", severity, class_="severity"),
        tag("span", " · ".join(filter(None, (finding.code, rule.title))), class_="quiet"),
    )
    return tag(
        "article",
        head,
        tag("p", finding.message, class_="message"),
        _remedies(finding),
        _places(finding.sites),
        _evidence(finding),
        _symptoms(finding),
        _rule(finding.code, rule),
        class_=f"card {severity}",
    )


def _remedies(finding: Finding) -> Markup | None:
    if not finding.remedies:
        return None
    items = [tag("li", remedy) for remedy in finding.remedies]
    return tag("div", tag("h4", "What to do"), tag("ol", *items), class_="remedies")


def _places(sites: tuple[str, ...]) -> Markup | None:
    if not sites:
        return None
    shown = [tag("code", name) for name in sites[:CHIPS]]
    rest = sites[CHIPS : CHIPS + MOST_FOLDED]
    folded = rest and tag(
        "details",
        tag("summary", f"and {len(sites) - CHIPS:,} more"),
        *(tag("code", name) for name in rest),
    )
    return tag("div", tag("h4", "Where, worst first"), *shown, folded or None, class_="places")


def _evidence(finding: Finding) -> Markup | None:
    pairs = [(str(key).replace("_", " "), value(thing)) for key, thing in finding.evidence.items()]
    if not pairs:
        return None
    items = [tag("div", tag("dt", key), tag("dd", text)) for key, text in pairs]
    return tag("div", tag("h4", "Evidence"), tag("dl", *items), class_="evidence")


def _symptoms(finding: Finding) -> Markup | None:
    if not finding.symptoms:
        return None
    items = [
        tag(
            "li",
            tag(
                "details",
                tag("summary", f"{symptom.code} {summary.brief(symptom.message)}"),
                tag("p", symptom.message),
            ),
        )
        for symptom in finding.symptoms
    ]
    return tag("div", tag("h4", "This also explains"), tag("ul", *items), class_="symptoms")


def _rule(code: str, rule: summary.RuleText) -> Markup | None:
    if not rule.title:
        return None
    texts = [
        join(tag("dt", head), tag("dd", body[:1].upper() + body[1:]))
        for head, body in rule.sections.items()
    ]
    return tag(
        "details",
        tag("summary", f"About {code}: what it sees, why it matters, when it is wrong"),
        tag("dl", *texts),
        class_="rule",
    )
