"""Depth against time as heat maps: one row per layer, steps across, a color per number."""

import json
import math
import statistics
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from isograd.records import WEIGHT_KINDS, Number, Record
from isograd.reporting import _watched as words
from isograd.reporting._chart import Label
from isograd.reporting._markup import Markup, join, tag
from isograd.reporting._numbers import abbreviate, printable, scientific
from isograd.reporting._picture import picture
from isograd.reporting._profile import long_prefix
from isograd.reporting._watched import Watched

ROWS = 96
"""Rows of a map, at most; of more layers evenly spaced ones, and those that alarms name."""
ROW_HEIGHT, SHORTEST, TALLEST = 15, 48, 420
"""Pixels of one row, and of the whole map."""
LABEL_HEIGHT = 12.0
"""Pixels that a name beside a map takes."""
WIDEST = 22
"""Letters of a name beside a map."""
COLUMNS = 480
"""Cells across, at most."""
NARROWEST = 1.0
"""Decades to either side of the middle, at least: small changes stay pale."""
WITHIN = 0.9
"""Share of the numbers whose colors differ; a run that explodes at its end would else hide all that
came before."""

SERIES = (
    ("forward.rms", "Signal, forward", "rms of every weight layer's output"),
    (
        "backward.rms",
        "Gradient, backward",
        "rms of dLoss/d(output) of every weight layer, against the median of the step",
    ),
    ("weight.update_ratio", "Update over weight", "rms of a step over rms of the weight"),
    ("weight.grad_rms", "Gradient of the weights", "rms of dLoss/dw"),
    ("weight.rms", "Weights", "rms of every weight"),
    ("forward.rank", "Rank", "number of directions in which the samples differ"),
    ("forward.dead", "Dead units", "share of an activation's units whose derivative is zero"),
    (
        "forward.saturated",
        "Flat",
        "share of entries at which the derivative is small; half of a ReLU's are",
    ),
)
SHARES = ("forward.dead", "forward.saturated")
RELATIVE = ("backward.rms",)
"""Shown against the median of their look: gradients fall with the loss, at every depth alike."""

_LOW, _HIGH, _ZERO, _SICK = (37, 99, 235), (217, 72, 15), (16, 42, 110), (214, 31, 183)
_MISSING, _NONE, _BROKEN = 0, 1, 2
"""Bytes of cells without a number, of exact zeros, and of NaN and infinities."""
_FIRST, _LAST = 3, 255
_MIDDLE = (_FIRST + _LAST) // 2


@dataclass(frozen=True)
class Map:
    """One series of the layers over time."""

    key: str
    title: str
    about: str
    names: list[str]
    steps: list[int]
    columns: list[list[Number]]
    """One per look: a number per name."""

    @property
    def share(self) -> bool:
        """Whether the numbers are shares, 0 to 1; others are shown by their logarithm."""
        return self.key in SHARES

    @cached_property
    def shown(self) -> list[list[Number]]:
        """What the colors tell: the columns, or each over its own median."""
        if self.key not in RELATIVE:
            return self.columns
        found: list[list[Number]] = []
        for column in self.columns:
            logs = list(_logs(column))
            middle = _power(statistics.median(logs)) if logs else 1.0
            found.append([None if x is None else x / middle for x in column])
        return found


def maps(watched: Watched) -> list[Map]:
    """Every series of which there is something to see."""
    found = []
    for key, title, about in SERIES:
        looks = [look for look in watched.looks if look.has(key)]
        if not looks:
            continue
        names = _rows(watched, looks, key)
        columns = [words.column(look, key, names) for look in looks]
        if key in SHARES and not any(x for column in columns for x in column):
            continue  # no unit dead, nowhere, at no time: the page has better to show
        found.append(Map(key, title, about, names, [look.step for look in looks], columns))
    return found


