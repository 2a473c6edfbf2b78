"""The part of the signal that depends on the input dies on the way to the output."""

import math
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._causes import why_lost
from isograd.rules._examples import reading
from isograd.rules._numbers import show
from isograd.rules._profile import (
    BAND_WIDTH,
    ROUNDING,
    contrast,
    names,
    needs,
    outcome,
    rescued,
    signal,
    weighed,
)
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule


@dataclass(frozen=True)
class ForwardCollapse(Rule):
    """The signal dies on its way forward.

    Sees: the spread over the samples of every weight layer's output, that is, the part that
        depends on the input, as a rate per layer and from the first layer to the last; and that
        spread relative to the rms, which biases keep up.

    Matters: the last layers cannot tell the samples apart, so the best they can learn is one
        constant answer. This is worse than a gradient that vanishes on the way back alone, which
        an adaptive optimizer makes up for: what is below the rounding error of the signal cannot
        be brought back by any optimizer.

    Wrong when: the optimizer is adaptive and the spread stays above rounding; then it is
        information. A head that starts near zero on purpose is left out.

    Do: set the gain of the initialization to the one that fits the activation; replace sigmoid by
        ReLU or GELU; normalize between the layers; add residual connections.
    """

    code: ClassVar[str] = "IG201"
    rank: ClassVar[int] = 60
    explains: ClassVar[tuple[str, ...]] = (
        "IG101", "IG104", "IG203", "IG204", "IG207", "IG302", "IG304", "IG604",
    )  # fmt: skip

    weak: float = 1e-3
    """Three hidden sigmoid layers keep 1e-2 and learn with plain SGD, six keep 2e-4 and do not;
    default-initialized ReLU layers cross it at nine, about where they stop learning."""
    rounding: float = ROUNDING
    """Spread over rms at which differences between samples have fewer than five bits left in
    float32, whose steps are 1.2e-7: not even an adaptive optimizer finds them."""
    lost: float = 1e-6
    """Loss from which neither spread nor the gradient it belongs to moves a weight: an error."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the spread at the last weight layers with the first."""
        seen = reading.seen
        profile = signal(seen)
        if profile is None:
            return needs(seen, "forward.spread") or NotApplicable(
                "fewer than two weight layers have outputs that depend on the input"
            )
        change = profile.change(toward_input=False, falling=True)
        left, rate = math.exp(change), math.exp(profile.rate)
        apart = contrast(seen)
        summary = (
            f"of the spread over samples at the first of {len(profile.depths)} weight layers "
            f"{show(left)} arrives at the last, x{show(rate)} per layer"
        )
        if left >= self.weak or -change < BAND_WIDTH * profile.band:
            return Passed(summary)
        cause = why_lost(seen)
        drowned = apart is not None and apart < self.rounding
        severity = Severity.ERROR if drowned or left < self.lost else Severity.WARNING
        severity = Severity.INFO if rescued(reading, left) else weighed(severity, outcome(reading))
        relative = f" (there {show(apart)} of the rms)" if apart is not None else ""
        return Finding(
            self.code,
            severity,
            cause.name,
            f"{summary[0].upper()}{summary[1:]}{relative}; {cause.because}.",
            names(seen, tuple(reversed(profile.sites))[:3]),
            {"left": left, "per_layer": rate, "spread_over_rms": apart, **cause.evidence},
            cause.remedies,
            () if severity is Severity.INFO else self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Twelve ReLU layers at torch's default initialization."""
        return _example(0.408, 0.577)

    @staticmethod
    def well() -> Reading:
        """The same layers with He's."""
        return _example(1.0, 1.414)


def _example(factor: float, gain: float) -> Reading:
    depth = 12
    return reading(
        depth,
        series={
            "forward.spread": [0.5 * factor**i for i in range(depth)],
            "forward.rms": [0.6 * max(factor**i, 0.1) for i in range(depth)],
            "forward.band": [0.02 * i for i in range(depth)],
            "weight.gain": gain,
            "weight.gain_fit": 1.414,
            "weight.gain_slope": 1.414,
            "weight.fan_in": 41.0,
            "weight.fan_out": 37.0,
        },
    )
