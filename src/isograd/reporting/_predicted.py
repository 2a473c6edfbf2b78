"""A prediction in characters: signal and gradient at every site, repeated blocks told once."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from isograd.findings import Diagnosis
from isograd.records import WEIGHT_KINDS, Number, Record
from isograd.reporting import _profile
from isograd.reporting import _summary as summary
from isograd.reporting._folding import Group, fold
from isograd.reporting._numbers import MISSING, abbreviate, counted, printable, rate, scientific
from isograd.reporting._textplot import sparkline

ROWS = 72
"""Above this many rows activations, norms and dropout are left out."""
_MAIN = (*WEIGHT_KINDS, "embedding", "add", "sdpa", "pool")
_BENT = 1.5
"""Factor beyond both ends of a row from which it is told how far the blocks between went."""
_LINE, _SHORTEST = 60, 24
"""Characters of the course over depth."""

Paint = Callable[[str, str], str]
"""(text, style) -> text, of the same width on the screen."""


@dataclass(frozen=True)
class _Cells:
    """One row of the table; a heading has a name only."""

    name: str
    cells: tuple[str, ...] = ()
    kind: str = ""
    inner: bool = False


_HEADS = ("depth", "signal rms", "gradient rms", "cosine")


def table(diagnosis: Diagnosis, width: int, paint: Paint) -> list[str]:
    """Lines: the course over depth, and the table of sites; empty without sites."""
    record = diagnosis.reading.seen
    if not record.sites:
        return []
    rows, about = _rows(record)
    longest = max(len(row.name) + 2 * row.inner for row in rows if row.cells)
    widths = _widths(rows)
    if longest > _room(width, widths):
        rows = [replace(row, cells=tuple(c.replace(" ", "") for c in row.cells)) for row in rows]
        widths = _widths(rows)
    name = max(min(longest, _room(width, widths)), 12)
    lines = [*_course(diagnosis, width, paint), ""]
    heads = "  ".join(h.ljust(w) for h, w in zip(_HEADS, widths, strict=True))
    lines.append(paint(f"  {'site'.ljust(name)}  {heads}".rstrip(), "dim"))
    for row in rows:
        if not row.cells:
            lines.append(f"  {paint(row.name, 'bold')}")
            continue
        indent = "  " if row.inner else ""
        label = indent + abbreviate(row.name, name - len(indent)).ljust(name - len(indent))
        cells = "  ".join(c.ljust(w) for c, w in zip(row.cells, widths, strict=True))
        lines.append(f"  {label}  {cells}".rstrip())
    for line in about:
        lines += [paint(f"  {part}", "dim") for part in textwrap.wrap(line, width - 2)]
    return lines


def _widths(rows: Sequence[_Cells]) -> list[int]:
    return [
        max([len(head), *(len(row.cells[i]) for row in rows if row.cells)])
        for i, head in enumerate(_HEADS)
    ]


def _room(width: int, widths: Sequence[int]) -> int:
    """Columns that are left for the names."""
    return width - 2 - sum(widths) - 2 * len(widths)


def _rows(record: Record) -> tuple[list[_Cells], list[str]]:
    """The rows, and what has to be said about them."""
    every = range(len(record.sites))
    groups = fold(record, every)
    about = []
    if len(groups) > ROWS:
        kept = [i for i in every if record.sites[i].kind in _MAIN]
        if kept:
            groups = fold(record, kept)
            about.append(
                f"{counted(len(record.sites) - len(kept), 'activation')}, norms and the like left "
                "out; --format html or json has them"
            )
    rows = []
    for group in groups:
        if group.heading:
            rows.append(_Cells(printable(group.heading)))
        rows.append(_Cells(printable(group.label), _cells(record, group), inner=group.inner))
    about.insert(
        0,
        "± one standard deviation over draws of the weights; cosine between two samples"
        + ("; first → last of blocks" if any(len(g.sites) > 1 for g in groups) else ""),
    )
    return rows, about


def _cells(record: Record, group: Group) -> tuple[str, ...]:
    first, last = record.sites[group.sites[0]], record.sites[group.sites[-1]]
    depth = f"{first.depth}" + (f" → {last.depth}" if last.depth != first.depth else "")
    columns = [
        (_column(record, f"{way}.rms", group), _column(record, f"{way}.band", group))
        for way in ("forward", "backward")
    ]
    cosine = _column(record, "forward.correlation", group)
    return (depth, *(_along(*pair) for pair in columns), _ends(cosine, _cosine))


def _column(record: Record, key: str, group: Group) -> list[Number]:
    return [record.value(key, i) for i in group.sites]


def _along(numbers: Sequence[Number], bands: Sequence[Number]) -> str:
    """`0.586 ±5%`, `0.0186 → 0.0061 ±2%`: the widest band of all."""
    known = [one for one in bands if one is not None]
    text = _ends(numbers, size)
    return f"{text} {band(max(known))}" if known and text != MISSING else text


def _ends(numbers: Sequence[Number], show: Callable[[Number], str]) -> str:
    """The first and the last number, and the extreme between where it is far from both."""
    first, last = show(numbers[0]), show(numbers[-1])
    if first == last and len({show(x) for x in numbers}) == 1:
        return first
    known = [x for x in numbers if x is not None and math.isfinite(x)]
    ends = [x for x in (numbers[0], numbers[-1]) if x is not None and math.isfinite(x)]
    between = ""
    if len(ends) == 2 and show is size:
        if max(known) > _BENT * max(ends):
            between = f" → {show(max(known))}"
        elif min(known) < min(ends) / _BENT:
            between = f" → {show(min(known))}"
    return f"{first}{between} → {last}"


def _thinned(numbers: Sequence[Number], most: int) -> Sequence[Number]:
    """At most so many numbers, neighbors as their geometric mean: a pattern stays one."""
    if len(numbers) <= most:
        return numbers
    found: list[Number] = []
    for place in range(most):
        start, end = (round(k * len(numbers) / most) for k in (place, place + 1))
        logs = [math.log(x) for x in numbers[start:end] if x and math.isfinite(x) and x > 0]
        found.append(math.exp(sum(logs) / len(logs)) if logs else numbers[start])
    return found


def _span(numbers: Sequence[Number]) -> str:
    """`0.551 → 0.554`, and how far it goes between."""
    known = [x for x in numbers if x is not None and math.isfinite(x)]
    ends = [x for x in (numbers[0], numbers[-1]) if x is not None]
    told = f"{size(numbers[0])} → {size(numbers[-1])}"
    if known and ends and min(known) < min(ends) / _BENT:
        told += f", least {size(min(known))}"
    if known and ends and max(known) > _BENT * max(ends):
        told += f", most {size(max(known))}"
    return told


def size(number: Number) -> str:
    """Three digits: `0.586`, `13.1`, `8.6e-05`."""
    if number is None or number == 0 or not math.isfinite(number):
        return scientific(number)
    return f"{number:#.3g}".rstrip(".") if 1e-3 <= number < 1e3 else f"{number:.1e}"


def _cosine(number: Number) -> str:
    return MISSING if number is None else f"{number:.2f}".replace("-0.00", "0.00")


def band(deviation: float) -> str:
    """`±5%`, or a factor where percents say little: `×÷2.1`; of the logarithm's deviation."""
    if not math.isfinite(deviation):
        return "±∞"
    if deviation < 0.3:
        return f"±{max(100 * math.expm1(deviation), 1):.0f}%"
    return f"×÷{math.exp(min(deviation, 700.0)):.2g}"


