"""The text form: for terminals, logs and the messages of failing tests."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from isograd.findings import Diagnosis, Finding
from isograd.reporting import _predicted
from isograd.reporting import _summary as summary
from isograd.reporting._numbers import clip, printable
from isograd.reporting._textplot import profile, sparkline

WIDTH = 80
"""Columns where nobody says otherwise."""
NARROWEST = 60
"""Where the terminal is narrower, it breaks the lines of the plot itself."""

_CODES = {
    "error": "1;31",
    "warning": "1;33",
    "info": "1;36",
    "healthy": "1;32",
    "bold": "1",
    "dim": "2",
    "do": "32",
    "forward": "36",
    "backward": "35",
    "mark": "1;31",
}


@dataclass(frozen=True)
class Pen:
    """Writes lines of a width, with ANSI colors or without."""

    width: int
    color: bool

    def __call__(self, text: str, style: str) -> str:
        """The text in a style, a key of `_CODES`."""
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.color and text else text

    def paragraph(self, text: str, *, label: str = "", style: str = "", indent: int = 0) -> str:
        """The text wrapped to the width; `label` stands before it, later lines hang under it."""
        # A path or an expression that is too long stays whole, so that it can be copied.
        lines = textwrap.wrap(
            f"{label} {printable(text)}".strip(),
            self.width,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + (4 if label else 0)),
            break_on_hyphens=False,
            break_long_words=False,
        )
        return "\n".join(lines).replace(label, self(label, style), 1)


def tell(diagnosis: Diagnosis, *, width: int | None = None, color: bool = False) -> str:
    """The whole report as text, without a line break at its end."""
    diagnosis = summary.at_the_end(diagnosis)
    pen = Pen(max(width or WIDTH, NARROWEST), color)
    predicted = diagnosis.reading.seen.source == "predicted"
    shown = (_predicted.table if predicted else profile)(diagnosis, pen.width, pen)
    blocks = [
        _verdict(diagnosis, pen),
        _rehearsal(diagnosis, pen),
        "\n".join(shown),
        *(
            finding_text(number, finding, pen)
            for number, finding in enumerate(diagnosis.findings, 1)
        ),
        rule_text(diagnosis, pen),
    ]
    return "\n\n".join(block for block in blocks if block)


def _verdict(diagnosis: Diagnosis, pen: Pen) -> str:
    seen = diagnosis.reading.seen
    level = summary.level(diagnosis)
    sign = {"healthy": "✓", "warning": "!", "error": "✗"}[level]
    first = summary.first(diagnosis)
    head = f"{sign} {summary.headline(diagnosis)}"
    gap = " · " if len(head) + 3 + len(first) <= pen.width else "\n  "
    lines = [pen(head, level) + (first and gap + first)]
    lines.append(pen.paragraph(summary.subject(seen), indent=2))
    if loss := summary.loss(seen):
        lines.append(pen.paragraph(loss, label="loss", style="dim", indent=2))
    predicted = seen.source == "predicted"
    for label, words in _predicted.about(seen).items() if predicted else ():
        doubt = label == "not predictable"
        style, label = ("error", f"{label}:") if doubt else ("dim", label)
        lines.append(pen.paragraph(words, label=label, style=style, indent=2))
    notes = _predicted.notes(seen) if predicted else seen.notes
    lines += [pen.paragraph(note, label="note", style="dim", indent=2) for note in notes]
    return "\n".join(lines)


def _rehearsal(diagnosis: Diagnosis, pen: Pen) -> str:
    words = summary.rehearsal(diagnosis)
    if not words:
        return ""
    line = sparkline(summary.losses(diagnosis), pen.width - 4)
    return f"{pen(summary.course_title(diagnosis), 'bold')}  {words}\n  {pen(line, 'forward')}"


def finding_text(number: int, finding: Finding, pen: Pen) -> str:
    """One finding, with where, evidence and what to do."""
    severity = finding.severity.value
    head = f"{number} {severity.upper()} {finding.code} {printable(finding.cause)}"
    rule = "─" * max(pen.width - len(head) - 1, 0)
    lines = [
        f"{pen(f'{number} {severity.upper()}', severity)} {pen(finding.code, 'bold')} "
        f"{pen(printable(finding.cause), severity)} {pen(rule, 'dim')}",
        pen.paragraph(finding.message, indent=2),
    ]
    lines += _details(finding, pen)
    return "\n".join(lines)


def _details(finding: Finding, pen: Pen) -> Iterator[str]:
    if finding.sites:
        yield pen.paragraph(summary.where(finding.sites), label="where:", style="dim", indent=2)
    if pairs := summary.evidence(finding):
        text = " · ".join(f"{key} {number}" for key, number in pairs)
        yield pen.paragraph(text, label="evidence:", style="dim", indent=2)
    for remedy in finding.remedies:
        yield pen.paragraph(remedy, label="do:", style="do", indent=2)
    for symptom in finding.symptoms:
        label = f"explains {symptom.code}:"
        yield pen.paragraph(summary.brief(symptom.message), label=label, style="dim", indent=2)


def rule_text(diagnosis: Diagnosis, pen: Pen) -> str:
    """What the rules concluded, in few lines."""
    lines = [pen.paragraph(summary.tally(diagnosis))]
    silent = summary.not_applicable(diagnosis)
    if silent and diagnosis.reading.seen.source == "predicted":
        lines.append(pen("isograd check looks at what needs values", "dim"))
    elif silent:
        lines.append(pen("not applicable:", "dim"))
        lines += [
            pen(clip(f"  {' '.join(codes)}  {reason}", pen.width), "dim")
            for codes, reason in silent
        ]
    for code, reason in summary.by_state(diagnosis).get("failed", []):
        lines.append(pen.paragraph(reason, label=f"broke {code}:", style="error", indent=2))
    if diagnosis.findings:
        first = diagnosis.findings[0]
        lines.append(pen(f"more on the first finding: isograd explain {first.code}", "dim"))
    return "\n".join(line for line in lines if line)
