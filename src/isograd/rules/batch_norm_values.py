"""How many values a norm averages over."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._examples import chain
from isograd.rules._numbers import fact, some, words
from isograd.rules._profile import outcome, weighed
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OF_TRAINING, OVER_DEPTH


@dataclass(frozen=True)
class BatchNormValues(Rule):
    """A norm averages over too few values.

    Sees: the smallest number of values per channel (samples times positions) over which a batch
        norm in training mode took its mean and variance; layer, group and instance norms that
        take theirs of a single value; batch norms whose `eps` is 0.01 or more, and above the
        variance of what they get.

    Matters: with n values the mean is off by 1/sqrt(n) standard deviations, so that every sample
        is shifted by its neighbors, and the backward pass amplifies: the gradient's energy grows
        by (n-2)/(n-3) per norm even where nothing else does. With one value the output is the
        same whatever went in: so it is of LayerNorm(1) on a series of single numbers, and of
        GroupNorm with a group per channel on a map of one position.

    Wrong when: you hand in a smaller batch than you train with, or statistics are gathered over
        several devices.

    Do: train with more samples per device, convert to SyncBatchNorm, or use GroupNorm or
        LayerNorm, which do not look at the batch.
    """

    code: ClassVar[str] = "IG501"
    rank: ClassVar[int] = 40
    explains: ClassVar[tuple[str, ...]] = ("IG502",)

    none: int = 2
    """Values below which there is nothing to normalize: the variance of one value is zero."""
    few: int = 8
    """Values below which the mean is off by more than a third of a standard deviation and the
    gradient grows by a fifth per norm."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges the smallest count."""
        seen = reading.seen
        alone = words(seen.fact("norm.alone"))
        if alone:
            return self._alone(alone)
        least = fact(seen, "norm.min_values")
        if least is None:
            return NotApplicable(
                "no batch norm computed statistics (measure a model that has one, in train mode)"
            )
        names = tuple(site.name for site in seen.sites if site.kind == "batch_norm")
        swallowed = words(seen.fact("norm.swallowed"))
        if least >= self.few and swallowed:
            return self._swallowed(reading, swallowed)
        if least >= self.few:
            return Passed(f"every batch norm averages over at least {least:.0f} values")
        batch = fact(seen, "batch.size")
        of = f" (batch of {batch:.0f})" if batch is not None else ""
        nothing = least < self.none
        return Finding(
            self.code,
            Severity.ERROR if nothing else Severity.WARNING,
            "norm-mode",
            f"A batch norm averages over {least:.0f} value{'' if least == 1 else 's'} per channel"
            + of
            + (
                ": its output does not depend on its input."
                if nothing
                else f": its mean is off by {least**-0.5:.0%} of a standard deviation."
            ),
            sites=names,
            evidence={"norm.min_values": least, "batch.size": batch},
            remedies=(
                "Measure and train with a larger batch.",
                "Replace the batch norms by GroupNorm or LayerNorm, or convert them with "
                "torch.nn.SyncBatchNorm.convert_sync_batchnorm when several devices train.",
            ),
            explains=self.explains,
        )

    def _swallowed(self, reading: Reading, names: tuple[str, ...]) -> Finding:
        return Finding(
            self.code,
            weighed(Severity.WARNING, outcome(reading)),
            "norm-mode",
            f"{len(names)} batch norm{'s' if len(names) > 1 else ''} ({some(names)}) add an eps "
            "that is larger than the variance of what goes in: they make it smaller, and do not "
            "normalize.",
            sites=names,
            evidence={"norm.swallowed": list(names)},
            remedies=("Leave eps at 1e-5, torch's default, or at 1e-3.",),
            explains=(*self.explains, *OVER_DEPTH, *OF_TRAINING),
        )

    def _alone(self, names: tuple[str, ...]) -> Finding:
        return Finding(
            self.code,
            Severity.ERROR,
            "norm-mode",
            f"{len(names)} norm{'s' if len(names) > 1 else ''} ({some(names)}) take mean and "
            "variance of a single value: what comes out does not depend on what goes in.",
            sites=names,
            evidence={"norm.alone": list(names)},
            remedies=(
                "Remove it, normalize the data once instead, or let it average over more: all "
                "features, the time steps, fewer groups.",
            ),
            explains=(*self.explains, *OVER_DEPTH, *OF_TRAINING),
        )

    @staticmethod
    def sick() -> Reading:
        """One value per channel."""
        return Reading(chain(2, facts={"norm.min_values": 1, "batch.size": 1}))

    @staticmethod
    def well() -> Reading:
        """As many as the batch has samples."""
        return Reading(chain(2, facts={"norm.min_values": 32, "batch.size": 32}))
