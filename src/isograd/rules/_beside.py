"""What was measured beside what was predicted: how far apart, and where that begins."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from isograd.records import Record

SMALLEST = 1e-20
"""A predicted rms below this may well be measured as 0."""


@dataclass(frozen=True)
class Deviation:
    """One site's rms, measured and predicted."""

    site: int
    """Its index in the measured record."""
    measured: float
    predicted: float
    band: float
    """Standard deviation of ln rms that the prediction gives."""
    sampled: bool
    """Whether the prediction rests on an operation that was estimated by sampling."""

    @property
    def log(self) -> float:
        """ln(measured / predicted); a measured 0 counts as the smallest float32."""
        return math.log(max(self.measured, 1e-45) / self.predicted)


def deviations(seen: Record, expected: Record, way: str) -> dict[int, Deviation]:
    """Deviations by index of the site, where both records have a number; matched by name.

    Args:
        seen: the measured record.
        expected: the predicted one.
        way: forward or backward.
    """
    places = {site.name: index for index, site in enumerate(expected.sites)}
    found: dict[int, Deviation] = {}
    for index, measured in seen.pairs(f"{way}.rms"):
        place = places.get(seen.sites[index].name)
        if place is None:
            continue
        numbers = [expected.value(f"{way}.{key}", place) for key in ("rms", "band", "sampled")]
        rms, band, sampled = (n if n is not None and math.isfinite(n) else None for n in numbers)
        if rms is None or band is None or rms < SMALLEST or band < 0 or measured < 0:
            continue
        found[index] = Deviation(index, measured, rms, band, bool(sampled))
    return found


def upstream(record: Record, way: str) -> Mapping[int, tuple[int, ...]]:
    """For every site, the sites that its number comes from: inputs, or for gradients readers."""
    if way == "forward":
        return {
            index: tuple(source for source in site.inputs if 0 <= source < index)
            for index, site in enumerate(record.sites)
        }
    found: dict[int, list[int]] = {index: [] for index in range(len(record.sites))}
    for index, site in enumerate(record.sites):
        for source in site.inputs:
            if 0 <= source < index:
                found[source].append(index)
    return {index: tuple(readers) for index, readers in found.items()}


def beginnings(
    record: Record,
    found: Mapping[int, Deviation],
    way: str,
    outside: Callable[[Deviation], bool],
    step: float,
) -> list[Deviation]:
    """Where deviations begin: sites outside, nothing before which is, apart from those by a step.

    A deviation that builds up little by little has no beginning: no site is to blame for it.

    Args:
        record: the measured record.
        found: deviations of the same way.
        way: the direction in which sites come before one another.
        outside: whether a deviation is news.
        step: difference of ln(measured / predicted) to the nearest site before that is a jump.
    """
    before = upstream(record, way)
    order = range(len(record.sites))
    tainted: set[int] = set()
    result = []
    for index in order if way == "forward" else reversed(order):
        if any(source in tainted for source in before[index]):
            tainted.add(index)
            continue
        here = found.get(index)
        if here is None:
            continue
        if here.sampled:
            tainted.add(index)
        elif outside(here):
            tainted.add(index)
            near = [found[source].log for source in before[index] if source in found]
            if min((abs(here.log - log) for log in near), default=abs(here.log)) >= step:
                result.append(here)
    return result
