"""A repair as text: the verdict, the change as code, the proof, and what was not kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from isograd.reporting import _repaired as words
from isograd.reporting import _summary as summary
from isograd.reporting._numbers import counted, printable, short
from isograd.reporting._textplot import sparkline
from isograd.reporting.as_text import NARROWEST, WIDTH, Pen

if TYPE_CHECKING:
    from isograd.repairs.result import Repair
CURVE = 30
"""Characters of a loss curve."""


def tell(repair: Repair, *, width: int | None = None, color: bool = False) -> str:
    """The whole report as text, without a line break at its end.

    Args:
        repair: as `isograd.repair` gave it.
        width: columns.
        color: whether ANSI colors may be used.
    """
    pen = Pen(max(width or WIDTH, NARROWEST), color)
    blocks = [
        _verdict(repair, pen),
        "\n".join(_found(repair, pen)),
        "\n".join(_change(repair, pen)),
        "\n".join(_proof(repair, pen)),
        "\n".join(_skipped(repair, pen)),
    ]
    return "\n\n".join(block for block in blocks if block)


def _verdict(repair: Repair, pen: Pen) -> str:
    head = f"{words.sign(repair)} {words.headline(repair)}"
    lines = [pen(head, words.level(repair)), pen.paragraph(repair.reason, indent=2)]
    lines.append(pen.paragraph(summary.subject(repair.before.reading.seen), indent=2))
    lines.append(pen.paragraph(words.cost(repair), label="cost", style="dim", indent=2))
    lines += [pen.paragraph(note, label="note", style="dim", indent=2) for note in repair.notes]
    return "\n".join(lines)


def _found(repair: Repair, pen: Pen) -> Iterator[str]:
    if not repair.before.findings:
        return
    yield pen("Found", "bold")
    for finding in repair.before.findings:
        label = f"{finding.code} {printable(finding.cause)}:"
        style = finding.severity.value
        yield pen.paragraph(finding.message, label=label, style=style, indent=2)
        if not repair.changed and words.level(repair) != "healthy":
            for advice in finding.remedies:
                yield pen.paragraph(advice, label="do:", style="do", indent=4)
    if repair.after is not None:
        yield pen.paragraph(
            f"after the change: {summary.headline(repair.after)}", indent=2, style=""
        )
    for finding in words.left(repair):
        label = f"{finding.code} {printable(finding.cause)}"
        yield pen.paragraph("", label=label, style=finding.severity.value, indent=4)
        for advice in finding.remedies:
            yield pen.paragraph(advice, label="yours to do:", style="do", indent=6)


def _change(repair: Repair, pen: Pen) -> Iterator[str]:
    if not repair.code:
        return
    yield pen("Change", "bold")
    for effect in repair.effects:
        yield pen.paragraph(effect, indent=2)
    yield ""
    for line in repair.code.splitlines():
        yield pen(f"    {printable(line)}", "do")


def _proof(repair: Repair, pen: Pen) -> Iterator[str]:
    if not repair.trials:
        return
    steps = max(len(curve) for trial in repair.trials for curve in trial.losses)
    yield f"{pen('Proof', 'bold')}  {printable(repair.measure)} after {counted(steps, 'step')}"
    for trial in repair.trials:
        yield f"  {printable(trial.treatment)}: {words.seeds(trial)}"
        for curve in trial.losses:
            ends = f"loss {short(curve[0])} → {short(curve[-1])}" if curve else "no step"
            yield f"    {pen(sparkline(curve, CURVE).ljust(CURVE), 'forward')} {ends}"
    if repair.comparison is not None:
        yield f"  {words.judgement(repair)}"


def _skipped(repair: Repair, pen: Pen) -> Iterator[str]:
    if not repair.skipped:
        return
    yield pen("Not kept", "bold")
    for names, reason in words.not_kept(repair).items():
        yield pen.paragraph(f"{names}: {reason}", style="dim", indent=2)
