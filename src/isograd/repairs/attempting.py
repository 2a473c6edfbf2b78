"""The attempt: what happens between a diagnosis that found something and the verdict."""

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from isograd.diagnosis import diagnose
from isograd.errors import IsogradError
from isograd.findings import Diagnosis, Finding, Severity
from isograd.remedies import REMEDIES, Case
from isograd.repairs.budget import Budget
from isograd.repairs.choosing import (
    akin,
    by_definition,
    gained,
    mends_break,
    of_data,
    shown_after,
    structural,
)
from isograd.repairs.comparing import SMALLEST, Comparison
from isograd.repairs.judging import chance_of, judge_of, starts
from isograd.repairs.planning import Candidates, candidates, settled
from isograd.repairs.proving import FEWEST, FEWEST_STEPS, MOST_BYTES, Series, prove, shape
from isograd.repairs.racing import Race, Runner, affordable
from isograd.repairs.rehearsing import looked_again, off_scale
from isograd.repairs.result import Trial
from isograd.repairs.supply import Supply
from isograd.repairs.treatments import Trainee, Treatment, treatment
from isograd.repairs.untouched import look_after

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
CALM = 0.5
"""Part of its gain that a change of activations keeps at STRESS times the rate, after twice the
steps. Of thirteen that kept less on four networks four ended at 46 to 930 where they had begun at
2.3, and seven above what leaves activations alone; five that kept more ended at 0.01 to 0.16."""
WORTH = 0.25
"""Part of the best gain below which a calmer change is no choice."""
RUNGS = 25
"""The lowest rung of a race takes this part of the whole budget for each candidate."""
MOST_STEPS_A_RUNG = 100
"""And at most so many steps: the rest of a large budget serves the proof."""
MOSTLY = 0.5
"""Part of the score of who has learned nothing below which a network is not measured again after
its training: of 168 ill ones none below got a second change."""
SMALL = 100
"""Steps of a budget below which looking again would take as long as all the rest."""
MOST = 12
"""Changes that are tried at most, however large the budget."""
RESCALING = "init", "normalization", "preprocessing"
"""Families of changes after which weights or what they read have another size; gradients have one
after another loss."""
NOT_TRIED = "not tried: the budget allows fewer candidates"


@dataclass(frozen=True)
class Proof:
    """A change that was put to the proof."""

    change: Treatment
    before: Trial
    after: Trial
    comparison: Comparison


