"""The scale of regression targets."""

import math
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._examples import chain
from isograd.rules._graph import NORMS
from isograd.rules._numbers import fact, show
from isograd.rules._profile import outcome, weighed
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OF_TRAINING, OVER_DEPTH, OVER_TIME


@dataclass(frozen=True)
class Targets(Rule):
    """The targets of a regression are not normalized.

    Sees: mean and standard deviation of real-valued targets, next to the rms of the outputs the
        network starts with.

    Matters: a fresh network gives numbers of about 1. With targets around 150 the first gradients
        are 150 times too large and all point to "more", which kills units before anything is
        learned; with an adaptive optimizer the output bias climbs by one learning rate per step
        and needs 150 / lr steps. Targets of 0.001 give gradients that vanish in the noise. Behind
        a norm outputs have mean 0 and variance 1, and nothing but its own weight and bias leads
        anywhere else.

    Wrong when: the outputs already have the targets' scale, because the model multiplies them or
        is trained; the rule compares with them.

    Do: train on (y - mean) / std and undo it at prediction; for prices and counts take the
        logarithm first. Or set the output layer's bias to the mean and scale its output.
    """

    code: ClassVar[str] = "IG602"
    rank: ClassVar[int] = 2
    explains: ClassVar[tuple[str, ...]] = (*OVER_DEPTH, *OF_TRAINING, *OVER_TIME)

    large: float = 10.0
    """|mean| or standard deviation of the targets: the first gradients are ten times those of
    standardized targets, the first loss a hundred times."""
    huge: float = 100.0
    """The same from which no usual learning rate is left."""
    small: float = 0.01
    """Standard deviation of the targets below which the loss is decided by the outputs' own
    noise: its square is 1e-4."""
    normed: float = 2.0
    """Rms of the targets over that of outputs that come from a norm: what standardized targets with
    an offset of their own size have stays below."""
    reached: float = 0.1
    """Rms of the outputs over that of the targets from which they have the same scale already."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges the targets of a regression."""
        seen = reading.seen
        mean, std = fact(seen, "target.mean"), fact(seen, "target.std")
        if seen.fact("target.kind") != "real" or mean is None or std is None:
            return NotApplicable(
                "no real-valued targets (hand them in as the second part of the batch)"
            )
        if seen.fact("loss.kind") in ("bce", "bce_logits", "cross_entropy", "nll"):
            return NotApplicable("the loss takes class labels or probabilities: nothing to scale")
        size, out = max(abs(mean), std), fact(seen, "output.rms") or 0.0
        total = math.hypot(mean, std)
        fits = out >= self.reached * total or self._near(seen)
        short = self._behind_norm(seen) and total > self.normed * out
        if std >= self.small and (size <= self.large or fits) and not short:
            return Passed(f"targets of mean {show(mean)} and standard deviation {show(std)}")
        if std < self.small and (std == 0 or out <= std / self.reached):
            return Passed(f"targets and outputs are both small: {show(std)} and {show(out)}")
        severity = Severity.ERROR if size > self.huge else Severity.WARNING
        return Finding(
            self.code,
            weighed(severity, outcome(reading)),
            "target-not-normalized",
            f"The targets have mean {show(mean)} and standard deviation {show(std)}, while the "
            f"network starts with outputs of rms {show(out)}"
            + (", which a norm makes so." if short else "."),
            evidence={"target.mean": mean, "target.std": std, "output.rms": out},
            remedies=(
                f"Train on (y - {show(mean)}) / {show(std)} and undo it at prediction.",
                f"Or start the output layer's bias at {show(mean)} and multiply its output by "
                f"{show(std)}.",
            ),
            explains=self.explains,
        )

    def _behind_norm(self, seen: Record) -> bool:
        """Whether a norm stands between the last layer and the loss."""
        place = seen.fact("loss.input_site")
        known = isinstance(place, int) and 0 <= place < len(seen.sites)
        return known and seen.sites[place].kind in NORMS and fact(seen, "output.rms") is not None

    def _near(self, seen: Record) -> bool:
        """Whether outputs whose size the loss hides start where a constant answer would be."""
        value, chance = fact(seen, "loss.value"), fact(seen, "loss.chance")
        hidden = fact(seen, "output.rms") is None
        return bool(hidden and value is not None and chance and value < chance / self.reached)

    @staticmethod
    def sick() -> Reading:
        """Disease scores of 25 to 346."""
        return _regression(mean=152.0, std=77.0)

    @staticmethod
    def well() -> Reading:
        """The same, standardized, with an offset left."""
        return _regression(mean=3.0, std=1.0)


def _regression(*, mean: float, std: float) -> Reading:
    facts = {
        "target.kind": "real",
        "target.mean": mean,
        "target.std": std,
        "output.rms": 0.4,
        "loss.kind": "mse",
    }
    return Reading(chain(3, facts=facts))
