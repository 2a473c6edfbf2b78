"""diagnose(): every rule gets exactly one verdict; causes come before symptoms."""

from collections.abc import Collection, Iterable
from dataclasses import replace

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
    """
    if isinstance(reading, Record):
        reading = Reading(reading)
    found: list[tuple[Rule, Finding]] = []
    verdicts: list[Verdict] = []
    for rule in RULES if rules is None else rules:
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


def _selected(code: str, select: Collection[str], ignore: Collection[str]) -> bool:
    chosen = not select or any(code.startswith(prefix) for prefix in select)
    return chosen and not any(code.startswith(prefix) for prefix in ignore)


def _order(found: list[tuple[Rule, Finding]]) -> list[Finding]:
    """Folds symptoms into their causes; what is left is sorted by severity, then rank."""
    by_rank = sorted(found, key=lambda pair: (pair[0].rank, -pair[1].severity.weight))
    causes: list[tuple[int, Finding]] = []
    for rule, finding in by_rank:
        for place, (rank, cause) in enumerate(causes):
            if finding.code in cause.explains and cause.severity.reaches(Severity.WARNING):
                severity = max(cause.severity, finding.severity, key=lambda s: s.weight)
                causes[place] = (
                    rank,
                    replace(cause, severity=severity, symptoms=(*cause.symptoms, finding)),
                )
                break
        else:
            causes.append((rule.rank, finding))
    causes.sort(key=lambda pair: (-pair[1].severity.weight, pair[0]))
    return [finding for _, finding in causes]
