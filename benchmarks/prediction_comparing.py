"""A predicted Record judged against a measured table: relative errors of rms, site by site."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

from isograd.records import Number, Record
from patients.architectures.family import Target
from prediction_measuring import Measured, Rms


@dataclass(frozen=True)
class Place:
    """One site or parameter, both sides."""

    name: str
    label: str
    measured: Rms
    predicted: Number
    """`None`: the prediction has no number for it."""
    band: Number = None
    """Finite-width band of ln rms of one draw, one standard deviation."""

    @property
    def error(self) -> float:
        """|predicted / measured - 1|; a missing prediction is 100 % wrong."""
        if self.predicted is None or not math.isfinite(self.predicted):
            return 1.0
        assert self.measured.rms
        return abs(self.predicted / self.measured.rms - 1)

    @property
    def inside(self) -> float | None:
        """Share of draws within two bands of the prediction; ln rms of a draw is about normal."""
        spread = self.measured.spread
        if not self.predicted or self.band is None or not self.measured.rms or not spread:
            return None
        typical = math.log(self.measured.rms / self.predicted) - spread**2
        low, high = ((side * 2 * self.band - typical) / spread for side in (-1, 1))
        return NormalDist().cdf(high) - NormalDist().cdf(low)


@dataclass(frozen=True)
class Side:
    """All places of one quantity: forward, backward, or weight gradients."""

    places: tuple[Place, ...] = ()
    left_out: int = 0
    """Places whose measured value is 0 or absent."""
    seeds: int = 1

    @property
    def missing(self) -> int:
        """Places that have a measured number and no predicted one."""
        return sum(p.predicted is None or not math.isfinite(p.predicted) for p in self.places)

    def error(self, share: float) -> float:
        """The relative error that a share of the places does not exceed; NaN without places."""
        return quantile([p.error for p in self.places], share)

    @property
    def noise(self) -> float:
        """Median standard error of the measured values themselves, relative."""
        known = [p.measured.spread for p in self.places if p.measured.spread is not None]
        return quantile(known, 0.5) / math.sqrt(self.seeds)

    @property
    def inside(self) -> float:
        """Share of sites and draws inside the printed band; NaN where none is printed."""
        held = [place.inside for place in self.places if place.inside is not None]
        return sum(held) / len(held) if held else math.nan

    def holds(self, target: tuple[float, float | None]) -> bool:
        """Whether median and 90th percentile keep to the target."""
        middle, high = target
        return self.error(0.5) <= middle and (high is None or self.error(0.9) <= high)

    def worst(self, count: int) -> list[Place]:
        """The places with the largest errors."""
        return sorted(self.places, key=lambda p: -p.error)[:count]


@dataclass(frozen=True)
class Comparison:
    """One architecture, judged."""

    name: str
    target: Target
    forward: Side
    backward: Side
    weight: Side
    correlation: float
    """90th percentile of |predicted - measured| of the correlation between samples."""
    condition: Number = None
    """How much the prediction magnifies a relative change of its inputs."""
    predictable: bool = True
    """Whether the prediction stands by its numbers."""
    seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())

    @property
    def verdicts(self) -> tuple[bool, bool, bool]:
        """Whether forward, backward and weight gradients keep to the target."""
        target = self.target
        return (
            self.forward.holds(target.forward),
            self.backward.holds(target.backward),
            self.weight.holds(target.backward),
        )


def compare(
    measured: Measured,
    record: Record,
    target: Target,
    *,
    every: bool = False,
    seconds: float = 0.0,
) -> Comparison:
    """Both sides of one architecture, matched by name.

    Args:
        measured: its table.
        record: its prediction.
        target: what the prediction should reach.
        every: judge operations in a forward, biases and norms' parameters too, not only leaf
            modules and weights.
        seconds: CPU time that the prediction took.
    """
    sites = {site.name: place for place, site in enumerate(record.sites)}
    parameters = {one.name: place for place, one in enumerate(record.parameters)}
    rows = [row for row in measured.sites if every or row.is_module]
    weights = [row for row in measured.parameters if every or row.is_weight]

    def at(key: str, place: int | None) -> Number:
        column = record.series.get(key)
        return None if column is None or place is None else column[place]

    def side(key: str, band: str, found: Iterable[tuple[str, str, Rms]]) -> Side:
        known = parameters if key.startswith("weight.") else sites
        places = [
            Place(name, label, rms, at(key, known.get(name)), at(band, known.get(name)))
            for name, label, rms in found
        ]
        kept = tuple(p for p in places if p.measured.rms)
        return Side(kept, len(places) - len(kept), measured.seeds)

    gradients = ((row.name, row.kind, row.gradient) for row in weights)
    differences = [
        abs(value - row.correlation)
        for row in rows
        if row.correlation is not None
        and (value := at("forward.correlation", sites.get(row.name))) is not None
    ]
    return Comparison(
        measured.name,
        target,
        side("forward.rms", "forward.band", ((r.name, r.label, r.forward) for r in rows)),
        side("backward.rms", "backward.band", ((r.name, r.label, r.backward) for r in rows)),
        side("weight.grad_rms", "weight.grad_band", gradients),
        quantile(differences, 0.9),
        record.facts.get("prediction.condition"),
        record.facts.get("prediction.predictable", True),
        seconds,
        tuple(record.notes),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Linear between order statistics; NaN for none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
