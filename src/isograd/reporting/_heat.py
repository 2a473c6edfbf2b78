"""Histograms of magnitudes as a heat map: one row per site, one column per binary exponent."""

import json
import math
from collections.abc import Sequence

from isograd.records import EXPONENTS, Record
from isograd.reporting._markup import Markup, power, tag
from isograd.reporting._numbers import abbreviate, printable
from isograd.reporting._picture import picture
from isograd.reporting._profile import long_prefix

ROW_HEIGHT, TALLEST = 16, 640
"""Pixels of one row, and of the whole map: beyond that rows get thinner."""
LETTER = 6.9
"""Pixels of one letter beside the map."""
LABELS = 40
"""Names beside the map, at most."""
NARROWEST = 16
"""Exponents shown, at least; a single bin would fill the page otherwise."""

FORMATS = {
    "forward": (("fp16", -24, 16), ("bf16", -133, 128), ("fp8 e4m3", -9, 9)),
    "backward": (("fp16", -24, 16), ("bf16", -133, 128), ("fp8 e5m2", -16, 16)),
}
"""Exponents from the smallest subnormal number to above the largest finite one."""

_COLORS = {"forward": (8, 145, 178), "backward": (147, 71, 234)}


def heat(record: Record, way: str) -> Markup | None:
    """The map of one way, forward or backward; `None` where nothing was counted."""
    counts = record.histograms.get(f"{way}.exponents", ())
    rows = [(i, row) for i, row in enumerate(counts) if any(row)]
    if not rows:
        return None
    first, last = _extent([row for _, row in rows])
    picture = _picture([row[first : last + 1] for _, row in rows], _COLORS[way])
    prefix = long_prefix(record.sites[i].name for i, _ in rows)
    labels = [abbreviate(printable(record.sites[i].name[len(prefix) :]), 28) for i, _ in rows]
    low, high = EXPONENTS[first], EXPONENTS[last] + 1
    step = max(1, math.ceil((high - low) / 8))
    feet = [
        tag("span", power(2, e), style=f"left:{100 * (e - low) / (high - low):.2f}%")
        for e in range(low, high + 1, step)
    ]
    height = min(ROW_HEIGHT * len(rows), TALLEST)
    return tag(
        "div",
        tag("div", *_beside(labels), class_="names", aria_hidden="true"),
        tag(
            "div",
            tag("img", src=picture, alt=_words(way, len(rows)), style=f"height:{height}px"),
            class_="area",
            data_tips=json.dumps([f"{record.sites[i].name}: {summary(row)}" for i, row in rows]),
            data_along="y",
        ),
        tag("div", *feet, class_="feet", aria_hidden="true"),
        *_ranges(way, low, high),
        class_=f"heat {way}",
        style=f"--names:{round(LETTER * max(map(len, labels)))}px",
    )


def summary(row: Sequence[int]) -> str:
    """`median 2^-5, 98 % between 2^-9 and 2^-2`; empty for an empty histogram."""
    total = sum(row)
    if not total:
        return ""
    low, middle, high = (_quantile(row, total * share) for share in (0.01, 0.5, 0.99))
    return f"median 2^{middle}, 98 % between 2^{low} and 2^{high + 1}"


def _quantile(row: Sequence[int], rank: float) -> int:
    seen = 0
    for exponent, count in zip(EXPONENTS, row, strict=False):
        seen += count
        if seen >= rank:
            return exponent
    return EXPONENTS[-1]


def _extent(rows: Sequence[Sequence[int]]) -> tuple[int, int]:
    """First and last bin to show: those that hold anything, and one more on each side."""
    filled = [k for k in range(len(EXPONENTS)) if any(k < len(row) and row[k] for row in rows)]
    first, last = min(filled) - 1, max(filled) + 1
    missing = max(NARROWEST - (last - first + 1), 0)
    first, last = first - missing // 2, last + (missing + 1) // 2
    return max(first, 0), min(last, len(EXPONENTS) - 1)


def _picture(rows: Sequence[Sequence[int]], color: tuple[int, int, int]) -> str:
    """The rows in one color whose opacity is the share of the row's fullest bin.

    Opacity follows the square root of the share, so that tails, which overflow and underflow,
    stay visible.
    """
    shades = [
        bytes(round(255 * math.sqrt(count / (max(row, default=0) or 1))) for count in row)
        for row in rows
    ]
    return picture(shades, bytes(color) * 256, bytes(range(256)))


def _beside(labels: Sequence[str]) -> list[Markup]:
    every = math.ceil(len(labels) / LABELS)
    return [
        tag("span", label, style=f"top:{100 * (i + 0.5) / len(labels):.2f}%")
        for i, label in enumerate(labels)
        if i % every == 0
    ]


def _ranges(way: str, low: int, high: int) -> list[Markup]:
    """A bar per number format: the part of the map it can hold."""
    bars = []
    for name, smallest, largest in FORMATS[way]:
        left, right = max(smallest, low), min(largest, high)
        if left >= right:
            continue
        place = f"margin-left:{100 * (left - low) / (high - low):.2f}%;"
        size = f"width:{100 * (right - left) / (high - low):.2f}%"
        cuts = (("cut-left", smallest < low), ("cut-right", largest > high))
        style = " ".join(["range", *(word for word, cut in cuts if cut)])
        about = f"{name} holds 2^{smallest} to 2^{largest}"
        bars += [
            tag("span", name, class_="format"),
            tag("div", class_=style, style=place + size, title=about),
        ]
    return bars


def _words(way: str, rows: int) -> str:
    return (
        f"Heat map of {way} magnitudes: {rows} sites down, binary exponents across; darker means "
        "more entries. The table of layers holds the numbers."
    )
