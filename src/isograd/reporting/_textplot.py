"""Plots made of characters: the profile over depth and a sparkline."""

import math
import textwrap
from collections.abc import Callable, Sequence

from isograd.findings import Diagnosis
from isograd.records import Number
from isograd.reporting import _beside as beside
from isograd.reporting import _profile
from isograd.reporting._numbers import abbreviate, counted, printable, rate, scientific, shorten
from isograd.reporting._profile import Axis, Row

ROWS = 24
"""Rows of the profile; of a deeper network the middle is thinned."""

_EIGHTHS = " ▏▎▍▌▋▊▉"
_MARK = "┊"
_HEIGHTS = "▁▂▃▄▅▆▇█"

Paint = Callable[[str, str], str]
"""(text, style) -> text, of the same width on the screen."""


def profile(diagnosis: Diagnosis, width: int, paint: Paint) -> list[str]:
    """Forward and backward rms per weight layer, as bars on log axes; empty without either."""
    full = _profile.rows(diagnosis)
    ways = [w for w in ("forward", "backward") if any(getattr(r, w) is not None for r in full)]
    if not ways:
        return []
    shown = _profile.thin(full, ROWS)
    prefix = _profile.long_prefix(row.name for row in full)
    names = [printable(row.name[len(prefix) :]) for row in shown]
    name = min(max(map(len, [*names, "layer"])), max(width // 4, 10))
    tag = 2 + max(len(_marks(row)) for row in shown)
    cell = (width - 2 - 5 - 2 - name - tag) // len(ways)
    long = max(min(cell - 2 - 8 - 1, 40), 4)
    axes = {way: _axis(full, way) for way in ways}
    both = any(number is not None for row in full for number in row.predicted.values())
    lines = [_title(full, ways, paint)]
    about = [f"{len(shown)} of {counted(len(full), 'layer')}"] if len(shown) < len(full) else []
    about += [f"names begin with {printable(prefix)}"] if prefix else []
    if about:
        lines.append(paint(shorten("  " + ", ".join(about), width), "dim"))
    lines.append(paint("  depth  " + "layer".ljust(name) + _heads(ways, long, both=both), "dim"))
    for row, label in zip(shown, names, strict=True):
        line = f"  {row.depth:5}  {abbreviate(label, name).ljust(name)}"
        for way in ways:
            number = getattr(row, way)
            sick = number is not None and (number == 0 or not math.isfinite(number))
            text = scientific(number).rjust(8)
            line += f"  {paint(text, 'mark') if sick else text} "
            line += _marked(axes[way], number, row.predicted.get(way), long, way, paint)
        lines.append((line + paint(_marks(row), "mark")).rstrip(" "))
    lines.append(paint(_feet(axes, name, long), "dim"))
    if words := beside.told(diagnosis):
        first, *more = textwrap.wrap(words, width - 9, break_on_hyphens=False)
        lines.append(f"{paint('Theory', 'bold')}   {first}")
        lines += [" " * 9 + line for line in more]
    return lines


def _title(full: list[Row], ways: list[str], paint: Paint) -> str:
    rates = [
        f"{rate(factor)} per layer {'back' if way == 'backward' else way}"
        for way in ways
        if (factor := _profile.rate(full, way)) is not None
    ]
    return f"{paint('Profile', 'bold')}  {' · '.join(rates)}".rstrip()


def _heads(ways: list[str], long: int, *, both: bool) -> str:
    heads = [f"{way} rms" + (f", {_MARK} predicted" if both else "") for way in ways]
    return "".join(f"  {head:<{8 + 1 + long}}"[: 2 + 8 + 1 + long] for head in heads).rstrip()


def _axis(full: list[Row], way: str) -> Axis:
    """The axis of what was seen, wide enough for what was predicted."""
    numbers = [number for row in full for number in (getattr(row, way), row.predicted.get(way))]
    return _profile.axis(numbers)


def _feet(axes: dict[str, Axis], name: int, long: int) -> str:
    line = " " * (2 + 5 + 2 + name)
    for axis in axes.values():
        low, high = f"1e{axis.low}", f"1e{axis.high}"
        ends = low + high.rjust(long - len(low)) if long > len(low + high) else low.ljust(long)
        line += " " * (2 + 8 + 1) + ends
    return line.rstrip()


def _marks(row: Row) -> str:
    return f" ◂ {','.join(map(str, row.marks))}" if row.marks else ""


def _marked(
    axis: Axis, number: Number, predicted: Number, width: int, way: str, paint: Paint
) -> str:
    """A bar with a mark where theory has it, padded to the width."""
    drawn = bar(axis, number, width)
    place = axis.at(predicted)
    if place is None:
        return paint(drawn, way) + " " * (width - len(drawn))
    at = min(int(place * width), width - 1)
    left, right = drawn[:at].ljust(at), drawn[at + 1 :]
    tail = " " * (width - at - 1 - len(right))
    return paint(left, way) + paint(_MARK, "dim") + paint(right, way) + tail


def bar(axis: Axis, number: Number, width: int) -> str:
    """A bar as long as the number is high on the axis; at least a sliver for any it can show."""
    place = axis.at(number)
    if place is None:
        full = number is not None and number > 0  # infinite
        return "▒" * width if full else ""
    eighths = max(round(place * width * 8), 1)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def sparkline(numbers: Sequence[Number], width: int) -> str:
    """The curve in one line of at most `width` characters; a number that is none is a cross.

    The heights are on a log scale where the numbers are positive and span more than a decade.
    """
    if len(numbers) > width:
        numbers = [numbers[round(i * (len(numbers) - 1) / (width - 1))] for i in range(width)]
    finite = [x for x in numbers if x is not None and math.isfinite(x)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    if low > 0 and high > 10 * low:
        return sparkline(
            [math.log(x) if x is not None and math.isfinite(x) else None for x in numbers], width
        )
    scale = (len(_HEIGHTS) - 1) / ((high - low) or 1.0)
    return "".join(
        _HEIGHTS[round((x - low) * scale)] if x is not None and math.isfinite(x) else "×"
        for x in numbers
    )
