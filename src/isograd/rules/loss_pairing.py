"""The loss and what is handed to it."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._examples import chain
from isograd.rules._numbers import fact, show, words
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OF_TRAINING, OVER_DEPTH

_OVER_CLASSES = ("cross_entropy", "nll", "bce", "bce_logits", "mse", "l1")
"""Losses that read the softmax's result as it is."""

_LOGARITHMS = ("log_softmax", "log", "logsigmoid", "logsumexp")


@dataclass(frozen=True)
class LossPairing(Rule):
    """The loss expects something else than it gets.

    Sees: the operations between the last weight layer and the loss: a softmax in front of
        cross_entropy (which applies it itself), a sigmoid in front of
        binary_cross_entropy_with_logits or cross_entropy, nll_loss without a logarithm, kl_div of
        numbers above zero, BCE on numbers that are no probabilities, a softmax over an axis of
        length one, or over the samples of the batch, and several labels of a sample in a cross
        entropy.

    Matters: applied twice, softmax squeezes ten logits into probabilities between 0 and 1, so
        that the loss can never go below 1.46 for ten classes, and its gradient is weak. A softmax
        over one unit is the constant 1: no gradient at all. Over the samples it says which of
        them a class fits best, and not which class fits a sample. nll_loss and kl_div without a
        logarithm reward larger numbers without bound. A cross entropy of several labels wants the
        same share for each of them, and says nothing of those that are false.

    Wrong when: the squeeze is wanted. log_softmax before cross_entropy changes nothing.

    Do: hand logits to cross_entropy and to binary_cross_entropy_with_logits, and keep softmax or
        sigmoid for prediction.
    """

    code: ClassVar[str] = "IG605"
    rank: ClassVar[int] = 0
    explains: ClassVar[tuple[str, ...]] = (*OVER_DEPTH, *OF_TRAINING)

    outside: float = 1e-3
    """How far below 0 or above 1 an output must lie to be no probability: beyond rounding."""
    unlike: float = 0.05
    """How far from 1 probabilities may add up to: what is added for safety stays below."""
    narrow: int = 2
    """Length of a softmax's axis below which its result is constant."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the loss with what precedes it."""
        seen = reading.seen
        kind, ops = seen.fact("loss.kind"), words(seen.fact("loss.input_ops"))
        if not isinstance(kind, str) or kind == "probe":
            return NotApplicable("no loss was measured (hand targets and a loss to measure())")
        width = self._width(seen, kind)
        if width is not None and width < self.narrow and kind in _OVER_CLASSES:
            return self._finding(
                seen,
                f"The softmax before the loss runs over an axis of length {width:.0f}: its result "
                "is 1 whatever the network computes, and its gradient is 0.",
                "Give the output layer one unit per class, or one unit with "
                "binary_cross_entropy_with_logits and no softmax.",
            )
        if self._over_samples(seen) and kind in _OVER_CLASSES and kind != "cross_entropy":
            return self._finding(
                seen,
                "The softmax before the loss runs over axis 0, the "
                f"{fact(seen, 'batch.size'):.0f} samples of the batch, in place of the classes.",
                "Name the axis of the classes: softmax(…, dim=-1), or dim=1 for maps.",
            )
        found = self._mismatch(seen, kind, ops)
        if found is not None:
            return self._finding(seen, *found)
        if kind == "cross_entropy" and "log_softmax" in ops:
            return self._finding(
                seen,
                "log_softmax is applied 2 times, by the model and by cross_entropy; the second "
                "changes nothing.",
                "Use nll_loss, or drop log_softmax from the model.",
                Severity.INFO,
            )
        return Passed(f"{kind} fits the {len(ops)} operations before it")

    def _over_samples(self, seen: Record) -> bool:
        """Whether the first axis is normalized, of an output whose samples lie along it."""
        sizes, samples = seen.fact("output.shape"), fact(seen, "batch.size")
        apart = isinstance(sizes, (list, tuple)) and len(sizes) > 1 and sizes[0] == samples
        return bool(apart) and seen.fact("output.softmax_axis") == 0

    def _width(self, seen: Record, kind: str) -> float | None:
        if kind == "cross_entropy" and fact(seen, "target.classes") is not None:
            return fact(seen, "target.classes")
        return fact(seen, "output.softmax_width")

    def _mismatch(self, seen: Record, kind: str, ops: tuple[str, ...]) -> tuple[str, str] | None:
        low, high = fact(seen, "output.min"), fact(seen, "output.max")
        inside = "" if low is None or high is None else f" in [{show(low)}, {show(high)}]"
        wild = (
            low is not None
            and high is not None
            and (low < -self.outside or high > 1 + self.outside)
        )
        logits = "Remove {} before the loss; apply it to the outputs for prediction only."
        # A logarithm of the softmax, or a logit of the sigmoid, gives logits back.
        twice = "softmax" in ops and "log" not in ops[ops.index("softmax") :]
        if kind == "cross_entropy" and twice:
            return (
                "softmax is applied 2 times, by the model and by cross_entropy: the loss sees "
                f"probabilities{inside} in place of logits, and cannot fall to 0.",
                logits.format("softmax"),
            )
        flat = "sigmoid" in ops and "logit" not in ops[ops.index("sigmoid") :]
        if kind in ("cross_entropy", "bce_logits") and flat:
            return (
                f"sigmoid stands before {kind}, which expects logits: it sees probabilities"
                f"{inside}, and cannot fall to 0.",
                logits.format("sigmoid"),
            )
        off = fact(seen, "target.improper")
        if kind == "cross_entropy" and off is not None and off > self.unlike:
            return (
                "cross_entropy takes the targets of a sample for probabilities of classes that "
                f"exclude each other, and they miss 1 by {show(off)} in all.",
                "For labels that may be true together use binary_cross_entropy_with_logits.",
            )
        off = fact(seen, "loss.improper")
        alien = not any(op in _LOGARITHMS for op in ops)
        if kind == "nll" and (alien if off is None else off > self.unlike):
            told = "" if off is None else f": those of a sample miss 1 by {show(off)} in all"
            return (
                f"nll_loss gets numbers{inside} that are no logarithms of probabilities{told}.",
                "Put log_softmax before nll_loss, or use cross_entropy on the logits.",
            )
        if kind == "kl" and high is not None and high > self.outside:
            return (
                f"kl_div gets numbers{inside}; logarithms of probabilities are below zero.",
                "Put log_softmax before kl_div in place of softmax.",
            )
        if kind == "bce" and "sigmoid" not in ops and "softmax" not in ops and wild:
            return (
                f"binary_cross_entropy gets numbers{inside}, which are no probabilities.",
                "Use binary_cross_entropy_with_logits, or put a sigmoid before the loss.",
            )
        return None

    def _finding(
        self, seen: Record, message: str, remedy: str, severity: Severity = Severity.ERROR
    ) -> Finding:
        place = seen.fact("loss.input_site")
        known = isinstance(place, int) and 0 <= place < len(seen.sites)
        return Finding(
            self.code,
            severity,
            "loss-mismatch",
            message,
            sites=(seen.sites[place].name,) if known else (),
            evidence={
                "loss.kind": seen.fact("loss.kind"),
                "loss.input_ops": words(seen.fact("loss.input_ops")),
                "output.softmax_width": seen.fact("output.softmax_width"),
            },
            remedies=(remedy,),
            explains=self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Numbers that are no probabilities in BCE, from a softmax over one unit."""
        return _binary(ops=["softmax", "binary_cross_entropy"], width=1)

    @staticmethod
    def well() -> Reading:
        """A sigmoid in its place."""
        return _binary(ops=["clamp", "binary_cross_entropy"], width=2)


def _binary(*, ops: list[str], width: int, high: float = 1.0) -> Reading:
    facts = {
        "loss.kind": "bce",
        "loss.input_ops": ops,
        "output.softmax_width": width,
        "output.min": 0.1,
        "output.max": high,
    }
    return Reading(chain(3, facts=facts))
