"""A learning rate above what the curvature of the loss allows."""

import math
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._examples import reading
from isograd.rules._graph import NORMS
from isograd.rules._numbers import fact, show
from isograd.rules._profile import outcome
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule


@dataclass(frozen=True)
class SharpLoss(Rule):
    """The learning rate is too large for the curvature of the loss.

    Sees: the learning rate times the largest eigenvalue of the loss's Hessian on this batch,
        against the 2 (1 + momentum) beyond which gradient descent overshoots along that direction
        by more at every step. In a rehearsal also whether its steps multiplied the loss.

    Matters: above it the loss rises along the sharpest direction until something gives: the
        network finds a flatter place, or its units die, or it overflows.

    Wrong when: the optimizer is adaptive, which rescales each direction. Real networks survive
        several times the limit, because the first steps throw them into a flatter place; that
        range is information. With norms it is never more: the curvature falls as the weights grow,
        and batch-normalized networks learn at sixty times the limit.

    Do: lower the learning rate below the limit that is named, or reach it by warming up.
    """

    code: ClassVar[str] = "IG305"
    rank: ClassVar[int] = 62
    explains: ClassVar[tuple[str, ...]] = ("IG203", "IG204", "IG205", "IG401", "IG604", "IG609")

    survived: float = 12.0
    """Times the limit. Default recipes run at 2 to 6 and settle; at 17 a three-layer ReLU network
    is destroyed within twelve steps."""
    harmless: float = 0.02
    """First update over weight, for the median: below it the sharp direction is one that the
    gradient hardly has, such as behind a square root near zero, whatever its curvature."""
    thrown: float = 3.0
    """Largest loss of the first steps over the first one: beyond it they threw the network to where
    it has to start again, from weights that nobody chose. Noise of batches stays below."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the learning rate with the limit."""
        seen = reading.seen
        sharpness, rate = fact(seen, "sharpness.lambda_max"), fact(seen, "optimizer.lr")
        if sharpness is None or rate is None:
            return NotApplicable(
                "needs the optimizer's learning rate and the sharpness of the loss"
            )
        if seen.fact("optimizer.adaptive"):
            return NotApplicable("the optimizer is adaptive: each direction has its own step")
        if sharpness <= 0:
            return Passed("the sharpest direction does not curve upward here")
        limit = 2 * (1 + (fact(seen, "optimizer.momentum") or 0.0)) / sharpness
        times = rate / limit
        if times <= 1:
            return Passed(f"the learning rate is {show(times)} of the limit {show(limit)}")
        normalized = any(site.kind in NORMS for site in seen.sites)
        result = outcome(reading)
        ill = times > self.survived and not normalized and _step(seen) > self.harmless
        severity = Severity.WARNING if ill else Severity.INFO
        if result == "diverges":
            severity = Severity.ERROR
        elif reading.history and _thrown(reading) > self.thrown:
            severity = Severity.WARNING
        elif reading.history and result != "flat":  # the steps were taken, and did no harm
            severity = Severity.INFO
        return Finding(
            self.code,
            severity,
            "lr-too-high",
            f"The learning rate {show(rate)} is {show(times)} times the {show(limit)} at which "
            f"gradient descent overshoots in the sharpest direction (curvature {show(sharpness)}).",
            evidence={"lr": rate, "limit": limit, "times": times, "lambda_max": sharpness},
            remedies=(
                f"Lower the learning rate below {show(limit)}, or warm it up from there.",
                "Or use an adaptive optimizer (AdamW at 1e-3).",
            ),
            explains=() if severity is Severity.INFO else self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Twenty times the limit."""
        return _example(0.5)

    @staticmethod
    def well() -> Reading:
        """Half of it."""
        return _example(0.0125)


def _thrown(reading: Reading) -> float:
    """Largest loss of a rehearsal over what it started with, or guessing has; 0 without one."""
    losses = [v for v in reading.last.fact("rehearsal.losses") or () if math.isfinite(v)]
    start = max(losses[0], fact(reading.seen, "loss.chance") or 0.0) if losses else 0.0
    return max(losses) / start if start > 0 else 0.0


def _step(record: Record) -> float:
    """What the first step changes of a typical weight; infinite where it was not measured."""
    steps = [ratio for _, ratio in record.pairs("weight.update_ratio") if ratio > 0]
    return median(steps) if steps else math.inf


def _example(rate: float) -> Reading:
    facts = {"sharpness.lambda_max": 80.0, "optimizer.lr": rate, "optimizer.momentum": 0.0}
    return reading(3, series={"weight.update_ratio": 0.3 * rate}, facts=facts)
