"""A loss that stands still."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._course import Course, course
from isograd.rules._examples import chain, with_history
from isograd.rules._numbers import dependence, fact, middle, show
from isograd.rules._profile import effective_updates
from isograd.rules._rates import LARGE, held, lower
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._watched import latest, latest_with, warming
from isograd.sites.chance import terms, uninformed
from isograd.sites.rates import bold_rate


@dataclass(frozen=True)
class Plateau(Rule):
    """The loss stands still.

    Sees: the second half of the losses of a rehearsal or of a watched run: whether they fall by
        more than their noise, and at which value they stand. ln C (0.693, 2.303, 6.908), the
        entropy of the labels and the variance of the targets are the losses of a constant answer.

    Matters: a loss that stands exactly there says that the network ignores its input and has
        learned how often each answer occurs. The reason is upstream: a signal that
        does not arrive, dead units, updates that are too small or too large.

    Wrong when: the run is short. Saddles near a small initialization take hundreds of
        steps to leave, so without a second reading that explains it a plateau is only a remark.
        So it is during a warm-up, in a watched run whose loss has no known chance level, and for a
        network that judges another one, as in a GAN, and is to be fooled.

    Do: read the finding named with it first. If there is none: rehearse longer, raise the
        learning rate by ten, and try to overfit one small batch. Where the steps so far were enough
        to turn every weight over, look at whether targets belong to their inputs.
    """

    code: ClassVar[str] = "IG604"
    rank: ClassVar[int] = 70

    steps: int = 30
    """Steps from which the second half has thirds of five losses each."""
    patience: int = 200
    """Steps after which standing still is bad by itself."""
    errors: float = 2.0
    """Standard errors by which the loss must have fallen to count as falling."""
    fall: float = 0.005
    """The same as a share of its level; half a percent over a quarter of the steps."""
    turned_over: float = 1.0
    """Sum of updates over the weights, from which every weight has had time to become another."""
    near: float = 0.95
    """Level over that of a constant answer from which nothing has been learned from the input."""
    constant: float = 1e-3
    """Spread of the outputs over the samples over their rms, below which they are constant."""
    moved: float = 0.01
    """Part of its size that a weight has moved by in all steps, at most, below which nothing can
    have been learned: had the steps all gone one way, they would have changed it by a hundredth."""
    timid: float = 3e-4
    """A third of a usual step: where a loss stands for twice `steps`, a larger one comes first."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges the second half of the losses."""
        path = course(reading)
        if path is None or path.steps < self.steps or path.broke_at is not None:
            return NotApplicable(
                f"no rehearsal or run of {self.steps} steps with finite losses (optimizer=, steps=)"
            )
        chance = uninformed(reading.seen)
        reference = path.start if chance is None else chance
        if path.falls(errors=self.errors, share=self.fall):
            return Passed(f"the loss falls: {show(path.start)} to {show(path.losses[-1])}")
        own = fact(reading.last, "loss.value")
        same = chance if own is not None and not path.watched else None
        # The chance is that of one batch; on this one nothing has been learned, either.
        if path.level < self.near * reference and not (same and own and own >= self.near * same):
            return Passed(f"the loss stands at {show(path.level)}, below {show(reference)}")
        cause, reason = self._cause(reading, path)
        bad = bool(reason) or path.steps >= self.patience
        known = chance and not reading.last.fact("loop.several")
        if path.watched and (not known or (warming(reading) and cause == "lr-too-low")):
            bad = cause in ("dead-units", "lr-too-high")
        elif path.watched and warming(reading):
            bad = bool(reason)
        return Finding(
            self.code,
            Severity.WARNING if bad else Severity.INFO,
            cause,
            f"The loss stands at {show(path.level)} in the latest {path.latest} of "
            f"{path.steps} steps{self._name(reading.seen, path)}{reason}.",
            evidence={"start": path.start, "level": path.level, "chance": chance},
            remedies=_advice(reading, cause),
        )

    def _name(self, seen: Record, path: Course) -> str:
        for key, name in (
            ("target.entropy", "the entropy of the labels"),
            ("loss.chance", "the loss of a constant answer"),
        ):
            value = (fact(seen, key) or 0.0) * terms(seen)
            if value and abs(path.level / value - 1) < 1 - self.near:
                return f", where {name} is {show(value)}"
        return ""

    def _cause(self, reading: Reading, path: Course) -> tuple[str, str]:
        """The best guess, and what supports it."""
        steps = path.steps
        last = latest_with(reading, "output.spread")
        before, after = dependence(reading.seen), dependence(last)
        update = middle(effective_updates(latest(reading, "weight.update_ratio")).values())
        if after is not None and after < self.constant:
            said = f"; the outputs vary by only {show(after)} of their rms over the samples"
            dead = max(
                (v for _, v in latest(reading, "forward.dead").pairs("forward.dead")), default=0.0
            )
            if dead == 1:
                return "dead-units", said
            if before is not None and before < self.constant:
                return "init-too-small", said
            return (
                "lr-too-high",
                f"{said}, after {show(before)} before training" if before else said,
            )
        to_be = (update or 0.0) * (1.0 if path.watched else held(reading.seen))
        timid = to_be < self.timid and steps >= 2 * self.steps
        if update is not None and (timid or to_be * steps < self.moved):
            return (
                "lr-too-low",
                f"; a step moves the weights by {show(update)} of their size",
            )
        bold = None if path.watched else bold_rate(reading.seen)
        if bold is not None and uninformed(reading.seen) is not None:
            rate = fact(reading.seen, "optimizer.lr") or bold
            more = f", which momentum adds up to {show(bold)}" if bold > rate else ""
            return "lr-too-high", f"; the learning rate is {show(rate)}{more}"
        enough = update is not None and update < LARGE and update * steps > self.turned_over
        if enough and steps >= self.patience:
            return "data-bug", f", although {steps} steps have moved the weights far enough"
        return "optimizer-hyperparameter", ""

    @staticmethod
    def sick() -> Reading:
        """Stands at ln 10 with outputs that became constant."""
        return _rehearsed([2.31 + 0.01 * (-1) ** k for k in range(80)], spread=1e-6)

    @staticmethod
    def well() -> Reading:
        """Falls."""
        return _rehearsed([2.31 * 0.99**k + 0.01 * (-1) ** k for k in range(80)], spread=0.5)


OVERFIT = "Try to overfit one small batch; if that fails, nothing else will work."
HIGHER = "Rehearse with a learning rate ten times higher, and for more steps."
PAIRS = (
    "Look at some inputs beside their targets, as they reach the model: shuffled apart, shifted by "
    "one, or without a relation."
)


def _advice(reading: Reading, cause: str) -> tuple[str, str]:
    if cause == "lr-too-high":
        return f"{lower(reading)}.", OVERFIT
    return (PAIRS, OVERFIT) if cause == "data-bug" else (OVERFIT, HIGHER)


def _rehearsed(losses: list[float], *, spread: float, update: float = 0.01) -> Reading:
    facts = {
        "loss.kind": "cross_entropy",
        "loss.chance": 2.303,
        "output.rms": 1.0,
        "batch.size": 16,
    }
    first = chain(3, series={"weight.update_ratio": update}, facts={**facts, "output.spread": 0.7})
    last = chain(3, facts={**facts, "output.spread": spread}, step=len(losses))
    return with_history(first, last, losses=losses)
