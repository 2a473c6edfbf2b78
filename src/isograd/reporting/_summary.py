"""What every form says in words: the headline, the subject, the loss, what was not judged."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from isograd.findings import Diagnosis, Finding, Severity
from isograd.records import Reading, Record
from isograd.reporting._numbers import abbreviate, counted, printable, short, value

EVIDENCE = 6
"""Pieces of evidence shown with a finding; the JSON form holds all."""


@dataclass(frozen=True)
class RuleText:
    """A rule's own words; a code of another version has none."""

    title: str
    sections: Mapping[str, str]


def rule_text(code: str) -> RuleText:
    """Title and sections of a rule; empty for a code that the catalogue does not know."""
    from isograd.rules import RULES  # late: loading the catalogue loads every rule

    if code not in RULES:
        return RuleText("", {})
    return RuleText(RULES[code].title(), RULES[code].sections())


def headline(diagnosis: Diagnosis) -> str:
    """`2 errors, 1 warning`, `healthy`, `healthy, 1 note`."""
    counts = {
        noun: sum(finding.severity is severity for finding in diagnosis.findings)
        for severity, noun in (
            (Severity.ERROR, "error"),
            (Severity.WARNING, "warning"),
            (Severity.INFO, "note"),
        )
    }
    words = [counted(number, noun) for noun, number in counts.items() if number]
    if unpredictable(diagnosis.reading.seen):
        return ", ".join(["not predictable", *words])
    return ", ".join(["healthy", *words] if diagnosis.healthy else words)


def unpredictable(record: Record) -> bool:
    """Whether it is a prediction whose numbers hold for no single draw of the weights."""
    return record.fact("prediction.predictable") is False


def level(diagnosis: Diagnosis) -> str:
    """error, warning or healthy."""
    severity = diagnosis.severity
    if diagnosis.healthy or severity is None:
        return "warning" if unpredictable(diagnosis.reading.seen) else "healthy"
    return severity.value


def first(diagnosis: Diagnosis) -> str:
    """What to fix first: `fix first: init-too-small at layers.0`; empty where nothing is wrong."""
    if diagnosis.healthy:
        return ""
    finding = diagnosis.findings[0]
    # The whole name stands with the finding.
    names = [abbreviate(name, 60) for name in finding.sites]
    place = f" at {where(tuple(names), 1)}" if names else ""
    return f"fix first: {printable(finding.cause)}{place}"


def subject(record: Record) -> str:
    """What was looked at: `Net · 20 weight layers · 12,345 parameters · predicted`."""
    parameters = record.fact("model.parameters")
    name = record.fact("model.name")
    parts = [
        printable(str(name)) if name else "",
        counted(len(record.weight_sites()), "weight layer"),
        counted(parameters, "parameter") if isinstance(parameters, int) else "",
        record.source + (f" at step {record.step}" if record.step else ""),
    ]
    return " · ".join(part for part in parts if part)


def loss(record: Record) -> str:
    """`cross_entropy 2.31; chance level 2.303`; empty without a loss."""
    name, number = record.fact("loss.name"), record.fact("loss.value")
    if name is None and number is None:
        return ""
    words = f"{printable(str(name or ''))} {value(number)}".strip()
    if record.fact("loss.kind") == "probe":
        return "none, random probes"  # their sum means nothing
    chance = record.fact("loss.chance")
    if chance is not None:
        words += f"; chance level {value(chance)}"
    return words + (" (the loss was chosen for you)" if record.fact("loss.chosen") else "")


def evidence(finding: Finding) -> list[tuple[str, str]]:
    """The first pieces of evidence as (name, few words)."""
    return [
        (printable(str(key)).replace("_", " "), value(thing))
        for key, thing in list(finding.evidence.items())[:EVIDENCE]
    ]


def where(names: tuple[str, ...], most: int = 3) -> str:
    """`a, b, c and 17 more`."""
    shown = ", ".join(printable(name) for name in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")


def brief(message: str) -> str:
    """The first clause of a message."""
    return re.split(r"; |: |\. ", message, maxsplit=1)[0].rstrip(".")


def by_state(diagnosis: Diagnosis) -> dict[str, list[tuple[str, str]]]:
    """(code, reason) of the verdicts by state, in their order."""
    states: dict[str, list[tuple[str, str]]] = {}
    for verdict in diagnosis.verdicts:
        states.setdefault(verdict.state, []).append((verdict.code, verdict.reason))
    return states


def not_applicable(diagnosis: Diagnosis) -> list[tuple[list[str], str]]:
    """Codes that share a reason why they could not look, the most common reason first."""
    groups: dict[str, list[str]] = {}
    for code, reason in by_state(diagnosis).get("not-applicable", []):
        groups.setdefault(reason, []).append(code)
    return sorted(((codes, reason) for reason, codes in groups.items()), key=lambda g: -len(g[0]))


def tally(diagnosis: Diagnosis) -> str:
    """`31 rules: 2 found something, 24 passed, 5 not applicable`."""
    words = {
        "finding": "found something",
        "passed": "passed",
        "not-applicable": "not applicable",
        "ignored": "not selected",
        "failed": "broke",
    }
    states = by_state(diagnosis)
    parts = [f"{len(states[state])} {text}" for state, text in words.items() if state in states]
    return f"{counted(len(diagnosis.verdicts), 'rule')}: {', '.join(parts)}" if parts else ""


def losses(diagnosis: Diagnosis) -> list[float | None]:
    """The loss at every step of the rehearsal or of the watched run; empty without one."""
    last = diagnosis.reading.last
    found: Any = last.fact("rehearsal.losses") or (last.fact("watch.losses") or [[], []])[1]
    return [x if isinstance(x, (int, float)) else None for x in found]


def loss_steps(diagnosis: Diagnosis) -> list[int]:
    """The steps of these losses: of a long run some of the older ones are left out."""
    run: Any = diagnosis.reading.last.fact("watch.losses")
    return list(run[0]) if run else list(range(len(losses(diagnosis))))


def course_title(diagnosis: Diagnosis) -> str:
    """What these losses are of."""
    return "Loss" if diagnosis.reading.last.fact("watch.losses") else "Rehearsal"


def at_the_end(diagnosis: Diagnosis) -> Diagnosis:
    """Of a watched run the same judgement beside the numbers of the latest look; else unchanged."""
    reading = diagnosis.reading
    if not reading.history or reading.last.fact("watch.losses") is None:
        return diagnosis
    return replace(diagnosis, reading=Reading(latest_look(reading.seen.facts, reading.last)))


def latest_look(first: Mapping[str, Any], last: Record) -> Record:
    """A look with what stays as it was in the first one, which a cheap one does not say again."""
    stays = ("model.", "loss.", "target.")
    told = {key: fact for key, fact in first.items() if key.startswith(stays)}
    told.pop("loss.value", None)
    return replace(last, facts={**told, **last.facts})


def rehearsal(diagnosis: Diagnosis) -> str:
    """`50 steps: loss 2.303 to 0.21`, and why it ended early."""
    curve = losses(diagnosis)
    if not curve:
        return ""
    steps = counted(loss_steps(diagnosis)[-1] + 1, "step")
    words = f"{steps}: loss {short(curve[0])} → {short(curve[-1])}"
    stopped = diagnosis.reading.last.fact("rehearsal.stopped")
    return words + (f"; stopped: {value(stopped)}" if stopped else "")


def version() -> str:
    """The version of isograd that tells."""
    from importlib.metadata import version as installed

    return installed("isograd")
