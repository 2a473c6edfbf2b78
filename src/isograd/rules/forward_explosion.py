"""Activations grow with every layer."""

import math
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._causes import why_grows
from isograd.rules._examples import reading
from isograd.rules._numbers import show
from isograd.rules._profile import BAND_WIDTH, names, needs, outcome, scale, weighed
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OF_TRAINING


@dataclass(frozen=True)
class ForwardExplosion(Rule):
    """The activations explode with depth.

    Sees: the rms of every weight layer's output, as a rate per layer (median slope, with the band
        that chance explains at finite width) and from the first layer to the last.

    Matters: the outputs start far beyond what the loss is made for, the gradient grows with
        them, and one step of an ordinary learning rate overshoots by the same factor. A few
        layers more and the numbers overflow.

    Wrong when: the growth is linear, as in pre-norm residual networks; that stays far below the
        threshold. The scale of the input itself is IG601's to judge: here only growth counts.

    Do: bring the gain of the weights down to the one that fits the activation; scale residual
        branches; normalize between the layers.
    """

    code: ClassVar[str] = "IG202"
    rank: ClassVar[int] = 60
    explains: ClassVar[tuple[str, ...]] = (
        "IG102", "IG104", "IG203", "IG204", "IG205", "IG207", "IG302", *OF_TRAINING,
    )  # fmt: skip

    strong: float = 1e3
    """Outputs a thousand times their start: cross entropy then begins hundreds of times above
    chance, and squared error a million times."""
    hopeless: float = 1e6
    """A squared error of 1e12 times its scale: no learning rate that survives it learns."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the rms at the last weight layers with the first."""
        seen = reading.seen
        profile = scale(seen)
        if profile is None:
            return needs(seen, "forward.rms") or NotApplicable(
                "fewer than two weight layers have outputs that are not zero"
            )
        change = profile.change(toward_input=False, falling=False)
        factor, rate = math.exp(min(change, 700.0)), math.exp(profile.rate)
        summary = (
            f"the rms grows {show(factor)} times over {len(profile.depths)} weight layers, "
            f"x{show(rate)} per layer"
        )
        if factor <= self.strong or change < BAND_WIDTH * profile.band:
            return Passed(summary)
        cause = why_grows(seen)
        severity = Severity.ERROR if factor > self.hopeless else Severity.WARNING
        severity = weighed(severity, outcome(reading))
        return Finding(
            self.code,
            severity,
            cause.name,
            f"{summary[0].upper()}{summary[1:]}; {cause.because}.",
            names(seen, tuple(reversed(profile.sites))[:3]),
            {"factor": factor, "per_layer": rate, "band": profile.band, **cause.evidence},
            cause.remedies,
            () if severity is Severity.INFO else self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Eight ReLU layers whose weights are three times too large."""
        return _example(3.0)

    @staticmethod
    def well() -> Reading:
        """The same layers with the gain that fits."""
        return _example(1.0)


def _example(factor: float) -> Reading:
    depth = 8
    return reading(
        depth,
        series={
            "forward.rms": [0.7 * factor**i for i in range(depth)],
            "forward.band": [0.05 * i for i in range(depth)],
            "weight.gain": 1.414 * factor,
            "weight.gain_fit": 1.414,
            "weight.fan_in": 41.0,
            "weight.fan_out": 37.0,
        },
    )
