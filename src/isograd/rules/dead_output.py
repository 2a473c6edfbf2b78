"""An output layer that blocks the gradient of the loss."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._examples import chain
from isograd.rules._numbers import show, words
from isograd.rules._profile import outcome, weighed
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.sites import BOUNDED, RECTIFIERS


@dataclass(frozen=True)
class DeadOutput(Rule):
    """The output layer blocks the gradient.

    Sees: the activation that the loss reads from: the share of zeros behind a rectifier, the share
        of saturated entries of a sigmoid or tanh, and whether a clamp follows.

    Matters: all of the gradient passes through this one place. Where a rectified output is zero
        or a squashed one sits at its end, the error is multiplied by a derivative of zero, and the
        samples that are most wrong teach nothing.

    Wrong when: the loss undoes the derivative, as cross entropy does for a sigmoid; then
        saturation alone is no fault. A rectified output may be meant for counts or prices that are
        zero for most samples.

    Do: leave the last layer linear, and let the loss do the rest (BCEWithLogitsLoss,
        CrossEntropyLoss); for outputs that must be positive use softplus or exp.
    """

    code: ClassVar[str] = "IG206"
    rank: ClassVar[int] = 4
    explains: ClassVar[tuple[str, ...]] = (
        "IG101", "IG201", "IG203", "IG205", "IG302", "IG304", "IG604", "IG606",
    )  # fmt: skip

    blocked: float = 0.9
    """Share of outputs without a gradient. At the start half is chance; nine in ten is not, and
    what is left no longer stands for the batch."""

    def judge(self, reading: Reading) -> Outcome:
        """Looks at the activation behind the last weight layer, first and last look."""
        seen = reading.seen
        site = _output_activation(seen)
        if site is None:
            return NotApplicable("the loss reads from a layer without a rectifier, sigmoid or tanh")
        kind = seen.sites[site].kind
        if kind in RECTIFIERS:
            return self._rectifier(reading, site)
        return self._squashed(reading, site)

    def _rectifier(self, reading: Reading, site: int) -> Outcome:
        seen, last = reading.seen, reading.last
        name = seen.sites[site].name
        looks = [r for r in (seen, last) if tuple(r.sites) == tuple(seen.sites)]
        zeros = max((r.value("forward.zero", site) or 0.0 for r in looks), default=0.0)
        if zeros < self.blocked:
            return Passed(f"{show(100 * zeros)} % of the outputs of {name} are zero")
        return Finding(
            self.code,
            weighed(Severity.ERROR, outcome(reading)),
            "dead-output",
            f"The loss reads from {name}, a rectifier: {show(100 * zeros)} % of its outputs are "
            "zero and pass no gradient.",
            (name,),
            {"zero": zeros},
            (
                f"Remove {name}: leave the last layer linear.",
                "If the outputs must not be negative, use nn.Softplus there.",
            ),
            self.explains,
        )

    def _squashed(self, reading: Reading, site: int) -> Outcome:
        seen = reading.seen
        name, share = seen.sites[site].name, seen.value("forward.saturated", site)
        if share is None:
            return NotApplicable(f"the saturation of {name} was not measured")
        clamps = any("clamp" in op or "clip" in op for op in words(seen.fact("loss.input_ops")))
        forgiving = seen.fact("loss.kind") in ("bce", "cross_entropy", "nll") and not clamps
        if share < self.blocked or forgiving:
            return Passed(f"{show(100 * share)} % of the outputs of {name} are saturated")
        kind = seen.sites[site].kind
        why = "a clamp then cuts the gradient" if clamps else "the loss does not undo it"
        return Finding(
            self.code,
            weighed(Severity.ERROR, outcome(reading)),
            "dead-output",
            f"{show(100 * share)} % of the outputs of {name} are at the flat ends of {kind}, and "
            f"{why}: the samples that are most wrong pass no gradient.",
            (name,),
            {"saturated": share, "loss": seen.fact("loss.kind")},
            (
                f"Remove {name} and use a loss that takes logits (BCEWithLogitsLoss, "
                "CrossEntropyLoss).",
                "Start the last layer small: bias at the value that gives the mean target, weights "
                "near zero.",
            ),
            self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """A regression whose last layer ends in a ReLU that is off."""
        return _example(0.98)

    @staticmethod
    def well() -> Reading:
        """The same, on for half of the samples."""
        return _example(0.5)


def _output_activation(record: Record) -> int | None:
    """The activation the loss reads from, if it can block the gradient."""
    site = record.fact("loss.input_site")
    if not isinstance(site, int) or not 0 <= site < len(record.sites):
        return None
    return site if record.sites[site].kind in RECTIFIERS | BOUNDED else None


def _example(zero: float) -> Reading:
    # The second activation of a three-layer chain plays the output.
    series = {"forward.zero": zero}
    facts = {"loss.input_site": 3, "loss.kind": "mse", "target.kind": "real", "target.min": 0.2}
    return Reading(chain(3, series=series, facts=facts))