class Attempt:
    """Tries what the findings call for.

    Args:
        case: what is changed in the end.
        start: what trials start from: the same, or a copy that was trained until its trouble
            showed.
        supply: what is trained on, and judged by.
        found: what could be tried.
        allow: families of remedies that may be used.
        budget: of all steps.
        seed: of everything drawn.

    Attributes:
        dropped: name of a change, and why it was not kept.
        judge: gives the scores.
        chance: score of a constant answer, where it is known.
    """

    def __init__(
        self,
        case: Case,
        start: Case,
        supply: Supply,
        found: Candidates,
        *,
        allow: Collection[str],
        budget: Budget,
        seed: int,
    ) -> None:
        self.case, self.start, self.supply, self.allow = case, start, supply, allow
        self.budget, self.seed = budget, seed
        self.judge = judge_of(case, supply, found.treatments, seed)
        self.chance = chance_of(case, self.judge)
        self._starts = starts(case, self.judge)
        self._first = min(max(budget.steps // RUNGS, FEWEST_STEPS), MOST_STEPS_A_RUNG)
        self._race = Race(start, supply, self.judge, seed, self._starts, self._first)
        self._able, self.dropped = settled(found.treatments, 2 * self._first)
        self._shown = True
        """Whether the race was long enough for somebody to gain; if not, proofs need it all."""
        self._edge: list[str] = []
        """Names of changes that stand at the edge of stability."""
        self._shows = 0
        """Steps of the race after which the best had gained what counts in a proof."""
        self._after: dict[str, tuple[Trainee, Diagnosis]] = {}

    def find(self) -> list[Treatment]:
        """The changes to prove, the most promising first; empty where all of them broke."""
        first, able = self._first, self._able
        share = int(self.budget.steps * RACE)
        if (self.budget.steps - 2 * first) // (2 * FEWEST) < FEWEST_STEPS:
            self._not_tried(able[:1])  # all of it for the proof of the first
            return able[:1]
        chosen = able[: affordable(share, first, MOST)]
        order = self._run(chosen, share)
        if not order:
            self._not_tried(chosen)
            return []
        ahead = order
        tried, kin = chosen, list[Treatment]()
        self._shown = len(order) < 2 or gained(order, self._starts) is not None
        # What takes an error away may show nothing as long as a second one stands behind it.
        more = self._shown or order[0].treatment.pressing
        for lap in range(ROUNDS if self.budget.steps >= SMALL and more else 0):
            best = order[0]
            rest, broke = self._left_over(best)
            both = [best.treatment.then(other) for other in rest]
            aside = self._beside_data(best.treatment, chosen)[:1] if lap == 0 else []
            if best.treatment in chosen and self._shown:  # what it stands for may be done better
                kin = [t for t in able if t not in tried and akin(t, best.treatment)]
            share = int(self.budget.steps * COMBINE) + 2 * first * len(aside)
            share = min(share, self.budget.left - SHORT_PROOF)
            kin = [t for t in kin if t not in tried]
            new = [*aside, *_in_turn(both, kin)][: affordable(share, first, MOST) - 1]
            tried = [*tried, *new]
            if not new or share < 2 * first:
                ahead = [*ahead[1:], ahead[0]] if broke else ahead
                break
            order = self._run(new, share, [*([] if broke else [best]), *order[1:2]])
            now = [runner.treatment for runner in order]
            ahead = [*order, *(one for one in ahead if one.treatment not in now)]
            if not order or order[0].treatment not in [*aside, *both]:
                break
        self._not_tried(tried)
        ahead = self._calm_first(ahead)
        self._shows = shown_after(ahead[0], gained(ahead, self._starts))
        changes = [runner.treatment for runner in ahead]
        return [*self._slower(changes[0]), *changes]

    def prove(self, changes: Sequence[Treatment], *, late: int = 0) -> Proof:
        """Puts the first change to the proof, and if it fails the next, as long as steps are left.

        After the first comes the first of the other kind: the two are changes of the architecture,
        and changes of values and settings.

        Args:
            changes: in the order of promise.
            late: steps of training over which what was found adds up.

        Returns:
            Of the change that passed, or else came nearest.
        """
        first = changes[0]
        others = [c for c in changes[1:] if structural(c) is not structural(first)][:1]
        changes = [first, *others, *(c for c in changes[1:] if c not in others)]
        if by_definition(first):  # what leaves that as it is would be no choice
            changes, late = changes[:1], self.budget.left
        alone, long = len(changes) == 1 or not self._shown, max(self._shows, late)
        most, steps = shape(self.budget.left, alone=alone, shown=self._shown, long=long)
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
                untrained=self._starts[2:] or self._starts,
                afford=lambda asked: self.budget.left >= asked,
                spend=self.budget.spend,
                early=2 * FEWEST * size <= MOST_BYTES,
                # What is wrong by definition is worth a change as soon as that is sure.
                smallest=0.0 if by_definition(change) else SMALLEST,
                defined=mends_break(change),
                shows=self.start is not self.case,
            )
            done.append(Proof(change, *trials))
            if done[-1].comparison.better:
                break
            self.dropped[change.name] = f"beside the network as it is: {done[-1].comparison.told}"
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
            reading = look_after(self.case, change, done, curvature=curvature, seed=self.seed)
            self._after[change.name] = (done, diagnose(reading))
        return self._after[change.name]

    def _not_tried(self, tried: Sequence[Treatment]) -> None:
        for one in self._able:
            if one not in tried:
                self.dropped[one.name] = NOT_TRIED

    def _run(
        self, treatments: Sequence[Treatment], steps: int, known: Sequence[Runner] = ()
    ) -> list[Runner]:
        race, before = self._race, self._race.steps
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
        change, race, before = runner.treatment, self._race, self._race.steps
        steps = max(race.first, min(int(self.budget.steps * AGAIN), 2 * MOST_STEPS_A_RUNG))
        rung = race.first
        while race.climb(runner, rung) and rung < steps:
            rung *= 2
        self.budget.spend(race.steps - before)
        try:
            trainee, diagnosis = self.after(change, curvature=True)
            # Who has learned most of what there is has nothing that only training brings out.
            done = self.judge.measure == "classes" and runner.score < MOSTLY * self._starts[0]
            now = diagnosis if done else looked_again(runner, self.case, diagnosis, self.seed)
            found = (*self._troubles(change, now, rung), *off_scale(runner, self.judge))
        except IsogradError:
            return [], True
        case = self._with(trainee, replace(diagnosis, findings=found))
        made = {plan.remedy for plan in change.plans}
        more = list(candidates(case, self.allow).treatments)
        rescaled = trainee.new_loss or set(RESCALING) & set(change.families)
        if rescaled and not any(_of_rate(t) for t in more):
            more += self._higher_rate(case)
        return [t for t in more if t.plans[0].remedy not in made], runner.broke is not None

    def _beside_data(self, best: Treatment, tried: Sequence[Treatment]) -> list[Treatment]:
        """What completes a change of the data that are the first cause, where others lead.

        A norm behind raw inputs takes their scale away at once; on standardized inputs the offset
        of raw targets is to be learned first, or taken away as well.

        Args:
            best: what leads.
            tried: all that was tried.
        """
        data = next((t for t in tried if of_data(t)), None)
        if data is None or "preprocessing" in best.families:
            return []
        runner = self._race.enter(data)
        return [data.then(other) for other in self._left_over(runner)[0]] if runner else []

    def _higher_rate(self, case: Case) -> list[Treatment]:
        """The learning rate that fits a changed network, where the old one is far below.

        Findings about rates are about what cannot be right. What was chosen for weights ten times
        as large, or for raw inputs, may be right and slow; a race tells. A lower one is asked for
        by findings alone: of nine that would have been lowered one ended better so.

        Args:
            case: the changed network.
        """
        if "optimizer" not in self.allow:
            return []
        low = (Finding("IG304", Severity.WARNING, "lr-too-low", ""),)
        remedy = next(r for r in REMEDIES if r.code == "optimizer-lr")
        plan = remedy.plan(replace(case, diagnosis=replace(case.diagnosis, findings=low)))
        if isinstance(plan, str):
            return []
        return [treatment(remedy, plan, len(case.findings), aside=False, pressing=False)]

    def _with(self, now: Trainee, diagnosis: Diagnosis) -> Case:
        own = replace(self.case, model=now.model, loss=now.loss, optimizer=now.optimizer)
        return replace(own, diagnosis=diagnosis)

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
        return self._stressed(change, steps) < self._starts[-1]

    def _stressed(self, change: Treatment, steps: int) -> float:
        """Score of a changed network after so many steps at STRESS times its learning rate."""
        runner = Runner(change, change.start(self.start, self.seed), self.seed)
        for group in runner.trainee.optimizer.param_groups:
            group["lr"] = STRESS * group["lr"]
        self.budget.spend(runner.advance(self.supply, steps))
        return runner.judged(self.judge)

    def _slower(self, change: Treatment) -> list[Treatment]:
        """The change with a lower learning rate, if it stands at the edge of stability."""
        if change.name not in self._edge:
            return []
        trainee, diagnosis = self.after(change)
        told = Finding("IG305", Severity.ERROR, "lr-too-high", self.dropped[change.name])
        case = self._with(trainee, replace(diagnosis, findings=(told,)))
        rates = [t for t in candidates(case, self.allow).treatments if _of_rate(t)]
        return [change.then(rates[0])] if rates else []

    def _calm_first(self, ahead: list[Runner]) -> list[Runner]:
        """Other activations behind the next best if they stand at the edge of stability.

        The learning rate was chosen for the old ones. Which network breaks after its trial shows at
        a multiple of the rate: the curvature may be small at the start.

        Args:
            ahead: the most promising first.
        """
        start, adaptive = gained(ahead, self._starts), self.case.record.fact("optimizer.adaptive")
        if len(ahead) < 2 or start is None or adaptive is not False:
            return ahead
        if "activation" not in ahead[0].treatment.families:
            return ahead
        most, edge = 0.0, list[Runner]()
        for runner in ahead:
            # As long as there are steps for: a shorter test is better than none.
            room = [n for n in runner.scores if self.budget.left - 2 * n >= SHORT_PROOF]
            done = max(room or runner.scores)
            steps, gain = 2 * done, start - runner.scores[done]
            most = most or gain
            if gain < WORTH * most:
                continue
            if "activation" in runner.treatment.families:
                if self.budget.left - steps < SHORT_PROOF:
                    if edge:  # one of a kind that broke
                        continue
                    return ahead
                kept = (start - self._stressed(runner.treatment, steps)) / gain
                if kept < CALM:
                    edge.append(runner)
                    self._edge.append(runner.treatment.name)
                    self.dropped[runner.treatment.name] = (
                        f"at {STRESS:g} times the learning rate it keeps {max(kept, 0.0):.0%} of "
                        f"its gain after {steps} steps: it may break later"
                    )
                    continue
            return [runner, *(one for one in ahead if one is not runner)]
        return ahead


def _of_rate(one: Treatment) -> bool:
    return one.plans[0].remedy == "optimizer-lr"


def _in_turn(one: Sequence[Treatment], other: Sequence[Treatment]) -> list[Treatment]:
    """First of both, second of both, and so on."""
    both = itertools.zip_longest(one, other)
    return [t for pair in both for t in pair if t is not None]
