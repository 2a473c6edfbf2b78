"""The attempt: what happens between a diagnosis that found something and the verdict."""

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from isograd.checking import check
from isograd.errors import IsogradError
from isograd.findings import Diagnosis
from isograd.remedies import Case
from isograd.repairs.planning import Candidates, candidates
from isograd.repairs.proving import trial
from isograd.repairs.racing import Race, Runner
from isograd.repairs.result import Trial
from isograd.repairs.scoring import Judge, judge
from isograd.repairs.supply import Supply
from isograd.repairs.treatments import Trainee, Treatment

SEEDS = (3, 5)
"""Fewest and most runs of the proof. A mean gain of 1.7 times its spread over the seeds passes the
test with three, one of its spread with five: more seeds prove more than longer runs do."""
SHORTEST = 20
"""Steps of a run of the proof below which fewer seeds are better."""
RACE = 0.4
"""Part of the budget for finding a change."""
COMBINE = 0.2
"""Part of it for adding a second change, where the first leaves something that was found."""
LONGEST = 20
"""A round of a race takes at most a twentieth of the whole budget for each candidate."""
FEWEST = 8
"""Steps below which a first round of a race says nothing."""
MOST = 12
"""Changes that are tried at most, however large the budget."""
TRAINING = 0.8
"""Part of the time that goes into training steps rather than into judging."""
MOST_STEPS = 20_000
"""However much time there is: a short trial is what it is meant to be."""


@dataclass
class Budget:
    """Steps that may be taken, and those that were."""

    steps: int
    until: float = math.inf
    """When to stop, by `time.perf_counter`."""
    spent: int = 0
    progress: Callable[[int, int], None] | None = None

    def spend(self, steps: int) -> None:
        """Counts steps, and tells."""
        self.spent += steps
        if self.progress is not None:
            self.progress(min(self.spent, self.steps), self.steps)

    @property
    def left(self) -> int:
        """Steps that are left; none when the time is up."""
        return max(0, self.steps - self.spent) if time.perf_counter() < self.until else 0


@dataclass
class Attempt:
    """Tries what the findings call for."""

    case: Case
    supply: Supply
    allow: Collection[str]
    budget: Budget
    seed: int
    dropped: dict[str, str] = field(default_factory=dict)
    """Name of a change, and why it was not kept."""
    judge: Judge = field(init=False)
    untrained: float = field(init=False)
    """Score of the network as it is, before any training."""
    _after: dict[str, tuple[Trainee, Diagnosis]] = field(default_factory=dict)

    def afford(self, until: float) -> None:
        """Turns a time into steps, by taking two of them, and stops at that time in any case."""
        began = time.perf_counter()
        treated = Treatment()
        runner = Runner(treated, treated.start(self.case, self.seed), self.seed)
        runner.advance(self.supply, 2)
        each = (time.perf_counter() - began) / 2
        left = until - time.perf_counter()
        self.budget.steps = max(1, min(int(left / each * TRAINING), MOST_STEPS))
        self.budget.until = until

    def find(self, found: Candidates) -> Treatment | None:
        """The change to prove; None where all of them failed."""
        self.judge = self._judge(found.treatments)
        self.untrained = self.judge(self.case.model)
        first = self._race(found.treatments, int(self.budget.steps * RACE))
        if first is None:
            return None
        rest = self._left_over(first)
        if not rest:
            return first
        both = [first, *(first.then(other) for other in rest)]
        return self._race(both, int(self.budget.steps * COMBINE)) or first

    def prove(self, change: Treatment) -> tuple[Trial, Trial]:
        """The network as it is and a change, from the same fresh seeds."""
        count = min(max(self.budget.left // (2 * SHORTEST), SEEDS[0]), SEEDS[1])
        steps = max(1, self.budget.left // (2 * count))
        seeds = [self.seed + 101 * k for k in range(1, count + 1)]  # none of the race's
        trials = []
        for one in (Treatment(), change):
            trials.append(trial(one, self.case, self.supply, self.judge, seeds=seeds, steps=steps))
            self.budget.spend(sum(len(curve) for curve in trials[-1].losses))
        return trials[0], trials[1]

    def after(self, change: Treatment) -> tuple[Trainee, Diagnosis]:
        """A copy with the change, and what the rules say of it."""
        if change.name not in self._after:
            done = change.start(self.case, self.seed)
            self._after[change.name] = (
                done,
                check(
                    done.model,
                    self.case.batch,
                    done.loss,
                    optimizer=done.optimizer,
                    predict=False,
                    seed=self.seed,
                ),
            )
        return self._after[change.name]

    def _judge(self, treatments: Collection[Treatment]) -> Judge:
        # A loss that is itself at fault is no measure; other changes keep the user's units.
        new_loss = any("loss" in t.families for t in treatments)
        stale = self.case.has("norm-mode")  # shows in evaluation mode only
        training = self.case.model.training and not stale
        return judge(
            self.case.model,
            self.supply,
            self.case.loss,
            new_loss=new_loss,
            training=training,
            seed=self.seed,
        )

    def _race(self, treatments: Collection[Treatment], steps: int) -> Treatment | None:
        chosen = list(treatments)[: _most(steps)]
        for one in list(treatments)[len(chosen) :]:
            self.dropped[one.name] = "not tried: the budget allows fewer candidates"
        race = Race(self.case, self.supply, self.judge, self.seed, self.untrained)
        longest = max(self.budget.steps // LONGEST, FEWEST)
        order = race.run(chosen, min(steps, self.budget.left), longest)
        self.budget.spend(race.steps)
        self.dropped.update(race.dropped)
        for runner in order[1:]:
            self.dropped[runner.treatment.name] = (
                f"tried for {len(runner.losses)} steps: {runner.score:.4g}; "
                f"{order[0].treatment.name} came to {order[0].score:.4g}"
            )
        return order[0].treatment if order else None

    def _left_over(self, first: Treatment) -> list[Treatment]:
        """Treatments for what was found from the start and is still there after the first."""
        try:
            trainee, diagnosis = self.after(first)
        except IsogradError:
            return []
        case = replace(
            self.case,
            model=trainee.model,
            diagnosis=diagnosis,
            loss=trainee.loss,
            optimizer=trainee.optimizer,
        )
        found = candidates(case, self.allow)
        done = {plan.remedy for plan in first.plans}
        return [t for t in found.treatments if t.plans[0].remedy not in done]


def _most(steps: int) -> int:
    """How many can race for so many steps, with FEWEST of them in the first round."""
    count = 2
    while count < MOST and steps >= FEWEST * (count + 1) * math.ceil(math.log2(count + 1)):
        count += 1
    return count
