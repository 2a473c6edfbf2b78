"""The attempt: what happens between a diagnosis that found something and the verdict."""

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from isograd.checking import check
from isograd.errors import IsogradError
from isograd.findings import Diagnosis, Finding, Severity
from isograd.remedies import Case
from isograd.repairs.comparing import Comparison
from isograd.repairs.planning import Candidates, candidates
from isograd.repairs.proving import Series, compared, prove
from isograd.repairs.racing import Race, Runner
from isograd.repairs.result import Trial
from isograd.repairs.scoring import Judge, judge
from isograd.repairs.supply import Supply
from isograd.repairs.treatments import Trainee, Treatment

SEEDS = (3, 5)
"""Fewest and most runs of the proof. A mean gain of 2.5 times its spread over the seeds passes with
three, one of 1.2 times with five: more seeds prove more than longer runs do."""
SHORTEST = 20
"""Steps of a run of the proof below which fewer seeds are better."""
RACE = 0.35
"""Part of the budget for finding a change."""
COMBINE = 0.2
"""Part of it for adding a second change, where the first leaves something that was found."""
AGAIN = 0.15
"""Part of it for training the network with the best change, and looking at it again."""
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

    def find(self, found: Candidates) -> list[Treatment]:
        """The changes to prove, the most promising first; empty where all of them broke."""
        self.judge = self._judge(found.treatments)
        self.untrained = self.judge(self.case.model)
        first = self._race(found.treatments, int(self.budget.steps * RACE))
        if not first:
            return []
        rest, broke = self._left_over(first[0])
        if not rest:
            return [*first[1:], first[0]] if broke else first
        both = [first[0].then(other) for other in rest]
        alone = [] if broke else first[:1]
        kept = self._race([*alone, *both, *first[1:2]], int(self.budget.steps * COMBINE))
        return kept + [one for one in first if one not in kept]

    def prove(self, changes: Sequence[Treatment]) -> tuple[Treatment, Trial, Trial]:
        """Puts changes to the proof, the second only if the first fails, and so on.

        Returns:
            The change that passed, or else came nearest; the network as it is; and the change.
        """
        left = self.budget.left
        most = min(max(left // (2 * SHORTEST), SEEDS[0]), SEEDS[1])
        steps = max(1, left // (2 * most))
        seeds = [self.seed + 101 * k for k in range(1, most + 1)]  # none of the race's
        before = self._series(Treatment())
        done: list[tuple[Treatment, Trial, Trial]] = []
        for change in changes:
            if done and self.budget.left < SEEDS[0] * steps:
                break
            trials = prove(
                before,
                self._series(change),
                seeds=seeds,
                fewest=SEEDS[0],
                steps=steps,
                untrained=self.untrained,
                afford=lambda asked: self.budget.left >= asked,
                spend=self.budget.spend,
            )
            done.append((change, *trials))
            if self.compared(*trials).better:
                break
            self.dropped[change.name] = "no significant difference to the network as it is"
        return max(done, key=lambda one: self._nearness(*one[1:]))

    def compared(self, before: Trial, after: Trial) -> Comparison:
        """The comparison of two trials."""
        return compared(before, after, self.untrained)

    def _nearness(self, before: Trial, after: Trial) -> tuple[bool, float]:
        found = self.compared(before, after)
        return found.better, found.gain

    def _series(self, change: Treatment) -> Series:
        return Series(change, self.case, self.supply, self.judge)

    def after(self, change: Treatment) -> tuple[Trainee, Diagnosis]:
        """A copy with the change, before training, and what the rules say of it."""
        if change.name not in self._after:
            self._after[change.name] = self._diagnosed(change, 0)
        return self._after[change.name]

    def _diagnosed(self, change: Treatment, steps: int) -> tuple[Trainee, Diagnosis]:
        done = change.start(self.case, self.seed)
        diagnosis = check(
            done.model,
            self.case.batch,
            done.loss,
            optimizer=done.optimizer,
            data=self.supply.items or None,
            steps=steps,
            predict=False,
            seed=self.seed,
        )
        return done, diagnosis

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

    def _race(self, treatments: Collection[Treatment], steps: int) -> list[Treatment]:
        longest = max(self.budget.steps // LONGEST, FEWEST)
        able = [t for t in treatments if t.settles <= 2 * longest]
        chosen = able[: _most(steps)]
        for one in treatments:
            if one not in able:
                why = f"its effect shows after {one.settles} steps, which the budget does not allow"
                self.dropped[one.name] = f"not tried: {why}"
            elif one not in chosen:
                self.dropped[one.name] = "not tried: the budget allows fewer candidates"
        race = Race(self.case, self.supply, self.judge, self.seed, self.untrained)
        order = race.run(chosen, min(steps, self.budget.left), longest)
        self.budget.spend(race.steps)
        self.dropped.update(race.dropped)
        for runner in order[1:]:
            self.dropped[runner.treatment.name] = (
                f"tried for {len(runner.losses)} steps: {runner.score:.4g}; "
                f"{order[0].treatment.name} came to {order[0].score:.4g}"
            )
        return [runner.treatment for runner in order]

    def _left_over(self, first: Treatment) -> tuple[list[Treatment], bool]:
        """Treatments for what is found after a change and some training, and whether that broke."""
        steps = max(int(self.budget.steps * AGAIN), FEWEST)
        try:
            trainee, diagnosis = self._after[first.name] = self._diagnosed(first, steps)
        except IsogradError:
            return [], True
        last = diagnosis.reading.last
        self.budget.spend(len(last.fact("rehearsal.losses", ())))
        broke = last.fact("rehearsal.stopped") is not None
        case = replace(
            self.case,
            model=trainee.model,
            diagnosis=replace(diagnosis, findings=self._troubles(diagnosis)),
            loss=trainee.loss,
            optimizer=trainee.optimizer,
        )
        found = candidates(case, self.allow)
        done = {plan.remedy for plan in first.plans}
        return [t for t in found.treatments if t.plans[0].remedy not in done], broke

    def _troubles(self, after: Diagnosis) -> tuple[Finding, ...]:
        """What was found, with a new trouble of the learning rate as an error, however small.

        A network that runs beyond the limit of stability may break long after a trial has ended.
        """
        if self.case.has("lr-too-high"):
            return after.findings
        return tuple(
            f.with_severity(Severity.ERROR) if f.cause == "lr-too-high" else f
            for f in after.findings
        )


def _most(steps: int) -> int:
    """How many can race for so many steps, with FEWEST of them in the first round."""
    count = 2
    while count < MOST and steps >= FEWEST * (count + 1) * math.ceil(math.log2(count + 1)):
        count += 1
    return count
