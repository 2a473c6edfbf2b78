"""The proof: the network as it is and a change, trained alike from fresh seeds."""

import math
from collections.abc import Callable, Sequence

from isograd.remedies import Case
from isograd.repairs.comparing import LEVEL, REPEATED, SMALLEST, Comparison
from isograd.repairs.racing import Runner
from isograd.repairs.result import Trial
from isograd.repairs.scoring import Judge
from isograd.repairs.supply import Supply
from isograd.repairs.treatments import Treatment

FEWEST = 3
"""Seeds before anything is concluded."""


class Series:
    """Equal trainings of one treatment, a seed after the other."""

    def __init__(self, treatment: Treatment, case: Case, supply: Supply, judge: Judge) -> None:
        self.treatment = treatment
        self._case, self._supply, self._judge = case, supply, judge
        self._runs: list[tuple[tuple[float, ...], float, str | None]] = []

    def run(self, seed: int, steps: int) -> int:
        """Trains from one more seed, and judges the end; returns the steps it took.

        Raises:
            IsogradError: the network cannot be trained; of a change, that it cannot be made.
        """
        runner = Runner(self.treatment, self.treatment.start(self._case, seed), seed)
        taken = runner.advance(self._supply, steps)
        self._runs.append((tuple(runner.losses), runner.judged(self._judge), runner.broke))
        return taken

    def __len__(self) -> int:
        return len(self._runs)

    def first(self, count: int) -> Trial:
        """The first runs."""
        losses, scores, broke = zip(*self._runs[:count], strict=True)
        return Trial(self.treatment.name, losses, scores, broke)


def prove(
    before: Series,
    after: Series,
    *,
    seeds: Sequence[int],
    steps: int,
    untrained: float,
    afford: Callable[[int], bool],
    spend: Callable[[int], None],
) -> tuple[Trial, Trial, Comparison]:
    """Trains both from seed after seed, until the change is known to be better or seeds run out.

    Args:
        before: the network as it is; runs that it has are used again.
        after: the change.
        seeds: at most these; with more than FEWEST the proof is looked at after each.
        steps: of every run.
        untrained: score before training.
        afford: whether so many more steps may be taken.
        spend: told the steps that were taken.
    """
    level = LEVEL if len(seeds) <= FEWEST else REPEATED
    for place, seed in enumerate(seeds):
        missing = (len(before) <= place) + (len(after) <= place)
        if place >= FEWEST and not afford(missing * steps):
            break
        for series in (before, after):
            if len(series) <= place:
                spend(series.run(seed, steps))
        if FEWEST <= place + 1 < len(seeds):
            both = before.first(place + 1), after.first(place + 1)
            found = compared(*both, untrained, level)
            if found.better or found.gain <= 0:
                break
    count = min(len(before), len(after))
    both = before.first(count), after.first(count)
    return *both, compared(*both, untrained, level)


def compared(before: Trial, after: Trial, untrained: float, level: float) -> Comparison:
    """Two trials on the same seeds.

    Args:
        before: of the network as it is.
        after: of the change.
        untrained: score of the network before training: a run that broke, or ended worse than
            that, counts as much, so that one such run does not decide.
        level: of the test.
    """
    worst = untrained if math.isfinite(untrained) else _finite_worst(before, after)
    return Comparison(
        tuple(min(score, worst) for score in before.scores),
        tuple(min(score, worst) for score in after.scores),
        level,
        # To train at all is worth a change, however little a short training shows.
        0.0 if all(before.broke) and not any(after.broke) else SMALLEST,
    )


def _finite_worst(*trials: Trial) -> float:
    finite = [s for t in trials for s in t.scores if math.isfinite(s)]
    return 2 * max(finite, default=1.0) + 1
