"""The attempt: what happens between a diagnosis that found something and the verdict."""

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from isograd.checking import check
from isograd.diagnosis import diagnose
from isograd.errors import IsogradError
from isograd.findings import Diagnosis, Finding, Severity
from isograd.probe.measuring import measure
from isograd.records import Reading
from isograd.remedies import Case
from isograd.repairs.choosing import structural
from isograd.repairs.comparing import Comparison
from isograd.repairs.planning import Candidates, candidates
from isograd.repairs.proving import FEWEST, Series, prove
from isograd.repairs.racing import Race, Runner
from isograd.repairs.result import Trial
from isograd.repairs.scoring import Judge, judge
from isograd.repairs.supply import Supply
from isograd.repairs.treatments import Trainee, Treatment

MOST_SEEDS = 5
"""Runs of the proof: more seeds prove more than longer runs do."""
SHORTEST = 20
"""Steps of a run of the proof below which fewer seeds are better."""
RACE = 0.35
"""Part of the budget for finding a change."""
COMBINE = 0.2
"""Part of it for adding a second change, where the first leaves something that was found."""
AGAIN = 0.15
"""Part of it for training the network with the best change, and looking at it again."""
STRESS = 2.0
"""Times the learning rate that a change has to endure as long, where that is beyond the limit."""
LONGEST = 20
"""A round of a race takes at most a twentieth of the whole budget for each candidate."""
MOST_STEPS_A_ROUND = 100
"""And at most so many steps: the rest of a large budget serves the proof."""
FEWEST_STEPS = 8
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


