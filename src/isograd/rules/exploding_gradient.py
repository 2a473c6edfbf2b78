"""The gradient grows with every layer on its way back."""

import math
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._causes import why_grows
from isograd.rules._examples import reading
from isograd.rules._graph import NORMS
from isograd.rules._numbers import show
from isograd.rules._profile import BAND_WIDTH, gradient, names, needs, outcome, weighed
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OF_TRAINING


@dataclass(frozen=True)
class ExplodingGradient(Rule):
    """The gradient explodes with depth.

    Sees: the norm of dLoss/d(output) of every weight layer, as a rate per layer (median slope,
        with the band that chance explains at finite width) and from the last layer to the first
        as a whole.

    Matters: the first layers take steps a thousand times as large as the last ones. A learning
        rate small enough for them leaves the rest standing still; a larger one destroys them in
        one step.

    Wrong when: norms follow the weights: there the growth is the price of batch norm without
        skip connections, which IG503 judges. A pre-norm transformer or a residual network with
        batch norm grows with the square root of its depth, far below this threshold.

    Do: bring the gain of the weights down to the one that fits the activation; scale residual
        branches; normalize between the layers. Clipping the gradient hides it and does not
        change the ratio between layers.
    """

    code: ClassVar[str] = "IG102"
    rank: ClassVar[int] = 60
    explains: ClassVar[tuple[str, ...]] = (
        "IG104", "IG202", "IG204", "IG205", "IG207", "IG302", *OF_TRAINING,
    )  # fmt: skip

    strong: float = 1e3
    """Steps that differ by three decades between layers: no learning rate serves both."""
    hopeless: float = 1e6
    """Beyond this the first layers' first step is as large as their weights at any learning rate
    at which the last layers move."""
    normalized: float = 0.5
    """Share of norms per weight layer from which the norms set the scale."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the gradient at the first weight layers with the last."""
        seen = reading.seen
        profile = gradient(seen)
        if profile is None:
            return needs(seen, "backward.rms", "backward.count") or NotApplicable(
                "fewer than two weight layers get a gradient that is not zero"
            )
        change = profile.change(toward_input=True, falling=False)
        factor, rate = math.exp(min(change, 700.0)), math.exp(-profile.rate)
        summary = (
            f"the gradient that reaches the first of {len(profile.depths)} weight layers is "
            f"{show(factor)} times the one at the last, x{show(rate)} per layer"
        )
        if factor <= self.strong or change < BAND_WIDTH * profile.band:
            return Passed(summary)
        if _norms_per_layer(seen) >= self.normalized:
            return Passed(f"{summary}; norms set the scale, IG503 judges their placement")
        cause = why_grows(seen)
        severity = Severity.ERROR if factor > self.hopeless else Severity.WARNING
        severity = weighed(severity, outcome(reading))
        return Finding(
            self.code,
            severity,
            cause.name,
            f"{summary[0].upper()}{summary[1:]} (chance explains x"
            f"{show(math.exp(BAND_WIDTH * profile.band))} in all); {cause.because}.",
            names(seen, profile.sites[:3]),
            {"factor": factor, "per_layer": rate, "band": profile.band, **cause.evidence},
            cause.remedies,
            () if severity is Severity.INFO else self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Ten tanh layers with twice the gain that fits."""
        return _example(2.6)

    @staticmethod
    def well() -> Reading:
        """The same layers with the gain that fits."""
        return _example(1.0)


def _norms_per_layer(record: Record) -> float:
    norms = sum(site.kind in NORMS for site in record.sites)
    return norms / max(1, len(record.weight_sites()))


def _example(factor: float) -> Reading:
    depth = 10
    return reading(
        depth,
        activation="tanh",
        series={
            "backward.rms": [1e-2 * factor ** (depth - 1 - i) for i in range(depth)],
            "backward.count": 640.0,
            "backward.band": [0.05 * (depth - 1 - i) for i in range(depth)],
            "weight.gain": 3.2 * factor / 2.6,
            "weight.gain_fit": 1.59,
            "weight.fan_in": 41.0,
            "weight.fan_out": 37.0,
        },
    )
