"""Line charts as SVG that stretches to its box; labels are HTML, so they keep their size."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isograd.records import Number
from isograd.reporting._markup import Markup, join, tag
from isograd.reporting._profile import Axis

WIDE, HIGH = 1000, 200
"""The SVG's own coordinates; the page gives it its size."""
DOTS = 120
"""More points than this are drawn as a line alone."""

Label = tuple[float, Markup]
"""Place along an axis, 0 to 1, and what stands there."""


@dataclass(frozen=True)
class Curve:
    """One line of a chart."""

    label: str
    style: str
    """seen, later or expected: how the line is drawn."""
    numbers: Sequence[Number]
    band: Sequence[Number] = ()
    """Standard deviation of ln(number), drawn as two of them to both sides."""

    def edges(self, sign: int) -> list[Number]:
        """The upper (+1) or lower (-1) edge of the band."""
        return [
            x * math.exp(min(max(2 * sign * b, -700), 700))
            if x is not None and b is not None and math.isfinite(x) and math.isfinite(b)
            else None
            for x, b in zip(self.numbers, self.band, strict=False)
        ]


@dataclass(frozen=True)
class Scale:
    """The vertical axis: where a number stands, 0 to 1 from below, and what is labeled."""

    at: Callable[[Number], float | None]
    labels: Sequence[Label]


def log_scale(axis: Axis, most: int = 6) -> Scale:
    """A log axis with a label per decade or every few."""
    span = axis.high - axis.low
    ticks = [((e - axis.low) / span, join("1e", str(e))) for e in axis.ticks(most)]
    return Scale(axis.at, ticks)


def linear_scale(numbers: Sequence[Number], show: Callable[[float], str]) -> Scale:
    """An axis from the smallest to the largest finite number, labeled at both ends and half."""
    finite = [x for x in numbers if x is not None and math.isfinite(x)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    half = low / 2 + high / 2  # the sum of both may overflow

    def at(number: Number) -> float | None:
        if number is None or not math.isfinite(number):
            return None
        return 0.5 if half in (low, high) else (number / 2 - low / 2) / (high / 2 - low / 2)

    if half in (low, high):
        return Scale(at, [(0.5, join(show(half)))])
    return Scale(at, [(p, join(show(x))) for p, x in ((0, low), (0.5, half), (1, high))])


def chart(
    curves: Sequence[Curve],
    scale: Scale,
    across: Sequence[Label],
    *,
    style: str,
    name: str,
    tips: Sequence[str] = (),
    marks: Sequence[tuple[int, str]] = (),
    places: Sequence[float] | None = None,
) -> Markup:
    """The plot of a figure: axes, grid and curves.

    Args:
        curves: the first one is what the chart is about; it may have dots and marks.
        scale: the vertical axis.
        across: labels of the horizontal axis.
        style: forward, backward or loss: its color.
        name: what a screen reader says.
        tips: what is said about each point under the pointer.
        marks: index of a point and the words of its mark.
        places: where each point stands along the axis, 0 to 1; evenly spaced where left out.
    """
    first = curves[0]
    uneven = places
    if places is None:
        places = _even(len(first.numbers))
    xs = [f"{WIDE * place:.1f}" for place in places]
    grid = "".join(f"M0 {_y(place)}H{WIDE}" for place, _ in scale.labels)
    layers = [_path(grid, "grid"), *(_band(curve, scale, xs) for curve in curves)]
    layers += [_path(_line(curve.numbers, scale, xs), curve.style) for curve in reversed(curves)]
    layers += [_path(_sick(first.numbers, scale, xs), "sick")]
    if len(first.numbers) <= DOTS:
        layers.append(_path(_dots(first.numbers, range(len(first.numbers)), scale, xs), "dots"))
    layers.append(_path(_dots(first.numbers, [i for i, _ in marks], scale, xs), "marked"))
    spots = None if uneven is None else json.dumps([round(place, 4) for place in uneven])
    svg = tag(
        "svg",
        *layers,
        viewBox=f"0 0 {WIDE} {HIGH}",
        preserveAspectRatio="none",
        role="img",
        aria_label=name,
    )
    ups = [tag("span", text, style=f"bottom:{100 * place:.1f}%") for place, text in scale.labels]
    feet = [tag("span", text, style=f"left:{100 * place:.1f}%") for place, text in across]
    numbers = [
        tag("span", text, class_="flag", style=f"left:{100 * places[i]:.2f}%")
        for i, text in marks
        if text
    ]
    return tag(
        "div",
        tag("div", *ups, class_="ups", aria_hidden="true"),
        tag(
            "div",
            svg,
            *numbers,
            class_="area",
            data_tips=json.dumps(tips),
            data_along="x",
            data_at=spots,
        ),
        tag("div", *feet, class_="feet", aria_hidden="true"),
        class_=f"plot {style}",
    )


def spaced(texts: Sequence[str], most: int = 7) -> list[Label]:
    """Labels for at most `most` of the points of a curve, evenly spaced, both ends among them."""
    last = len(texts) - 1
    if last < 1:
        return [(0.5, join(text)) for text in texts]
    parts = min(most, len(texts)) - 1
    picked = sorted({round(k * last / parts) for k in range(parts + 1)})
    return [(i / last, join(texts[i])) for i in picked]


def _even(count: int) -> list[float]:
    return [i / (count - 1) for i in range(count)] if count > 1 else [0.5] * count


def _y(place: float) -> str:
    return f"{HIGH * (1 - place):.1f}"


def _path(data: str, style: str) -> Markup | None:
    return tag("path", d=data, class_=style) if data else None


def _line(numbers: Sequence[Number], scale: Scale, xs: Sequence[str]) -> str:
    """A path through the points that can be shown, broken at the others."""
    parts, pen = [], "M"
    for i, number in enumerate(numbers):
        place = scale.at(number)
        if place is None:
            pen = "M"
            continue
        parts.append(f"{pen}{xs[i]} {_y(place)}")
        pen = "L"
    return "".join(parts)


def _dots(numbers: Sequence[Number], which: Sequence[int], scale: Scale, xs: Sequence[str]) -> str:
    """Lines of no length: with round caps they are dots, whatever the stretch."""
    places = [(i, scale.at(numbers[i])) for i in which]
    return "".join(f"M{xs[i]} {_y(p)}h0" for i, p in places if p is not None)


def _sick(numbers: Sequence[Number], scale: Scale, xs: Sequence[str]) -> str:
    """A line from top to bottom wherever a number was measured that the axis cannot show."""
    return "".join(
        f"M{xs[i]} 0V{HIGH}"
        for i, number in enumerate(numbers)
        if number is not None and scale.at(number) is None
    )


def _band(curve: Curve, scale: Scale, xs: Sequence[str]) -> Markup | None:
    """One polygon per unbroken stretch of the band."""
    edges = zip(curve.edges(1), curve.edges(-1), strict=True)
    pairs = [(scale.at(above), scale.at(below)) for above, below in edges]
    data, upper, lower = "", list[str](), list[str]()
    for i, (top, bottom) in enumerate([*pairs, (None, None)]):
        if top is not None and bottom is not None:
            upper.append(f"{xs[i]} {_y(top)}")
            lower.append(f"{xs[i]} {_y(bottom)}")
        elif upper:
            data += f"M{'L'.join([*upper, *reversed(lower)])}Z"
            upper, lower = [], []
    return _path(data, "band")