@dataclass(frozen=True)
class Proof:
    """A change that was put to the proof."""

    change: Treatment
    before: Trial
    after: Trial
    comparison: Comparison


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
        order = [runner.treatment for runner in first]
        rest, broke = self._left_over(first[0])
        del first
        if not rest:
            return [*order[1:], order[0]] if broke else order
        both = [order[0].then(other) for other in rest]
        alone = [] if broke else order[:1]
        kept = self._race([*alone, *both, *order[1:2]], int(self.budget.steps * COMBINE))
        best = [runner.treatment for runner in kept]
        return best + [one for one in order if one not in best]

    def _constant(self) -> float:
        """Score of the best constant answer, where it is below that of the untrained network."""
        chance = self.case.record.fact("loss.chance")
        known = self.judge.measure == "loss" and chance
        return min(self.untrained, chance) if known else self.untrained

    def prove(self, changes: Sequence[Treatment]) -> Proof:
        """Puts the first change to the proof, and if it fails the first of the other kind.

        The two kinds are changes of the architecture, and changes of values and settings; the
        second is tried only where the steps are enough for both.

        Returns:
            Of the change that passed, or else came nearest.
        """
        left = self.budget.left
        others = [c for c in changes if structural(c) is not structural(changes[0])]
        steps = left // (3 * FEWEST) if others else 0
        changes = [changes[0], *others[: int(steps >= SHORTEST)]]
        most = FEWEST
        if len(changes) == 1:
            most = min(max(left // (2 * SHORTEST), FEWEST), MOST_SEEDS)
            steps = max(1, left // (2 * most))
        seeds = [self.seed + 101 * k for k in range(1, most + 1)]  # none of the race's
        before = self._series(Treatment())
        done: list[Proof] = []
        for change in changes:
            trials = prove(
                before,
                self._series(change),
                seeds=seeds,
                steps=steps,
                untrained=self.untrained,
                afford=lambda asked: self.budget.left >= asked,
                spend=self.budget.spend,
            )
            done.append(Proof(change, *trials))
            if done[-1].comparison.better:
                break
            self.dropped[change.name] = "no significant difference to the network as it is"
        return max(done, key=lambda proof: (proof.comparison.better, proof.comparison.gain))

    def _series(self, change: Treatment) -> Series:
        return Series(change, self.case, self.supply, self.judge)

    def after(self, change: Treatment) -> tuple[Trainee, Diagnosis]:
        """A copy with the change, before training, and what the rules say of it."""
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
            scale=self.case.has("target-not-normalized", "output-activation"),
            training=training,
            seed=self.seed,
        )

    def _race(self, treatments: Sequence[Treatment], steps: int) -> list[Runner]:
        longest = min(max(self.budget.steps // LONGEST, FEWEST_STEPS), MOST_STEPS_A_ROUND)
        able = [t for t in treatments if t.settles <= 2 * longest]
        chosen = able[: _most(steps)]
        for one in treatments:
            if one not in able:
                why = f"its effect shows after {one.settles} steps, which the budget does not allow"
                self.dropped[one.name] = f"not tried: {why}"
            elif one not in chosen:
                self.dropped[one.name] = "not tried: the budget allows fewer candidates"
        race = Race(
            self.case, self.supply, self.judge, self.seed, (self._constant(), self.untrained)
        )
        order = race.run(chosen, min(steps, self.budget.left), longest)
        self.budget.spend(race.steps)
        self.dropped.update(race.dropped)
        for runner in order[1:]:
            self.dropped[runner.treatment.name] = (
                f"tried for {len(runner.losses)} steps: {runner.score:.4g}; "
                f"{order[0].treatment.name} came to {order[0].score:.4g}"
            )
        return order

    def _left_over(self, runner: Runner) -> tuple[list[Treatment], bool]:
        """Treatments for what is found after a change and some training, and whether that broke."""
        change = runner.treatment
        steps = min(int(self.budget.steps * AGAIN), 2 * MOST_STEPS_A_ROUND)
        steps = max(steps, FEWEST_STEPS)
        try:
            self.budget.spend(runner.advance(self.supply, max(steps - len(runner.losses), 0)))
            trainee, diagnosis = self.after(change)
            found = self._troubles(change, self._trained(runner, diagnosis), steps)
        except IsogradError:
            return [], True
        case = replace(
            self.case,
            model=trainee.model,
            diagnosis=replace(diagnosis, findings=found),
            loss=trainee.loss,
            optimizer=trainee.optimizer,
        )
        done = {plan.remedy for plan in change.plans}
        more = candidates(case, self.allow).treatments
        return [t for t in more if t.plans[0].remedy not in done], runner.broke is not None

    def _trained(self, runner: Runner, before: Diagnosis) -> Diagnosis:
        """What the rules say of a network after the training of a race."""
        seen, trainee = before.reading.seen, runner.trainee
        facts = {k: v for k, v in seen.facts.items() if k.startswith("optimizer.")}
        facts["rehearsal.losses"] = list(runner.losses)
        if runner.broke is not None:
            facts["rehearsal.stopped"] = f"non-finite at step {len(runner.losses)}"
        step = len(runner.losses)
        last = measure(trainee.model, self.case.batch, trainee.loss, seed=self.seed, step=step)
        return diagnose(Reading(seen, history=(replace(last, facts={**last.facts, **facts}),)))

    def _troubles(self, change: Treatment, after: Diagnosis, steps: int) -> tuple[Finding, ...]:
        """What was found; a new trouble of the learning rate is an error if it is near.

        A network that runs beyond the limit of stability may break long after a trial has ended.
        Whether it stands at the edge shows at a multiple of its learning rate.
        """
        new = [f for f in after.findings if f.cause == "lr-too-high"]
        if not new or self.case.has("lr-too-high") or self._stands(change, steps):
            return after.findings
        return tuple(f.with_severity(Severity.ERROR) if f in new else f for f in after.findings)

    def _stands(self, change: Treatment, steps: int) -> bool:
        """Whether a changed network can be trained at STRESS times its learning rate."""
        runner = Runner(change, change.start(self.case, self.seed), self.seed)
        for group in runner.trainee.optimizer.param_groups:
            group["lr"] = STRESS * group["lr"]
        self.budget.spend(runner.advance(self.supply, steps))
        return runner.judged(self.judge) < self.untrained


def _most(steps: int) -> int:
    """How many can race for so many steps, with FEWEST_STEPS of them in the first round."""
    count = 2
    while count < MOST and steps >= FEWEST_STEPS * (count + 1) * math.ceil(math.log2(count + 1)):
        count += 1
    return count