def _rows(watched: Watched, looks: Sequence[Record], key: str) -> list[str]:
    """Names of the layers shown, in order of execution: those that had a number in any look."""
    kinds: dict[str, bool] = {}
    filled: set[str] = set()
    for look in looks:
        if key.startswith("weight."):
            kinds.update({p.name: p.is_weight for p in look.parameters})
        else:
            kinds.update({s.name: s.kind in WEIGHT_KINDS for s in look.sites})
        column = look.series[key]
        filled.update(n for n, x in zip(_names_of(look, key), column, strict=True) if x is not None)
    rows = [name for name in kinds if name in filled]
    weights = [name for name in rows if kinds[name]]
    if key not in SHARES and len(weights) > 1:
        rows = weights
    if len(rows) <= ROWS:
        return rows
    named = {name for alarm in watched.alarms for name in alarm.finding.sites[:3]}
    keep = {i for i, row in enumerate(rows) if row in named}
    keep |= {round(i * (len(rows) - 1) / (ROWS - 1)) for i in range(ROWS)}
    return [rows[i] for i in sorted(keep)]


def _names_of(look: Record, key: str) -> list[str]:
    return [row.name for row in (look.parameters if key.startswith("weight.") else look.sites)]


def figure(one: Map, watched: Watched) -> Markup:
    """The map with its title, names, steps and key to the colors."""
    first, last = words.span(watched)
    colors = scale(one)
    cells = [[_shade(colors, number) for number in column] for column in one.shown]
    width = min(COLUMNS, last - first + 1)
    # Between two looks nothing is known: what was seen last stands until the next.
    edges = [first + (last - first) * (i + 1) / width for i in range(width)]
    at = [bisect_right(one.steps, edge) - 1 for edge in edges]
    rows = [
        bytes(cells[k][row] if k >= 0 else _MISSING for k in at) for row in range(len(one.names))
    ]
    height = min(max(ROW_HEIGHT * len(rows), SHORTEST), TALLEST)
    grid = {
        "first": first,
        "last": last,
        "steps": one.steps,
        "names": [printable(name) for name in one.names],
        "numbers": [[_brief(x) for x in column] for column in one.columns],
    }
    style = " ".join(["timeline", "share" if one.share else "decades"])
    area = tag(
        "div",
        tag("img", src=picture(rows, *_palette(one)), alt=_alt(one), style=f"height:{height}px"),
        *bars(watched),
        class_="area",
        data_grid=json.dumps(grid, separators=(",", ":")),
    )
    plot = tag(
        "div",
        tag("div", *_names(one, watched, height), class_="names", aria_hidden="true"),
        area,
        tag("div", *feet(first, last), class_="feet", aria_hidden="true"),
        class_="heat",
    )
    head = tag("div", tag("h3", one.title), tag("span", one.about, class_="quiet"), class_="title")
    return tag("figure", head, plot, _key(one, colors), class_=style)


def bars(watched: Watched) -> list[Markup]:
    """A line at the first step of every alarm."""
    first, last = words.span(watched)
    places = {(alarm.first_step - first) / max(last - first, 1) for alarm in watched.alarms}
    return [
        tag("span", class_="alarm", style=f"left:{100 * min(max(x, 0), 1):.2f}%")
        for x in sorted(places)
    ]


def feet(first: int, last: int) -> list[Markup]:
    """Round steps below a figure."""
    return [
        tag("span", text, style=f"left:{100 * place:.2f}%") for place, text in labels(first, last)
    ]


def labels(first: int, last: int, most: int = 7) -> list[Label]:
    """Where round steps stand between the first and the last, and what they are."""
    if last <= first:
        return [(0.5, join(f"{first:,}"))]
    rough = (last - first) / most
    power = 10 ** math.floor(math.log10(rough)) if rough >= 1 else 1
    size = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    start = math.ceil(first / size) * size
    return [
        ((step - first) / (last - first), join(f"{step:,}"))
        for step in range(start, last + 1, size)
    ]


def scale(one: Map) -> tuple[float, float]:
    """The middle and the reach of the colors, in decades; shares go from 0 to 1."""
    if one.share:
        return 0.5, 0.5
    logs = [x for column in one.shown for x in _logs(column)]
    middle = statistics.median(logs) if logs else 0.0
    apart = sorted(abs(x - middle) for x in logs) or [0.0]
    return middle, max(NARROWEST, apart[math.floor(WITHIN * (len(apart) - 1))])


