"""The gradient shrinks with every layer on its way back."""

import math
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._causes import why_lost
from isograd.rules._examples import reading
from isograd.rules._numbers import show
from isograd.rules._profile import BAND_WIDTH, gradient, names, needs, outcome, rescued, weighed
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule


@dataclass(frozen=True)
class VanishingGradient(Rule):
    """The gradient vanishes with depth.

    Sees: the norm of dLoss/d(output) of every weight layer, which does not depend on the layers'
        widths, as a rate per layer (median slope, with the band that chance explains at finite
        width) and from the last layer to the first as a whole.

    Matters: a layer learns in proportion to the gradient that reaches it. When the first layers
        get a thousandth of it, they stay as they were drawn while the last ones learn from what
        these make of the input. The ratio of weight gradients does not show it: it stays near one
        where the forward signal dies along with the gradient.

    Wrong when: the optimizer is adaptive (Adam, RMSprop), which divides by the size of the
        gradient: it rescues what is lost on the way back alone, and the finding is information. A
        head that starts near zero on purpose takes the same factor from all layers; it is left
        out.

    Do: set the gain of the initialization to the one that fits the activation; replace sigmoid by
        ReLU or GELU; normalize between the layers; add residual connections.
    """

    code: ClassVar[str] = "IG101"
    rank: ClassVar[int] = 60
    explains: ClassVar[tuple[str, ...]] = (
        "IG104", "IG201", "IG203", "IG204", "IG207", "IG302", "IG304", "IG604",
    )  # fmt: skip

    weak: float = 1e-3
    """Three hidden sigmoid layers reach 1e-2 and learn with plain SGD, six reach 2e-4 and do not;
    default-initialized ReLU layers cross it at nine, about where they stop learning."""
    lost: float = 1e-6
    """From here the first layers do not move in any number of steps: an error."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the gradient at the first weight layers with the last."""
        seen = reading.seen
        profile = gradient(seen)
        if profile is None:
            return needs(seen, "backward.rms", "backward.count") or NotApplicable(
                "fewer than two weight layers get a gradient that is not zero"
            )
        change = profile.change(toward_input=True, falling=True)
        left, rate = math.exp(change), math.exp(-profile.rate)
        summary = (
            f"the gradient that reaches the first of {len(profile.depths)} weight layers is "
            f"{show(left)} of the one at the last, x{show(rate)} per layer"
        )
        if left >= self.weak or -change < BAND_WIDTH * profile.band:
            return Passed(summary)
        cause = why_lost(seen)
        saved = rescued(reading, left)
        severity = Severity.ERROR if left < self.lost else Severity.WARNING
        severity = Severity.INFO if saved else weighed(severity, outcome(reading))
        note = " An adaptive optimizer can make up for it." if saved else ""
        return Finding(
            self.code,
            severity,
            cause.name,
            f"{summary[0].upper()}{summary[1:]} (chance explains x"
            f"{show(math.exp(BAND_WIDTH * profile.band))} in all); {cause.because}.{note}",
            names(seen, profile.sites[:3]),
            {"left": left, "per_layer": rate, "band": profile.band, **cause.evidence},
            cause.remedies,
            () if severity is Severity.INFO else self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Eight sigmoid layers, each passing on a quarter."""
        return _example(0.24)

    @staticmethod
    def well() -> Reading:
        """The same layers, each passing on nine tenths."""
        return _example(0.9)


def _example(factor: float) -> Reading:
    depth = 8
    return reading(
        depth,
        activation="sigmoid",
        series={
            "backward.rms": [1e-2 * factor ** (depth - 1 - i) for i in range(depth)],
            "backward.count": 640.0,
            "backward.band": [0.05 * (depth - 1 - i) for i in range(depth)],
            "weight.gain": 1.0,
            "weight.gain_fit": 1.846,
            "weight.gain_slope": 4.72,
            "weight.fan_in": 41.0,
            "weight.fan_out": 37.0,
            "forward.slope": 0.21,
        },
    )