def _course(diagnosis: Diagnosis, width: int, paint: Paint) -> list[str]:
    """Signal and gradient over the weight layers, a line each."""
    full = _profile.rows(diagnosis)
    lines = []
    for way, name in (("forward", "signal"), ("backward", "gradient")):
        numbers = [getattr(row, way) for row in full]
        if len(full) < 2 or all(number is None for number in numbers):
            continue
        factor = _profile.rate(full, way)
        toward = "per layer" + (" back" if way == "backward" else "")
        told = f"{_span(numbers)}" + (f", {rate(factor)} {toward}" if factor else "")
        room = max(min(_LINE, width - 14 - len(told)), _SHORTEST)
        line = sparkline(_thinned(numbers, room), room)
        # What would make the line too long goes below it.
        gap = "  " if 12 + len(line) + len(told) <= width else "\n" + " " * 10
        lines += f"{paint(f'{name:<8}', 'bold')}  {paint(line, way)}{gap}{told}".splitlines()
    return lines


def about(record: Record) -> dict[str, str]:
    """What a reader must know of a prediction before its numbers, by label."""
    found = {
        "not predictable": _doubt(record),
        "input": _given(record),
        "sampled": ", ".join(
            printable(str(name)) for name in record.fact("prediction.sampled") or ()
        ),
    }
    if found["sampled"]:
        found["sampled"] += ": no rule for it, estimated by drawing; the bands are wider from there"
    return {label: words for label, words in found.items() if words}


def notes(record: Record) -> list[str]:
    """The record's notes without what `about` and the line on the loss say."""
    said = ("not predictable", "loss: none")
    return [note for note in record.notes if not note.startswith(said)]


def _given(record: Record) -> str:
    """What it was predicted for: `16×32 float, train mode`."""
    shape = record.fact("batch.shape") or ()
    words = ["×".join(map(str, shape)), str(record.fact("batch.kind") or "")]
    mode = {True: "train mode", False: "eval mode"}.get(record.fact("model.training"))
    return ", ".join(filter(None, [" ".join(filter(None, words)), mode]))


def _doubt(record: Record) -> str:
    """What to say of a network whose numbers hold for no single draw; empty of any other."""
    if not summary.unpredictable(record):
        return ""
    condition = record.fact("prediction.condition")
    return (
        f"a small deviation of the signal grows {condition:.3g} times on its way; the numbers "
        "below are those of an average draw, around which single draws of the weights lie "
        "anywhere. Normalization, or an activation with a stable length map (tanh; ReLU with a "
        "gain of 1.41), makes it predictable"
    )
