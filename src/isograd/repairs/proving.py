"""The proof: the network as it is and a change, trained alike from fresh seeds."""

import math
from collections.abc import Callable, Sequence

from isograd.remedies import Case
from isograd.repairs.choosing import NOISE
from isograd.repairs.comparing import LEVEL, REPEATED, SMALLEST, Comparison
from isograd.repairs.racing import Runner
from isograd.repairs.result import Trial
from isograd.repairs.scoring import Judge, failed
from isograd.repairs.supply import Supply
from isograd.repairs.treatments import Treatment

FEWEST = 3
"""Seeds before anything is concluded."""
MOST_SEEDS = 5
"""Runs of the proof: more seeds prove more than longer runs do."""
SHORTEST = 20
"""Steps of a run of the proof below which fewer seeds are better."""
FEWEST_STEPS = 6
"""Steps below which a first rung of a race, or a run of the proof, says nothing."""
LOOKS = 4, 2
"""A proof is looked at after a quarter and after half of its steps."""
EARLY = 0.005
"""Chance of error that these looks may take together; the rest is left for the end."""
TELLS = 0.002
"""Part of the score of who has learned nothing that 256 samples tell from it: who is below by more
has learned."""
HOPE = 0.25
"""Above this `p` further seeds would be wasted."""
CLEAR = 0.1
"""A gain that ends a proof early is at least ten percent of the score."""
RAN_AWAY = 100.0
"""Times its start at which the loss of a run is lost: who comes back from there does so later."""
SHORTEST_LOOK = 4
"""Steps after which a look says something."""
MOST_BYTES = 2**28
"""Weights of all runs together up to which they are kept, so that they can be continued."""


class Series:
    """Equal trainings of one treatment, a seed after the other."""

    def __init__(self, treatment: Treatment, case: Case, supply: Supply, judge: Judge) -> None:
        self.treatment = treatment
        self._case, self._supply, self._judge = case, supply, judge
        self._runs: list[Runner] = []

    def run(self, seed: int, steps: int, *, keep: bool = False) -> int:
        """Trains from one more seed, and judges the end; returns the steps it took.

        Args:
            seed: of the training.
            steps: its length.
            keep: whether it can be continued.

        Raises:
            IsogradError: the network as it is cannot be trained; a change cannot be made.
        """
        runner = Runner(self.treatment, self.treatment.start(self._case, seed), seed)
        self._runs.append(runner)
        return self._train(runner, steps, keep)

    def go_on(self, steps: int, *, keep: bool) -> int:
        """Trains all runs that are shorter up to so many steps; returns the steps it took."""
        short = [r for r in self._runs if len(r.losses) < steps]
        return sum(self._train(r, steps - len(r.losses), keep) for r in short)

    def _train(self, runner: Runner, steps: int, keep: bool) -> int:
        done = len(runner.losses)
        try:
            runner.advance(self._supply, steps)
            runner.judged(self._judge)
        except Exception as error:
            if not self.treatment.plans:
                raise
            runner.broke, runner.score = failed(error), math.inf  # the change is what fails
        if not keep:
            del runner.trainee
        return len(runner.losses) - done

    def __len__(self) -> int:
        return len(self._runs)

    def first(self, count: int) -> Trial:
        """The first runs."""
        runs = self._runs[:count]
        losses = tuple(tuple(r.losses) for r in runs)
        scores = tuple(r.score for r in runs)
        return Trial(self.treatment.name, losses, scores, tuple(r.broke for r in runs))


