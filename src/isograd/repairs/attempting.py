"""The attempt: what happens between a diagnosis that found something and the verdict."""

import itertools
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from isograd.diagnosis import diagnose
from isograd.errors import IsogradError
from isograd.findings import Diagnosis, Finding, Severity
from isograd.probe.measuring import measure
from isograd.probe.rehearsal import rehearse
from isograd.remedies import Case
from isograd.repairs.choosing import gained, structural
from isograd.repairs.comparing import Comparison
from isograd.repairs.planning import Candidates, candidates
from isograd.repairs.proving import FEWEST, MOST_BYTES, Series, prove
from isograd.repairs.racing import Race, Runner, affordable
from isograd.repairs.rehearsing import looked_again
from isograd.repairs.result import Trial
from isograd.repairs.scoring import Judge, judge
from isograd.repairs.supply import Supply
from isograd.repairs.treatments import Trainee, Treatment

MOST_SEEDS = 5
"""Runs of the proof: more seeds prove more than longer runs do."""
SHORTEST = 20
"""Steps of a run of the proof below which fewer seeds are better."""
FEWEST_STEPS = 6
"""Steps below which a first rung of a race, or a run of the proof, says nothing."""
RACE = 0.35
"""Part of the budget for finding a change."""
COMBINE = 0.2
"""Part of it for its kin, and for adding a second change where the first leaves something."""
AGAIN = 0.08
"""Part of it for training the network with the best change, and looking at it again."""
ROUNDS = 2
"""How often a change is added to what there is. More than three changes are another network."""
SHORT_PROOF = 2 * FEWEST * FEWEST_STEPS
"""Steps that are left for the proof in any case."""
STRESS = 2.0
"""Times the learning rate that a change has to endure as long, where that is beyond the limit."""
RUNGS = 25
"""The lowest rung of a race takes this part of the whole budget for each candidate."""
MOST_STEPS_A_RUNG = 100
"""And at most so many steps: the rest of a large budget serves the proof."""
SMALL = 100
"""Steps of a budget below which looking again would take as long as all the rest."""
MOST = 12
"""Changes that are tried at most, however large the budget."""
TRAINING = 0.8
"""Part of the time that goes into training steps rather than into judging."""
MOST_STEPS = 20_000
"""However much time there is: a short trial is what it is meant to be."""
OFF_SCALE = 0.5
"""Part of the remaining error that a line through the outputs would take away: then what is left
to learn is mostly scale and offset of the targets."""
WRONG = 0.1
"""Share of the targets' variance below which the remaining error is no matter."""


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
    """What is changed in the end."""
    start: Case
    """What trials start from: the same, or a copy that was trained until its trouble showed."""
    supply: Supply
    allow: Collection[str]
    budget: Budget
    seed: int
    dropped: dict[str, str] = field(default_factory=dict)
    """Name of a change, and why it was not kept."""
    judge: Judge = field(init=False)
    untrained: float = field(init=False)
    """Score of the network as it is, before any training."""
    race: Race = field(init=False)
    shown: bool = True
    """Whether the race was long enough for somebody to gain; if not, proofs need all the length."""
    _after: dict[str, tuple[Trainee, Diagnosis]] = field(default_factory=dict)

    def afford(self, until: float) -> None:
        """Turns a time into steps, by taking two of them, and stops at that time in any case."""
        began = time.perf_counter()
        treated = Treatment()
        runner = Runner(treated, treated.start(self.start, self.seed), self.seed)
        runner.advance(self.supply, 2)
        each = (time.perf_counter() - began) / 2
        left = until - time.perf_counter()
        self.budget.steps = max(1, min(int(left / each * TRAINING), MOST_STEPS))
        self.budget.until = until

    def find(self, found: Candidates) -> list[Treatment]:
        """The changes to prove, the most promising first; empty where all of them broke."""
        self.judge = self._judge(found.treatments)
        self.untrained = self.judge(self.case.model)
        first = min(max(self.budget.steps // RUNGS, FEWEST_STEPS), MOST_STEPS_A_RUNG)
        starts = (self._constant(), self.untrained)
        self.race = Race(self.start, self.supply, self.judge, self.seed, starts, first)
        share = int(self.budget.steps * RACE)
        able = self._able(found.treatments, first)
        if (self.budget.steps - 2 * first) // (2 * FEWEST) < FEWEST_STEPS:
            self._not_tried(able, able[:1])  # all of it for the proof of the first
            return able[:1]
        chosen = able[: affordable(share, first, MOST)]
        order = self._run(chosen, share)
        if not order:
            self._not_tried(able, chosen)
            return []
        ahead = [runner.treatment for runner in order]
        tried, kin = chosen, list[Treatment]()
        self.shown = len(order) < 2 or gained(order, starts) is not None
        for _ in range(ROUNDS if self.budget.steps >= SMALL and self.shown else 0):
            best = order[0]
            rest, broke = self._left_over(best)
            both = [best.treatment.then(other) for other in rest]
            if best.treatment in chosen:  # what it stands for may be done better
                kin = [t for t in able if t not in tried and _akin(t, best.treatment)]
            share = min(int(self.budget.steps * COMBINE), self.budget.left - SHORT_PROOF)
            new = _in_turn(both, kin)[: affordable(share, first, MOST) - 1]
            tried = [*tried, *new]
            if not new or share < 2 * first:
                ahead = [*ahead[1:], ahead[0]] if broke else ahead
                break
            order = self._run(new, share, [*([] if broke else [best]), *order[1:2]])
            now = [runner.treatment for runner in order]
            ahead = now + [one for one in ahead if one not in now]
            if not order or order[0].treatment not in both:
                break
        self._not_tried(able, tried)
        return ahead

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
        most = MOST_SEEDS
        if len(changes) == 1:
            few = FEWEST + (self.shown and left >= 2 * (FEWEST + 1) * FEWEST_STEPS)
            most = min(max(left // (2 * SHORTEST), few), MOST_SEEDS)
            steps = max(1, left // (2 * most))
        seeds = [self.seed + 101 * k for k in range(1, most + 1)]  # none of the race's
        before = self._series(Treatment())
        size = sum(p.numel() * p.element_size() for p in self.case.model.parameters())
        done: list[Proof] = []
        for change in changes:
            if done and self.budget.left < FEWEST * steps:
                break
            trials = prove(
                before,
                self._series(change),
                seeds=seeds,
                steps=steps,
                untrained=(self._constant(), self.untrained),
                afford=lambda asked: self.budget.left >= asked,
                spend=self.budget.spend,
                early=2 * FEWEST * size <= MOST_BYTES,
            )
            done.append(Proof(change, *trials))
            if done[-1].comparison.better:
                break
            self.dropped[change.name] = "no significant difference to the network as it is"
        return max(done, key=lambda proof: (proof.comparison.better, proof.comparison.gain))

    def _series(self, change: Treatment) -> Series:
        return Series(change, self.start, self.supply, self.judge)

    def after(self, change: Treatment, *, curvature: bool = False) -> tuple[Trainee, Diagnosis]:
        """A copy with the change, before training, and what the rules say of it.

        Args:
            change: what to make.
            curvature: whether to ask as well if the learning rate is beyond its limit, which costs
                as much as twenty steps.
        """
        if change.name not in self._after:
            done = change.start(self.case, self.seed)
            seen = measure(done.model, self.case.batch, done.loss, seed=self.seed)
            reading = rehearse(
                done.model,
                self.case.batch,
                done.loss,
                seen,
                optimizer=done.optimizer,
                data=None,
                steps=0,
                seed=self.seed,
                sharpness=curvature,
            )
            self._after[change.name] = (done, diagnose(reading))
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
            scale=self.case.has("target-not-normalized", "output-activation", "dead-output"),
            training=training,
            seed=self.seed,
        )

    def _able(self, treatments: Sequence[Treatment], first: int) -> list[Treatment]:
        """Those whose effect shows within the first two rungs."""
        for one in treatments:
            if one.settles > 2 * first:
                why = f"its effect shows after {one.settles} steps, which the budget does not allow"
                self.dropped[one.name] = f"not tried: {why}"
        return [t for t in treatments if t.settles <= 2 * first]

    def _not_tried(self, able: Sequence[Treatment], tried: Sequence[Treatment]) -> None:
        for one in able:
            if one not in tried:
                self.dropped[one.name] = "not tried: the budget allows fewer candidates"

    def _run(
        self, treatments: Sequence[Treatment], steps: int, known: Sequence[Runner] = ()
    ) -> list[Runner]:
        race, before = self.race, self.race.steps
        order = race.run(treatments, min(steps, self.budget.left), known)
        self.budget.spend(race.steps - before)
        self.dropped.update(race.dropped)
        for runner in order:
            self.dropped.pop(runner.treatment.name, None)
        for runner in order[1:]:
            self.dropped[runner.treatment.name] = (
                f"tried for {len(runner.losses)} steps: {runner.score:.4g}; "
                f"{order[0].treatment.name} came to {order[0].score:.4g}"
            )
        return order

    def _left_over(self, runner: Runner) -> tuple[list[Treatment], bool]:
        """Treatments for what is found after a change and some training, and whether that broke."""
        change, race, before = runner.treatment, self.race, self.race.steps
        steps = max(race.first, min(int(self.budget.steps * AGAIN), 2 * MOST_STEPS_A_RUNG))
        rung = race.first
        while race.climb(runner, rung) and rung < steps:
            rung *= 2
        self.budget.spend(race.steps - before)
        try:
            trainee, diagnosis = self.after(change, curvature=True)
            now = looked_again(runner, self.case, diagnosis, self.seed)
            found = self._troubles(change, now, rung)
            found = (*found, *self._off_scale(runner))
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

    def _troubles(self, change: Treatment, after: Diagnosis, steps: int) -> tuple[Finding, ...]:
        """What was found; a new trouble of the learning rate is an error if it is near.

        A network that runs beyond the limit of stability may break long after a trial has ended.
        Whether it stands at the edge shows at a multiple of its learning rate.
        """
        new = [f for f in after.findings if f.cause == "lr-too-high"]
        if not new or self.case.has("lr-too-high") or self._stands(change, steps):
            return after.findings
        return tuple(f.with_severity(Severity.ERROR) if f in new else f for f in after.findings)

    def _off_scale(self, runner: Runner) -> list[Finding]:
        """What hardly anything but scale and offset of the targets is missing to."""
        shares = None if runner.broke else self.judge.off_scale(runner.trainee.model)
        if shares is None:
            return []
        left, best = shares
        if left < WRONG or left - best < OFF_SCALE * left:
            return []
        message = (
            f"After {len(runner.losses)} steps {left:.2g} of the targets' variance is not "
            f"explained, of which a scale and an offset of the outputs would take "
            f"{(left - best) / left:.0%}."
        )
        return [Finding("IG602", Severity.WARNING, "target-not-normalized", message)]

    def _stands(self, change: Treatment, steps: int) -> bool:
        """Whether a changed network can be trained at STRESS times its learning rate."""
        runner = Runner(change, change.start(self.start, self.seed), self.seed)
        for group in runner.trainee.optimizer.param_groups:
            group["lr"] = STRESS * group["lr"]
        self.budget.spend(runner.advance(self.supply, steps))
        return runner.judged(self.judge) < self.untrained


def _akin(one: Treatment, other: Treatment) -> bool:
    """Whether two changes are of one family against one cause: then one may do what both do."""
    return one.families == other.families and one.cause == other.cause


def _in_turn(one: Sequence[Treatment], other: Sequence[Treatment]) -> list[Treatment]:
    """First of both, second of both, and so on."""
    both = itertools.zip_longest(one, other)
    return [t for pair in both for t in pair if t is not None]
