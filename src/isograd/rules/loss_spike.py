"""A loss that jumps up and does not come down."""

import math
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._course import Course, course, known_chance, noise
from isograd.rules._examples import chain, run
from isograd.rules._numbers import fact, show
from isograd.rules._rates import rates, steps_to_blame
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._watched import cures


@dataclass(frozen=True)
class LossSpike(Rule):
    """The loss has jumped up and stays there.

    Sees: the losses of a watched run: the median of the latest stretch beside that of the stretch
        before, in units of what training had gained and of their own noise, and whether the
        latest part of it is on its way down.

    Matters: a spike comes from a step that was too large, a broken batch, or data that have
        changed. Most heal within a hundred steps; one that does not has thrown the network into
        another place, and going on from there costs more than going back.

    Wrong when: the task is meant to change, as in a curriculum, or the learning rate was raised on
        purpose (a restart): then it is information. A loss that wanders, as of a GAN, has a noise
        of its own, which is allowed for.

    Do: go back to the last checkpoint before the jump, leave the batches at it out, and lower the
        learning rate; clip the gradient norm. Where the loss was up from one step to the next
        although no step had been large, the data have changed: look at the batches from there on.
    """

    code: ClassVar[str] = "IG610"
    rank: ClassVar[int] = 66
    explains: ClassVar[tuple[str, ...]] = ("IG604",)

    lasting: int = 50
    """Steps for which the loss must be up: most spikes that heal are past their worst by then."""
    before: int = 100
    """Steps before these that say where the loss was, and how much it varies."""
    lost: float = 0.2
    """Part of what training had gained that is lost again."""
    unknown: float = 1.0
    """The same, as a part of the loss itself, of a loss that has no known chance level and has not
    halved: an adversarial one rises by half while all is well."""
    errors: float = 5.0
    """Standard deviations of a single loss by which the level must have risen."""
    heals: float = 0.7
    """Part of the rise that is left in the latest losses; below, it is on its way down."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the latest losses with those before."""
        path = course(reading)
        if path is None or not path.watched or len(path.losses) < self.lasting + self.before // 2:
            return NotApplicable(
                f"no watched run of {self.lasting + self.before // 2} steps (isograd.watch)"
            )
        if path.broke_at is not None:
            return NotApplicable(f"the loss is not finite from step {path.broke_at} on: see IG609")
        worst = self._jump(path, known_chance(reading.seen))
        if worst is None:
            return Passed(f"the loss is {show(median(path.losses[-self.lasting :]))}, and no jump")
        step, usual, now = worst
        found = rates(reading)
        raised = len(found) > 1 and found[-1] > 1.5 * min(found[len(found) // 2 :])
        other = _at_once(path, step, usual, now) and not steps_to_blame(reading, step)
        reason = ", from one step to the next although steps were small" if other else ""
        back = f"Go back to a checkpoint from before step {step}, and leave those batches out."
        return Finding(
            self.code,
            Severity.INFO if raised else Severity.WARNING,
            "data-bug" if other else "lr-too-high",
            f"The loss has jumped from {show(usual)} to {show(now)} at about step {step}"
            f"{reason}, and has stayed there for {path.watched[-1] - step} steps.",
            evidence={
                "before": usual,
                "now": now,
                "step": step,
                "lr": fact(reading.last, "optimizer.lr"),
            },
            remedies=(
                f"Look at the batches from step {step} on: their labels, how they are prepared, "
                "which file they come from.",
                back,
            )
            if other
            else (back, *cures(reading)),
            explains=() if raised else self.explains,
        )

    def _jump(self, path: Course, chance: float | None) -> tuple[int, float, float] | None:
        """Step of a jump from which the loss has not come back, level before, and of now."""
        losses = path.losses
        last = sorted(losses[-self.lasting :])
        now, low = median(last), last[len(last) // 5]  # not a few of them, nearly all are up
        late = median(losses[-max(3, self.lasting // 5) :])
        start = median(losses[: max(3, self.lasting // 10)])
        start = start if chance is None else max(start, chance)
        found: list[tuple[float, int]] = []
        for end in self._ends(len(losses), far=chance is not None):
            past = losses[max(0, end - self.before) : end]
            usual = median(past)
            scale = self.lost * abs(start - usual)
            if chance is None and start - usual < abs(usual):
                scale = max(scale, self.unknown * abs(usual))
            risen = low - usual > max(scale, self.errors * max(noise(past), _spread(past)))
            if risen and late - usual > self.heals * (now - usual):
                found.append((usual, end))
        if not found:
            return None
        usual, end = min(found)
        end = max(2, end - self.lasting)
        while _loss(losses, end) < (usual + now) / 2:  # the stretches are coarse
            end += 1
        return path.watched[end], usual, late

    def _ends(self, count: int, *, far: bool) -> list[int]:
        """Where the past may end: the jump may lie further back than the latest stretch."""
        ends = [count - k * self.lasting for k in (1, 2, 4, 8)]
        ends += [count // 2, count // 4]  # where the losses are thinned out
        return [end for end in (ends if far else ends[:1]) if end >= self.before // 2]

    @staticmethod
    def sick() -> Reading:
        """Jumps from 0.6 to 1.9 and stays."""
        return _example(1.9)

    @staticmethod
    def well() -> Reading:
        """Wanders up a little."""
        return _example(0.65)


def _at_once(path: Course, step: int, usual: float, now: float) -> bool:
    """Whether the loss was at its usual level one step, and at that of now the next."""
    half, quarter = (usual + now) / 2, usual + (now - usual) / 4
    place = path.watched.index(step)
    near = range(max(AROUND, place - AROUND), min(place + AROUND, len(path.losses)))
    first = next((k for k in near if path.losses[k] > half), None)
    if first is None or path.watched[first] - path.watched[first - AROUND] != AROUND:
        return False  # some losses between are not known any more
    return median(path.losses[first - AROUND : first]) < quarter and all(
        loss > quarter for loss in path.losses[first : first + AROUND]
    )


AROUND = 4
"""Losses before and after a jump that say how fast it was: steps that are too large make the loss
climb over several."""


def _loss(losses: tuple[float, ...], index: int) -> float:
    """Median of a few losses around one; without end at the last ones."""
    return median(losses[index - 2 : index + 3]) if index + 3 < len(losses) else math.inf


def _spread(losses: tuple[float, ...]) -> float:
    """Robust standard deviation of the latest half, slow movements included."""
    half = losses[len(losses) // 2 :]
    middle = median(half)
    return 1.4826 * median(abs(loss - middle) for loss in half)


def _example(level: float) -> Reading:
    losses = [0.6 + 1.7 * 0.95**k + 0.01 * (-1) ** k for k in range(200)]
    losses += [level + 0.01 * (-1) ** k for k in range(60)]
    return run(chain(3), chain(3, step=len(losses)), losses=losses)
