"""diagnose(): every rule gets exactly one verdict; causes come before symptoms."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from isograd.errors import InputError
from isograd.findings import Diagnosis, Finding, Severity, Verdict
from isograd.records import Reading, Record
from isograd.rules import RULES, NotApplicable, Passed, Rule


def diagnose(
    reading: Reading | Record,
    *,
    select: Collection[str] = (),
    ignore: Collection[str] = (),
    rules: Iterable[Rule] | None = None,
) -> Diagnosis:
    """Judges a reading by every rule and orders what they found.

    A finding that another finding explains is folded into that one's `symptoms`; a cause is at
    least as severe as the symptoms it explains. Findings are ordered by severity, then by rank
    (data and loss before weights, weights before symptoms over depth).

    Args:
        reading: what was seen; a bare Record counts as a reading without history.
        select: codes, or prefixes of codes (`IG1`), to judge; all where empty.
        ignore: codes or prefixes to leave out.
        rules: the rules; the catalogue where left out.

    Raises:
        InputError: a code in `select` or `ignore` names no rule.
    """
    if isinstance(reading, Record):
        reading = Reading(reading)
    judges = list(RULES if rules is None else rules)
    select, ignore = _codes("select", select, judges), _codes("ignore", ignore, judges)
    found: list[tuple[Rule, Finding]] = []
    verdicts: list[Verdict] = []
    for rule in judges:
        if not _selected(rule.code, select, ignore):
            verdicts.append(Verdict(rule.code, "ignored", "not selected"))
            continue
        try:
            outcome = rule.judge(reading)
        except Exception as error:  # a broken rule must not hide what the others found
            reason = f"the rule itself failed: {type(error).__name__}: {error}"
            verdicts.append(Verdict(rule.code, "failed", reason))
            continue
        if isinstance(outcome, Passed):
            verdicts.append(Verdict(rule.code, "passed", outcome.reason))
        elif isinstance(outcome, NotApplicable):
            verdicts.append(Verdict(rule.code, "not-applicable", outcome.reason))
        else:
            verdicts.append(Verdict(rule.code, "finding", outcome.message))
            found.append((rule, outcome))
    return Diagnosis(tuple(_order(found)), tuple(verdicts), reading)


def _codes(option: str, given: Collection[str], judges: list[Rule]) -> Collection[str]:
    """The codes or prefixes of an option; each must name a rule."""
    codes = (given,) if isinstance(given, str) else tuple(given)
    for code in codes:
        if not any(rule.code.startswith(code) for rule in judges):
            known = ", ".join(rule.code for rule in judges)
            raise InputError(f"{option}: no rule has the code {code!r}; the rules are {known}")
    return codes


def _selected(code: str, select: Collection[str], ignore: Collection[str]) -> bool:
    chosen = not select or any(code.startswith(prefix) for prefix in select)
    return chosen and not any(code.startswith(prefix) for prefix in ignore)


def _order(found: list[tuple[Rule, Finding]]) -> list[Finding]:
    """Folds symptoms into their causes; what is left is sorted by severity, then rank."""
    by_rank = sorted(found, key=lambda pair: (pair[0].rank, -pair[1].severity.weight))
    findings = [finding for _, finding in by_rank]
    roots = [_root(finding, findings) for finding in findings]
    ordered: list[tuple[int, Finding]] = []
    for (rule, finding), root in zip(by_rank, roots, strict=True):
        if root is not finding:
            continue
        symptoms = tuple(f for f, r in zip(findings, roots, strict=True) if r is root is not f)
        severity = max((finding, *symptoms), key=lambda f: f.severity.weight).severity
        ordered.append((rule.rank, replace(finding, severity=severity, symptoms=symptoms)))
    ordered.sort(key=lambda pair: (-pair[1].severity.weight, pair[0]))
    return [finding for _, finding in ordered]


def _root(finding: Finding, findings: list[Finding]) -> Finding:
    """What explains a finding at last; of findings that explain each other the first by rank."""
    chain = [finding]
    while True:
        cause = next((f for f in findings if _explains(f, chain[-1])), None)
        if cause is None:
            return chain[-1]
        if any(cause is passed for passed in chain):
            circle = chain[next(i for i, f in enumerate(chain) if f is cause) :]
            return next(f for f in findings if any(f is member for member in circle))
        chain.append(cause)


def _explains(cause: Finding, symptom: Finding) -> bool:
    loud = cause.severity.reaches(Severity.WARNING)
    return loud and cause is not symptom and symptom.code in cause.explains
