"""The loss before the first step."""

import math
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import WEIGHT_KINDS, Reading, Record
from isograd.rules._causes import UNSCALED
from isograd.rules._course import course
from isograd.rules._examples import chain
from isograd.rules._graph import NORMS
from isograd.rules._numbers import fact, first_update, show
from isograd.rules._profile import outcome, weighed
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.sites.chance import least_loss, shrunk, terms

_NEVER_NEGATIVE = ("cross_entropy", "mse", "l1")


@dataclass(frozen=True)
class InitialLoss(Rule):
    """The initial loss is far from what chance gives.

    Sees: the loss of the batch over that of a prediction that knows nothing: ln C for C classes,
        ln 2 for a yes or no, the mean square of the targets for a regression; and whether
        the loss is summed over the batch.

    Matters: a fresh network should be undecided. A loss many times that of chance means outputs
        so large that the network is confidently wrong, and the first steps are spent on undoing
        it. A loss far below chance means that the answer leaks into the input, if
        the network is fresh; far below the least that its outputs can have, that a factor makes
        it small. A sum over the batch makes every gradient larger by its size. A loss that is the
        negative of chance's has its sign turned.

    Wrong when: the network is trained already, or the loss has further terms.

    Do: scale the output layer's weights down, or the inputs. Take the mean over the batch
        (reduction="mean"), or divide the learning rate by the number of samples.
    """

    code: ClassVar[str] = "IG603"
    rank: ClassVar[int] = 50
    explains: ClassVar[tuple[str, ...]] = ("IG205", "IG304", "IG305", "IG401", "IG604", "IG609")

    above: float = 10.0
    """Loss over chance: a usual initialization (He, 20 layers) reaches 2.4, three unscaled
    residual blocks 6, and both learn; at 10 the wrong class leads by two dozen nats."""
    unlearned: float = 3.0
    """The same where a training has not come below chance, so that nothing was absorbed."""
    above_squared: float = 100.0
    """The same for squared errors: outputs ten times as large as the targets."""
    below: float = 0.3
    """Loss over chance: a fresh network that guesses no one does so well on a whole batch."""
    patience: int = 20
    """Steps of a training in which what can be absorbed has been, at least in part."""
    long: int = 60
    """Steps in which all of it has been."""
    amplified: float = 10.0
    """Rms of the outputs over that of what the last layer is given: any initializer has up to 2."""
    update: float = 0.1
    """First update over weight: a tenth of the weight in one step undoes the initialization."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares with chance, per sample if the loss is a sum."""
        seen = reading.seen
        if seen.step:
            return NotApplicable(f"the first look is that of step {seen.step}, not of the start")
        value, chance = fact(seen, "loss.value"), _of_chance(seen)
        if value is None or chance is None or chance <= 0:
            return NotApplicable(
                "the record holds no loss whose chance level is known (cross-entropy, BCE, MSE or "
                "L1 with targets)"
            )
        samples = terms(seen)
        summed = samples > 1
        own = value / samples
        ratio, least = own / chance, own / (fact(seen, "loss.chance") or chance)
        update = first_update(seen)
        if summed and update is not None and update > self.update:
            return self._summed(reading, value, samples, update)
        kind, meant = seen.fact("loss.kind"), seen.fact("optimizer.maximize")
        if kind in _NEVER_NEGATIVE and self.below < -ratio < self.above and not meant:
            return self._reversed(value, chance)
        above = self.above_squared if kind == "mse" else self.above
        if ratio > (self.unlearned if self._above_still(reading, chance) else above):
            return self._high(reading, value, chance, ratio)
        if shrunk(seen):
            return self._shrunk(own, least_loss(seen) or 0.0)
        if 0 <= least < self.below:
            return self._low(own, own / least if least else chance, least)
        if summed:
            return self._summed(reading, value, samples, update)
        return Passed(f"loss {show(value)}, chance {show(chance)}")

    def _above_still(self, reading: Reading, chance: float) -> bool:
        path = course(reading)
        steps = 0 if path is None else path.steps
        return path is not None and steps >= self.long and path.level > chance * terms(reading.seen)

    def _reversed(self, value: float, chance: float) -> Finding:
        return Finding(
            self.code,
            Severity.ERROR,
            "loss-mismatch",
            f"The loss is {show(value)}, and a loss of its kind is never negative: chance has "
            f"{show(chance)}, so that its sign is turned and training makes the error larger.",
            evidence={"loss.value": value, "loss.chance": chance},
            remedies=(
                "Remove the minus sign in front of the loss; if it is meant (an adversary), leave "
                "it, and bound the loss.",
            ),
            explains=self.explains,
        )

    def _summed(
        self, reading: Reading, value: float, samples: float, update: float | None
    ) -> Finding:
        # The steps of an adaptive optimizer do not grow with the gradient.
        adaptive = bool(reading.seen.fact("optimizer.adaptive"))
        harm = update is not None and update > self.update and not adaptive
        return Finding(
            self.code,
            weighed(Severity.WARNING, outcome(reading)) if harm else Severity.INFO,
            "lr-too-high" if harm else "optimizer-hyperparameter",
            f"The loss {show(value)} is a sum of {samples:.0f} terms, so that every gradient "
            f"is about {samples:.0f} times that of their mean"
            + (f"; the first step moves the weights by {update:.0%}." if harm else "."),
            evidence={"loss.value": value, "terms": samples, "update_ratio": update},
            remedies=(
                'Take the mean over the batch (reduction="mean"), or divide the learning rate by '
                f"{samples:.0f}.",
            ),
            explains=self.explains if harm else (),
        )

    def _high(self, reading: Reading, value: float, chance: float, ratio: float) -> Finding:
        seen = reading.seen
        out = fact(seen, "output.rms")
        size = f", from outputs of rms {show(out)}" if out is not None else ""
        place = seen.fact("loss.input_site")
        known = isinstance(place, int) and 0 <= place < len(seen.sites)
        stream = _residual(seen)
        return Finding(
            self.code,
            self._severity(reading),
            "unscaled-residual" if stream else "init-too-large",
            f"The initial loss is {show(value)}, {show(ratio)} times that of chance "
            f"({show(chance)}){size}.",
            sites=(seen.sites[place].name,) if known else (),
            evidence={"loss.value": value, "loss.chance": chance, "output.rms": out},
            remedies=UNSCALED
            if stream
            else (
                "Scale the output layer's weights down until its outputs are of the order of 1, or "
                "start them at zero.",
                "If every layer's outputs are large, normalize the inputs first.",
            ),
            explains=self.explains,
        )

    def _severity(self, reading: Reading) -> Severity:
        # A norm, or an optimizer that divides by the gradient's size, undoes a large start.
        seen = reading.seen
        path, chance = course(reading), _of_chance(seen)
        normed = any(s.kind in NORMS for s in seen.sites) and not self._head_amplifies(seen)
        absorbed = seen.fact("optimizer.adaptive") or normed
        tried = path is not None and path.steps >= self.patience and path.level / terms(seen)
        if tried and chance and (tried > self.above * chance or self._above_still(reading, chance)):
            return Severity.WARNING  # it has not been absorbed in all these steps
        if absorbed or outcome(reading) == "trains":
            return Severity.INFO
        return Severity.WARNING

    def _head_amplifies(self, seen: Record) -> bool:
        """Whether it is the last layer, behind every norm, that makes the outputs large."""
        place = seen.fact("loss.input_site")
        if not isinstance(place, int) or not 0 <= place < len(seen.sites):
            return False
        site = seen.sites[place]
        out = seen.value("forward.rms", place)
        into = [rms for i in site.inputs if (rms := seen.value("forward.rms", i))]
        large = bool(out and into) and (out or 0.0) > self.amplified * max(into, default=1.0)
        return site.kind in WEIGHT_KINDS and large

    def _low(self, value: float, chance: float, ratio: float) -> Finding:
        return Finding(
            self.code,
            Severity.INFO,
            "data-bug",
            f"The loss is {show(value)}, {show(ratio)} times that of chance ({show(chance)}): the "
            "network is trained already, or the answer is in its input.",
            evidence={"loss.value": value, "loss.chance": chance},
            remedies=("If the network is fresh, look for the target among the inputs.",),
        )

    def _shrunk(self, value: float, least: float) -> Finding:
        return Finding(
            self.code,
            Severity.INFO,
            "loss-mismatch",
            f"The loss is {show(value)}, where outputs as close together as these have at least "
            f"{show(least)}: a factor in front of it makes it small, and every gradient with it.",
            evidence={"loss.value": value, "least": least},
            remedies=(
                "Take the factor away; if it is meant, raise the learning rate by as much, unless "
                "the optimizer is adaptive.",
            ),
        )

    @staticmethod
    def sick() -> Reading:
        """Outputs a hundred times too large."""
        return _loss(85.0, kind="cross_entropy", chance=math.log(10))

    @staticmethod
    def well() -> Reading:
        """He initialization, twenty layers."""
        return _loss(5.43, kind="cross_entropy", chance=math.log(10))


def _residual(seen: Record) -> bool:
    """Whether the outputs are large because residual branches as large as their stream add up."""
    ratios = [ratio for _, ratio in seen.pairs("forward.branch_ratio")]
    normed = any(site.kind in NORMS for site in seen.sites)
    return len(ratios) > 1 and median(ratios) > AS_LARGE and not normed


AS_LARGE = 0.5
"""Branch over stream: the variance then grows by a quarter and more at every addition."""


def _of_chance(seen: Record) -> float | None:
    """What a fresh network that answers zero would have."""
    chance = fact(seen, "loss.chance")
    mean, std = fact(seen, "target.mean"), fact(seen, "target.std")
    if chance is None or mean is None or std is None:
        return chance
    if seen.fact("loss.kind") == "mse":
        return max(chance, mean**2 + std**2)
    return max(chance, abs(mean)) if seen.fact("loss.kind") == "l1" else chance


def _loss(value: float, *, kind: str, chance: float, **facts: object) -> Reading:
    numbers = {"loss.value": value, "loss.kind": kind, "loss.chance": chance, "output.rms": 1.7}
    return Reading(
        chain(3, series={"weight.update_ratio": 0.01}, facts={**numbers, "batch.size": 16, **facts})
    )