def _logs(numbers: Iterable[Number]) -> Iterator[float]:
    """The decades of those that have any."""
    for x in numbers:
        if x is not None and math.isfinite(x) and x > 0:
            yield math.log10(x)


def _shade(colors: tuple[float, float], number: Number) -> int:
    if number is None:
        return _MISSING
    if not math.isfinite(number):
        return _BROKEN
    middle, reach = colors
    share = (middle, reach) == (0.5, 0.5)
    if not share and number <= 0:
        return _NONE
    place = ((number if share else math.log10(number)) - middle) / reach
    return round(_MIDDLE + min(max(place, -1.0), 1.0) * (_LAST - _MIDDLE))


def _palette(one: Map) -> tuple[bytes, bytes]:
    """Colors and opacities: clear in the middle, or at a share of nothing."""
    colors = bytearray(bytes((0, 0, 0)) + bytes(_ZERO) + bytes(_SICK))
    opacities = bytearray((0, 255, 255))
    for byte in range(_FIRST, _LAST + 1):
        place = (byte - _MIDDLE) / (_LAST - _MIDDLE)
        strength = (place + 1) / 2 if one.share else abs(place)
        colors += bytes(_HIGH if one.share or place > 0 else _LOW)
        opacities.append(round(255 * strength**0.8))
    return bytes(colors), bytes(opacities)


def longest(found: Sequence[Map]) -> int:
    """Letters of the longest name beside the maps."""
    return max((len(shorter(name, one)) for one in found for name in one.names), default=0)


def shorter(name: str, one: Map, width: int = WIDEST) -> str:
    """What stands beside a map for a layer's name."""
    prefix = long_prefix(one.names)
    return abbreviate(printable(name[len(prefix) :].removesuffix(".weight")), width)


def _names(one: Map, watched: Watched, height: int) -> list[Markup]:
    """The names that have room; those that a standing alarm names come first to get it."""
    named = {name for alarm in watched.standing for name in alarm.finding.sites[:3]}
    row = height / len(one.names)
    spans: dict[int, Markup] = {}
    for place in sorted(range(len(one.names)), key=lambda i: (one.names[i] not in named, i)):
        if any(abs(place - other) * row < LABEL_HEIGHT for other in spans):
            continue
        name = one.names[place]
        spans[place] = tag(
            "span",
            shorter(name, one),
            style=f"top:{100 * (place + 0.5) / len(one.names):.2f}%",
            class_="alarmed" if name in named else None,
        )
    return [spans[place] for place in sorted(spans)]


def _key(one: Map, colors: tuple[float, float]) -> Markup:
    middle, reach = colors
    if one.share:
        ends = ["0 %", "50 %", "100 %"]
    else:
        times = "×" if one.key in RELATIVE else ""
        low, half, high = (
            f"{times}{scientific(_power(middle + side * reach))}" for side in (-1, 0, 1)
        )
        ends = [f"≤ {low}", half, f"≥ {high}"]
    numbers = [x for column in one.columns for x in column]
    flat = [x for x in numbers if x is not None]
    notes = [
        tag("span", tag("i", class_=kind), text, class_="note")
        for kind, text, there in (
            ("zero", "exactly zero", not one.share and any(x == 0 for x in flat)),
            ("sick", "NaN or infinite", any(not math.isfinite(x) for x in flat)),
            ("blank", "not measured", len(flat) < len(numbers)),
        )
        if there
    ]
    ramp = tag("span", *(tag("b", end) for end in ends), class_="ramp")
    return tag("div", ramp, *notes, class_="colors")


def _power(decades: float) -> float:
    return math.pow(10.0, min(max(decades, -300.0), 300.0))


def _brief(number: Number) -> float | str | None:
    """Two digits of a number, as the page's script reads it."""
    if number is None or math.isfinite(number):
        return None if number is None else float(f"{number:.2g}")
    return str(number)


def _alt(one: Map) -> str:
    return (
        f"Heat map of {one.title.lower()}: {len(one.names)} layers down, steps "
        f"{one.steps[0]:,} to {one.steps[-1]:,} across."
    )
