"""A sweep of predictions as a table with a plot made of characters, or as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from isograd.findings import Diagnosis
from isograd.reporting import _summary as summary
from isograd.reporting._numbers import MISSING, clip, counted, printable, short
from isograd.reporting._predicted import band, size
from isograd.reporting._profile import axis
from isograd.reporting._textplot import bar
from isograd.reporting.as_text import NARROWEST, WIDTH, Pen

if TYPE_CHECKING:
    from isograd.prediction.sweeping import Point, Sweep

_BAR, _SHORTEST = 24, 12
"""Characters of the plot."""
_TOLD = 24
"""Columns kept for a verdict."""
_SIGNS = {"healthy": "✓", "warning": "!", "error": "✗"}


def is_well(point: Point, verdict: Diagnosis | None) -> bool:
    """Whether a point was predicted, can be, and is healthy."""
    return verdict is not None and not point.error and summary.level(verdict) == "healthy"


def as_plain(found: Sweep, verdicts: Sequence[Diagnosis | None]) -> dict[str, Any]:
    """Names, numbers and findings as dicts and lists."""
    points = []
    for point, verdict in zip(found.points, verdicts, strict=True):
        row = {f.name: getattr(point, f.name) for f in fields(point) if f.name != "record"}
        row["error"] = point.error or None
        row["healthy"] = is_well(point, verdict)
        row["findings"] = [
            {"code": one.code, "severity": one.severity.value, "cause": one.cause}
            for one in (verdict.findings if verdict else ())
        ]
        points.append(row)
    return {"name": found.name, "points": points, "notes": list(found.notes)}


def tell(
    found: Sweep,
    verdicts: Sequence[Diagnosis | None],
    *,
    width: int | None = None,
    color: bool = False,
) -> str:
    """One row per value: signal, gradient with its bar on a log axis, and the verdict.

    Args:
        found: the sweep.
        verdicts: what the rules say of each point, None of one that was not predicted.
        width: columns.
        color: whether ANSI colors may be used.
    """
    pen = Pen(max(width or WIDTH, NARROWEST), color)
    name = printable(found.name.replace("_", "-"))
    rows = [_row(point) for point in found.points]
    heads = (name, "layers", "signal first → last", "cosine", "gradient first / last")
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    before = 2 + sum(widths) + 2 * len(widths)
    long = max(min(_BAR, pen.width - before - 2 - _TOLD), _SHORTEST)
    scale = axis(point.gradient for point in found.points)
    ends = f"1e{scale.low}", f"1e{scale.high}"
    feet = ends[0] + ends[1].rjust(max(long - len(ends[0]), 0))
    lines = [*_headline(found, verdicts, name, pen), ""]
    head = "  ".join(h.ljust(w) for h, w in zip(heads, widths, strict=True))
    lines.append(pen(f"  {head}  {feet}  verdict", "dim"))
    for point, verdict, row in zip(found.points, verdicts, rows, strict=True):
        if point.error:
            lines.append(pen.paragraph(point.error, label=row[0].ljust(widths[0] + 1), indent=2))
            continue
        cells = "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        drawn = bar(scale, point.gradient, long)
        told, level = _verdict(verdict)
        line = f"  {cells}  {pen(drawn, 'backward')}{' ' * (long - len(drawn))}  "
        room = max(pen.width - before - long - 2, _TOLD)
        lines.append(line + pen(clip(told, room), level))
    lines += [pen.paragraph(note, label="note", style="dim", indent=2) for note in found.notes]
    return "\n".join(line.rstrip() for line in lines)


def _headline(found: Sweep, verdicts: Sequence[Diagnosis | None], name: str, pen: Pen) -> list[str]:
    well = [is_well(p, v) for p, v in zip(found.points, verdicts, strict=True)]
    values = [short_value(point.value) for point in found.points]
    if all(well):
        told = f"healthy at {'all' if len(well) > 2 else 'both'} {len(well)} values"
        told = "healthy" if len(well) == 1 else told
    elif not any(well):
        told = f"no value of {name} is healthy"
    else:
        good = [value for value, ok in zip(values, well, strict=True) if ok]
        told = f"healthy at {name} {summary.where(tuple(good), 12)}"
    level = "healthy" if all(well) else "warning" if any(well) else "error"
    lines = [pen(f"{_SIGNS[level]} {told}", level)]
    first = next((v for v in verdicts if v is not None), None)
    if first is not None:
        seen = first.reading.seen
        model = printable(str(seen.fact("model.name") or ""))
        lines.append(
            pen.paragraph(f"{model} · predicted at {counted(len(well), 'point')}", indent=2)
        )
        if words := summary.loss(seen):
            lines.append(pen.paragraph(words, label="loss", style="dim", indent=2))
    return lines


def _row(point: Point) -> tuple[str, ...]:
    value = short_value(point.value)
    if point.error:
        return (value, "", "", "", "")
    around = "" if point.gradient_band is None else f" {band(point.gradient_band)}"
    cosine = MISSING if point.cosine is None else f"{point.cosine:.2f}".replace("-0.00", "0.00")
    return (
        value,
        short(point.layers),
        f"{size(point.signal_first)} → {size(point.signal_last)}",
        cosine,
        size(point.gradient) + around,
    )


def short_value(value: Any) -> str:
    """A swept value in few characters."""
    return clip(short(value) if isinstance(value, float) else str(value), 24)


def _verdict(verdict: Diagnosis | None) -> tuple[str, str]:
    if verdict is None:
        return "", "dim"
    level = summary.level(verdict)
    words = summary.headline(verdict)
    if not verdict.healthy:
        first = verdict.findings[0]
        words = f"{first.code} {printable(first.cause)}"
        if summary.unpredictable(verdict.reading.seen):
            words = f"not predictable, {words}"
    return f"{_SIGNS[level]} {words}", level
