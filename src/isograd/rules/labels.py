"""The labels themselves."""

from dataclasses import dataclass, replace
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._course import course
from isograd.rules._examples import chain
from isograd.rules._numbers import fact, show
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OF_TRAINING, OVER_DEPTH, OVER_TIME


@dataclass(frozen=True)
class Labels(Rule):
    """The labels are wrong.

    Sees: labels that are all equal in a batch, labels that no output stands for, and targets
        outside of [0, 1] in a binary cross-entropy.

    Matters: equal labels are learned by the bias alone, within a few steps and without the input
        (a loader that does not shuffle, a broken join). A binary cross-entropy with targets such
        as 7 has no minimum: its loss falls below zero without end, and the network learns
        to be as large as it can.

    Wrong when: positives are rare and the batch is small; or the loss is applied to one class on
        purpose, as for a discriminator; a watched run tells by what becomes of the loss.

    Do: shuffle, and look at a few samples with their labels. For integer classes use
        cross_entropy with one output per class; scale other targets into [0, 1].
    """

    code: ClassVar[str] = "IG608"
    rank: ClassVar[int] = 0
    explains: ClassVar[tuple[str, ...]] = (*OVER_DEPTH, *OF_TRAINING, *OVER_TIME, "IG605", "IG606")

    batch: int = 8
    """Samples from which equal labels are suspicious: with two equally frequent classes, a
    batch of 8 is uniform once in 128."""
    learned: float = 0.1
    """Part of the first loss, in a watched run, below which the one answer there is was learned:
    that of a GAN, which has such targets on purpose, stands."""
    rounding: float = 1e-4
    """How far outside of [0, 1] a target may lie through rounding."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges range, then variety."""
        seen = reading.seen
        kind, distinct = seen.fact("target.kind"), fact(seen, "target.distinct")
        if kind is None or distinct is None:
            return NotApplicable("no targets (hand them in as the second part of the batch)")
        low, high = fact(seen, "target.min") or 0.0, fact(seen, "target.max") or 0.0
        outside = low < -self.rounding or high > 1 + self.rounding
        if seen.source == "predicted" and kind == "class":
            outside = False  # the loss makes probabilities of them: torch takes no labels there
        if seen.fact("loss.kind") in ("bce", "bce_logits") and outside:
            return self._no_probabilities(seen, low, high, distinct)
        lost = fact(seen, "target.out_of_range") or 0
        if lost > 0 and seen.fact("loss.kind") not in ("bce", "bce_logits"):
            return self._out_of_range(seen, lost, low, high)
        # Of several calls in a step, the targets of one are known.
        counts = (fact(seen, key) for key in ("batch.size", "target.count"))
        samples = min((count for count in counts if count is not None), default=0)
        several = (fact(seen, "target.count") or samples) < (fact(seen, "batch.size") or 0.0)
        few = (fact(seen, "target.classes") or 0.0) <= 2
        if distinct == 1 and few and (several or seen.fact("loss.critic")):
            return Passed("one target for all, of one part of the step or of a network that judges")
        if distinct == 1 and samples >= self.batch:
            finding = self._finding(
                seen,
                self._constant(reading),
                "data-bug",
                f"All {samples:.0f} targets of the batch are {show(high)}.",
                "Shuffle the data, and check how inputs and targets are paired.",
            )
            # One answer for all is learned soon, and no reason for a NaN.
            return replace(finding, explains=tuple(c for c in finding.explains if c != "IG401"))
        return Passed(f"{distinct:.0f} distinct targets in [{show(low)}, {show(high)}]")

    def _constant(self, reading: Reading) -> Severity:
        """A loss that goes to nothing on them has learned them; a GAN's stands."""
        path = course(reading)
        many = (fact(reading.seen, "target.classes") or 0.0) > 2
        if path is None or not path.watched or many:
            return Severity.WARNING
        learned = path.level < self.learned * abs(path.start)
        return Severity.WARNING if learned else Severity.INFO

    def _no_probabilities(self, seen: Record, low: float, high: float, distinct: float) -> Finding:
        whole = seen.fact("target.integer_like")
        if whole is None:
            whole = low == int(low) and high == int(high) and distinct <= high - low + 1
        if whole and low >= 0:
            return self._finding(
                seen,
                Severity.ERROR,
                "loss-mismatch",
                f"A binary cross-entropy gets {distinct:.0f} class labels from {show(low)} to "
                f"{show(high)} as if they were probabilities; its loss has no minimum.",
                f"Use cross_entropy with {int(high) + 1} outputs and integer labels, or one-hot "
                "targets.",
            )
        return self._finding(
            seen,
            Severity.ERROR,
            "data-bug",
            f"A binary cross-entropy gets targets from {show(low)} to {show(high)}; it needs "
            "probabilities between 0 and 1.",
            "Scale the targets into [0, 1], or use a squared error.",
        )

    def _out_of_range(self, seen: Record, lost: float, low: float, high: float) -> Finding:
        classes = fact(seen, "target.classes") or 0
        return self._finding(
            seen,
            Severity.ERROR,
            "data-bug",
            f"{lost:.0f} labels are outside of 0 to {classes - 1:.0f}: they run from {show(low)} "
            f"to {show(high)}.",
            f"Number the classes from 0, or give the output layer {int(high) + 1} units.",
        )

    def _finding(
        self, seen: Record, severity: Severity, cause: str, message: str, remedy: str
    ) -> Finding:
        keys = ("kind", "min", "max", "distinct", "classes", "out_of_range")
        return Finding(
            self.code,
            severity,
            cause,
            message,
            evidence={f"target.{key}": seen.fact(f"target.{key}") for key in keys},
            remedies=(remedy,),
            explains=() if severity is Severity.INFO else self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Digits as targets of a binary cross-entropy."""
        return _targets(high=9.0, distinct=10)

    @staticmethod
    def well() -> Reading:
        """Zeros and ones."""
        return _targets(high=1.0, distinct=2)


def _targets(*, high: float, distinct: int) -> Reading:
    facts = {
        "target.kind": "real",
        "target.min": 0.0,
        "target.max": high,
        "target.distinct": distinct,
        "loss.kind": "bce",
        "batch.size": 64,
    }
    return Reading(chain(2, facts=facts))