def shape(left: int, *, alone: bool, shown: bool, long: int) -> tuple[int, int]:
    """Seeds of a proof at most, and the steps of each of its runs.

    Runs are made so short that all seeds can be had, or two proofs, where that leaves them
    FEWEST_STEPS, and where scores told the changes apart; but as long as it takes to show
    something, as far as FEWEST seeds allow.

    Args:
        left: steps of the budget.
        alone: whether no other change will be put to the proof.
        shown: whether a race told the changes apart.
        long: steps after which the change showed in the race, or what was found adds up.
    """
    most, steps = MOST_SEEDS, left // (2 * MOST_SEEDS)
    if alone or steps < FEWEST_STEPS:
        few = FEWEST + (shown and left >= 2 * (FEWEST + 1) * FEWEST_STEPS)
        most = min(max(left // (2 * SHORTEST), few), MOST_SEEDS)
        steps = max(1, left // (2 * most))
    if steps < long:
        steps = max(steps, min(long, left // (2 * FEWEST)))
        most = max(FEWEST, min(most, left // (2 * steps)))
    return most, steps


def prove(
    before: Series,
    after: Series,
    *,
    seeds: Sequence[int],
    steps: int,
    untrained: Sequence[float],
    afford: Callable[[int], bool],
    spend: Callable[[int], None],
    early: bool = True,
    smallest: float = SMALLEST,
    defined: bool = False,
    shows: bool = False,
) -> tuple[Trial, Trial, Comparison]:
    """Trains both from seed after seed, until the change is known to be better or seeds run out.

    Args:
        before: the network as it is; runs that it has are used again.
        after: the change.
        seeds: at most these; with more than FEWEST the proof is looked at after each.
        steps: of every run.
        untrained: scores of who has learned nothing.
        afford: whether so many more steps may be taken.
        spend: told the steps that were taken.
        early: whether to look before the end, where a clear gain ends the proof.
        smallest: part of the score that a gain must be.
        defined: whether it mends what is wrong by definition: if then every run as it is breaks,
            which is known before any with the change begins, half of the steps may do.
        shows: whether runs go on from where what is wrong shows: half of the steps may do as well.
    """
    level = LEVEL if len(seeds) <= FEWEST else REPEATED
    looks = [steps // part for part in LOOKS if steps // part >= SHORTEST_LOOK]
    if early and not len(before) and looks:
        for series in (before, after):
            for seed in seeds[:FEWEST]:
                spend(series.run(seed, looks[0], keep=True))
        for further in (*looks[1:], steps):
            both = before.first(FEWEST), after.first(FEWEST)
            found = compared(*both, untrained, EARLY / len(LOOKS), CLEAR)
            # Who is no better than a constant answer has to show more before that is enough.
            if found.better and max(found.after) < min(untrained):
                return *both, found
            level -= EARLY / len(LOOKS) * level / LEVEL  # the share of the looks at the end
            for series in (before, after):
                spend(series.go_on(further, keep=further < steps))
    may = len(seeds) <= FEWEST and not len(after) and steps >= SHORTEST_LOOK
    if may and (defined or shows):
        length = steps // 2 if shows else steps
        for seed in seeds[len(before) :]:
            spend(before.run(seed, length, keep=length < steps))
        if shows or all(before.first(len(seeds)).broke):
            for seed in seeds:
                spend(after.run(seed, steps // 2, keep=True))
            both = before.first(len(seeds)), after.first(len(seeds))
            level /= 2  # one half for this look, the other for that at the end
            found = compared(*both, untrained, level, smallest, bar=True)
            if found.better and (not found.lasts or max(found.after) < min(untrained)):
                return *both, found
            for series in (before, after) if shows else (after,):
                spend(series.go_on(steps, keep=False))
    for place, seed in enumerate(seeds):
        missing = (len(before) <= place) + (len(after) <= place)
        if place >= FEWEST and not afford(missing * steps):
            break
        for series in (before, after):
            if len(series) <= place:
                spend(series.run(seed, steps))
        if FEWEST <= place + 1 < len(seeds):
            both = before.first(place + 1), after.first(place + 1)
            found = compared(*both, untrained, level, smallest)
            if found.better or found.negligible or found.p > HOPE:
                break
    count = min(len(before), len(after))
    both = before.first(count), after.first(count)
    # More seeds tell more than a bar does; with the fewest it is what there is.
    bar = len(seeds) <= FEWEST
    return *both, compared(*both, untrained, level, smallest, bar=bar)


def compared(
    before: Trial,
    after: Trial,
    untrained: Sequence[float],
    level: float,
    smallest: float = SMALLEST,
    *,
    bar: bool = False,
) -> Comparison:
    """Two trials on the same seeds.

    Args:
        before: of the network as it is.
        after: of the change.
        untrained: scores of who has learned nothing, as the network before training, or a constant
            answer: a run that broke, or ended worse than that, counts as much, so that one such
            run does not decide. The lowest that the change is below in every run.
        level: of the test.
        smallest: part of the score that a gain must be.
        bar: whether to judge by who has learned at all, too.
    """
    finite = [u for u in untrained if math.isfinite(u)]
    worst = next(
        (u for u in sorted(finite) if max(after.scores) < u), max(finite, default=math.inf)
    )
    worst = worst if finite else _finite_worst(before, after)
    # To train at all is worth a change, however little a short training shows.
    lasts = all(_lost(before)) and not any(_lost(after))
    if lasts:
        smallest = 0.0
    elif smallest == SMALLEST and min(before.scores) >= worst - NOISE * abs(worst):
        smallest = NOISE
    return Comparison(
        tuple(min(score, worst) for score in before.scores),
        tuple(min(score, worst) for score in after.scores),
        level,
        smallest,
        worst - TELLS * abs(worst) if bar else math.nan,
        lasts,
    )


def _lost(trial: Trial) -> list[bool]:
    """Which runs broke, or ran away without reaching a number that is none."""
    return [
        broke is not None or (len(curve) > 1 and curve[-1] > RAN_AWAY * abs(curve[0]))
        for broke, curve in zip(trial.broke, trial.losses, strict=True)
    ]


def _finite_worst(*trials: Trial) -> float:
    finite = [s for t in trials for s in t.scores if math.isfinite(s)]
    return 2 * max(finite, default=1.0) + 1
