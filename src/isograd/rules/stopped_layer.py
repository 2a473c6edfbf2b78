"""A layer that learned and no longer does, while others go on."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._examples import over_steps
from isograd.rules._numbers import counted, finite, show, words
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._watched import NOW, looks, over, some


@dataclass(frozen=True)
class StoppedLayer(Rule):
    """A layer has stopped learning.

    Sees: the gradient of every weight relative to the weight, over that of the typical weight of
        the same look, at every look of a watched run; and how far that has fallen below its own
        past. What changes all layers alike, a schedule or the end of training, cancels.

    Matters: dead units, saturation or a cut graph before it leave a layer without a gradient. The
        others go on around it, the loss still falls a little, and nothing looks broken.

    Wrong when: the layer was frozen or its part of the loss was turned off on purpose; what is
        frozen by requires_grad is not looked at. An expert or a head that the recent batches did
        not use looks like it too.

    Do: look at the layers named between it and the loss: dead or saturated units, a detach, a
        mask; a lower learning rate for what has not broken yet.
    """

    code: ClassVar[str] = "IG308"
    rank: ClassVar[int] = 65
    explains: ClassVar[tuple[str, ...]] = ()

    looks: int = 6
    """Looks needed: the median of three now, and of three before."""
    fell: float = 1e-2
    """Share of its own past, relative to the others, that is left; the layers of healthy
    networks wander by a factor of ten at most."""
    behind: float = 1e-2
    """The same relative to the typical layer of now."""
    fewest: int = 3
    """Weights below which there is no typical one."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares each weight with the others, now and in its past."""
        seen = reading.seen
        column = over(reading, "weight.grad_rms", fewest=self.looks)
        if isinstance(column, NotApplicable):
            return column
        frozen = {*words(looks(reading)[-1].fact("model.frozen"))}
        places = [
            i
            for i, p in enumerate(seen.parameters)
            if p.is_weight and p.trainable and p.name not in frozen
        ]
        sizes = over(reading, "weight.rms", fewest=len(column.steps))
        rms = {i: (sizes.rows[i] if not isinstance(sizes, NotApplicable) else ()) for i in places}
        chosen = some(len(column.steps))
        paths = {i: _relative(column.rows[i], rms[i], chosen) for i in places}
        known = {i: path for i, path in paths.items() if None not in path}
        if len(known) < self.fewest:
            return NotApplicable(
                f"{counted(len(known), 'weight')} with a gradient at every look, {self.fewest} are "
                "needed"
            )
        now = {i: _at(path[-NOW:]) for i, path in known.items()}
        then = {i: _at(path[:-NOW]) for i, path in known.items()}
        usual_now, usual_then = median(now.values()), median(then.values())
        if usual_now <= 0 or usual_then <= 0:
            return NotApplicable("half of the weights have a gradient of 0")
        left = {i: (now[i] / usual_now) / (then[i] / usual_then) for i in known if then[i] > 0}
        stopped = [i for i in left if left[i] < self.fell and now[i] < self.behind * usual_now]
        if not stopped:
            least = min(left.values(), default=1.0)
            return Passed(f"every weight keeps at least {show(least)} of its share of learning")
        return self._finding(reading, stopped, left, column.steps[-1])

    def _finding(
        self, reading: Reading, stopped: list[int], left: Mapping[int, float], step: int
    ) -> Finding:
        seen = reading.seen
        worst = min(stopped, key=lambda i: left[i])
        name = seen.parameters[worst].name
        return Finding(
            self.code,
            Severity.WARNING,  # whatever the loss does: the other layers go on without it
            "graph-cut" if left[worst] == 0 else "lr-too-high",
            f"The gradient of {name} relative to the other weights is {show(left[worst])} of what "
            f"it was ({len(stopped)} weights have stopped learning at step {step}).",
            tuple(seen.parameters[i].name for i in sorted(stopped, key=lambda i: left[i])),
            {"left": left[worst], "weights": len(stopped), "step": step},
            (
                f"Look between {name} and the loss for units that died or saturated, a detach or "
                "a mask.",
                "Go back to a checkpoint from before, with a lower learning rate.",
            ),
        )

    @staticmethod
    def sick() -> Reading:
        """The second of four layers falls behind by a factor of a thousand."""
        return _example(1e-6)

    @staticmethod
    def well() -> Reading:
        """All gradients fall alike."""
        return _example(1e-3)


def _relative(
    gradients: tuple[float | None, ...], rms: tuple[float | None, ...], chosen: list[int]
) -> list[float | None]:
    """Gradient over weight at some looks; the gradient alone where the weight is not known."""
    known = len(rms) == len(gradients)
    found: list[float | None] = []
    for look in chosen:
        number, size = finite(gradients[look]), finite(rms[look]) if known else 1.0
        found.append(None if number is None or not size else number / size)
    return found


def _at(path: list[float | None]) -> float:
    return median(v for v in path if v is not None)


def _example(last: float) -> Reading:
    losses = [2.3 * 0.97**k for k in range(30)] + [2.0] * 70
    column = [[1e-3, 2e-3, 1e-3, 3e-3]] * 6 + [[1e-3, last, 1e-3, 2e-3]] * 4
    return over_steps({"weight.grad_rms": column, "weight.rms": [0.1] * 10}, losses)
