"""The profile over depth: one row per weight layer, and the axes on which it is drawn."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from isograd.findings import Diagnosis
from isograd.records import Number, Record
from isograd.reporting import _beside as beside

MARKS_PER_FINDING = 3
"""A finding marks this many of its sites: the worst come first, and a mark on all marks none."""

SHORT_PREFIX = 12
"""A beginning that all names share is left away if it is longer than this."""


@dataclass(frozen=True)
class Row:
    """One weight layer of a record."""

    index: int
    """Of its site."""
    name: str
    depth: int
    forward: Number
    backward: Number
    marks: tuple[int, ...] = ()
    """Numbers (from 1) of the findings that name it among the worst."""
    predicted: Mapping[str, Number] = field(default_factory=dict)
    """By way, forward and backward: what theory says beside a measurement."""


@dataclass(frozen=True)
class Axis:
    """A log axis over whole decades, 10^low to 10^high."""

    low: int
    high: int

    def at(self, number: Number) -> float | None:
        """Where a number stands, 0 to 1; `None` for one that a log axis cannot show."""
        if number is None or not math.isfinite(number) or number <= 0:
            return None
        place = (math.log10(number) - self.low) / (self.high - self.low)
        return min(max(place, 0.0), 1.0)

    def ticks(self, most: int) -> list[int]:
        """Decades to label, at most `most`, evenly spaced, the lowest among them."""
        step = max(1, math.ceil((self.high - self.low + 1) / most))
        return list(range(self.low, self.high + 1, step))


def axis(numbers: Iterable[Number]) -> Axis:
    """The smallest axis that holds the numbers; at least two decades, so that noise looks small."""
    logs = [math.log10(x) for x in numbers if x is not None and math.isfinite(x) and x > 0]
    low = math.floor(min(logs, default=-1.0))
    high = math.ceil(max(logs, default=1.0))
    while high - low < 2:
        # grow on the side that is closer to the numbers, so that they stand in the middle
        if max(logs) - low > high - min(logs):
            high += 1
        else:
            low -= 1
    return Axis(low, high)


def rows(diagnosis: Diagnosis, *, every: bool = False) -> list[Row]:
    """The weight layers of what was seen, in order; all sites where there are fewer than two.

    Args:
        diagnosis: its findings give the marks.
        every: all sites in any case.
    """
    record = diagnosis.reading.seen
    places = record.weight_sites()
    if every or len(places) < 2:
        places = tuple(range(len(record.sites)))
    marks = marked(diagnosis, record, places)
    names = [record.sites[index].name for index in places]
    ways = {
        way: beside.column(diagnosis.reading, names, f"{way}.rms")
        for way in ("forward", "backward")
    }
    return [
        Row(
            index,
            names[place],
            record.sites[index].depth,
            record.value("forward.rms", index),
            record.value("backward.rms", index),
            tuple(marks.get(index, ())),
            {way: column[place] for way, column in ways.items()},
        )
        for place, index in enumerate(places)
    ]


def located(record: Record) -> dict[str, int]:
    """Index of the site for every name a finding may use: of a site or of a parameter."""
    names: dict[str, int] = {}
    for index, site in enumerate(record.sites):
        for parameter in site.parameters:
            names.setdefault(record.parameters[parameter].name, index)
    names.update({site.name: index for index, site in enumerate(record.sites)})
    return names


def marked(diagnosis: Diagnosis, record: Record, places: tuple[int, ...]) -> dict[int, list[int]]:
    """Which of `places` are among the worst of which findings, by number from 1.

    A site between two places counts for the one before it.
    """
    names = located(record)
    marks: dict[int, list[int]] = {}
    for number, finding in enumerate(diagnosis.findings, 1):
        for name in finding.sites[:MARKS_PER_FINDING]:
            before = [place for place in places if place <= names.get(name, -1)]
            if before and number not in marks.setdefault(before[-1], []):
                marks[before[-1]].append(number)
    return marks


def long_prefix(names: Iterable[str]) -> str:
    """The dotted beginning that all names share, with its last dot; empty where it is short."""
    parts = [name.split(".")[:-1] for name in names]
    shared: list[str] = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    prefix = "".join(f"{part}." for part in shared)
    return prefix if len(prefix) > SHORT_PREFIX else ""


def thin(full: list[Row], most: int) -> list[Row]:
    """At most `most` rows: both ends, some that are marked, and the rest evenly spaced."""
    if len(full) <= most:
        return full
    keep = {0, 1, len(full) - 2, len(full) - 1}
    keep.update([i for i, row in enumerate(full) if row.marks][: most // 3])
    # The most even choice is the one with the smallest step that still fits.
    even: set[int] = set()
    for parts in range(most, 1, -1):
        even = {round(i * (len(full) - 1) / (parts - 1)) for i in range(parts)}
        if len(keep | even) <= most:
            break
    return [full[i] for i in sorted(keep | even)]


def rate(full: list[Row], way: str) -> float | None:
    """Factor per weight layer: exp of the slope of ln rms over depth, by least squares.

    Args:
        full: all rows.
        way: `forward`, or `backward`: then per layer from the loss towards the input.
    """
    points = [
        (row.depth, math.log(number))
        for row in full
        if (number := getattr(row, way)) is not None and math.isfinite(number) and number > 0
    ]
    mean = sum(x for x, _ in points) / max(len(points), 1)
    square = sum((x - mean) ** 2 for x, _ in points)
    if square == 0:
        return None
    slope = sum((x - mean) * y for x, y in points) / square
    slope = min(max(slope, -700.0), 700.0)  # beyond it exp overflows, and the story is told
    return math.exp(slope if way == "forward" else -slope)


def strains(full: list[Row]) -> list[float]:
    """How many decades each row lies from the median of all; infinite for 0, inf and NaN."""
    worst = [0.0] * len(full)
    for way in ("forward", "backward"):
        logs = [_decades(getattr(row, way)) for row in full]
        finite = sorted(x for x in logs if x is not None and math.isfinite(x))
        middle = finite[len(finite) // 2] if finite else 0.0
        for place, here in enumerate(logs):
            if here is not None:
                worst[place] = max(worst[place], abs(here - middle))
    return worst


def _decades(number: Number) -> float | None:
    if number is None:
        return None
    return math.log10(number) if math.isfinite(number) and number > 0 else math.inf
