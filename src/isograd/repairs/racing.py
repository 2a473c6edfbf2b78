"""The race: candidates trained side by side, the hopeless ones dropped early (successive halving).

Jamieson and Talwalkar 2016, Non-stochastic best arm identification and hyperparameter optimization.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from isograd.probe.stepping import Stepper
from isograd.remedies import Case
from isograd.repairs.choosing import better_half, gained, ranked
from isograd.repairs.scoring import Judge, failed
from isograd.repairs.supply import Supply
from isograd.repairs.treatments import Trainee, Treatment
from isograd.sites.batches import Batch
from isograd.sites.randomness import reseed


@dataclass
class Runner:
    """One training run of one treatment, which can be continued."""

    treatment: Treatment
    trainee: Trainee
    seed: int
    losses: list[float] = field(default_factory=list)
    score: float = math.inf
    broke: str | None = None
    """Why it came to an early end."""
    scores: dict[int, float] = field(default_factory=dict)
    """Score after so many steps, where it was judged."""
    batch: Batch | None = None
    """That of its last step."""

    def advance(self, supply: Supply, steps: int) -> int:
        """Trains `steps` further steps; returns how many it took."""
        if self.broke is not None:
            return 0
        done = len(self.losses)
        own = Stepper(
            self.trainee.model, self.trainee.optimizer, self.trainee.loss, self.seed, "trial"
        )
        # The order is that of the seed, from the first batch: two runs of a seed see the same.
        batches = supply.order(self.seed)
        for _ in range(done):
            next(batches)
        reseed(self.seed + done)
        for step in range(done, done + steps):
            self.batch = next(batches)
            value = own.forward(self.batch)
            self.losses.append(float(value.detach()))
            if not math.isfinite(self.losses[-1]):
                self.broke = f"the loss was no finite number at step {step}"
                break
            own.update(value)
            # What is no number after the first step never becomes one, whatever the loss says.
            if step in (0, done + steps - 1) and not own.finite_weights():
                self.broke = f"weights were no finite numbers after {step + 1} steps"
                break
        return len(self.losses) - done

    def judged(self, judge: Judge) -> float:
        """The score now; infinite where the run broke."""
        self.score = math.inf if self.broke else judge(self.trainee.model)
        self.scores[len(self.losses)] = self.score
        return self.score


@dataclass
class Race:
    """Runs treatments from one seed against one another, up a ladder of rungs.

    A rung has twice the steps of the one below. Scores are compared on one rung, so that those who
    come late need not wait for those who are further up, and nobody is trained twice.
    """

    case: Case
    supply: Supply
    judge: Judge
    seed: int
    starts: tuple[float, ...]
    """Scores from which gains count: of a constant answer, of the untrained network."""
    first: int
    """Steps of the lowest rung."""
    steps: int = 0
    """Steps spent."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Name of a treatment, and why it was given up."""

    def run(
        self, treatments: Sequence[Treatment], budget: int, known: Sequence[Runner] = ()
    ) -> list[Runner]:
        """Halves the field from rung to rung, as far as a budget of steps goes.

        Args:
            treatments: those that start now; one without a rival is not run.
            budget: steps that may be spent.
            known: runners of an earlier race.

        Returns:
            The runners that came to the last rung, best first.
        """
        runners = [*known, *(r for t in treatments if (r := self.enter(t)) is not None)]
        if len(runners) < 2:
            return runners
        rung, end = self.first, self.steps + budget
        while True:
            runners = [r for r in runners if self.climb(r, rung)]
            # Of two neither of which shows anything none is dropped.
            both = len(runners) == 2 and gained(runners, self.starts) is None
            ahead = 2 if both else -(-len(runners) // 2)
            if ahead < 2 or self.steps + ahead * rung > end:
                return ranked(runners, self.starts)
            if not both:
                # Who has been on the next rung before goes there at no cost.
                free = [r for r in runners if 2 * rung in r.scores]
                kept = self._better_half(runners, rung)
                runners = [r for r in runners if any(r is one for one in (*kept, *free))]
            rung *= 2

    def climb(self, runner: Runner, rung: int) -> bool:
        """Trains up to a rung, unless it was there; whether it did not break."""
        if rung not in runner.scores:
            try:
                self.steps += runner.advance(self.supply, rung - len(runner.losses))
                runner.judged(self.judge)
            except Exception as error:
                runner.broke = failed(error)
        runner.score = runner.scores.get(rung, math.inf)
        if runner.broke is not None:
            self.dropped[runner.treatment.name] = f"tried and broke: {runner.broke}"
        return runner.broke is None

    def enter(self, treatment: Treatment) -> Runner | None:
        """A runner of a treatment, if it can be applied."""
        try:
            return Runner(treatment, treatment.start(self.case, self.seed), self.seed)
        except Exception as error:  # a candidate that fails is no candidate
            self.dropped[treatment.name] = f"could not be applied: {failed(error)}"
            return None

    def _better_half(self, runners: list[Runner], rung: int) -> list[Runner]:
        """The better half, in the order in which they came."""
        kept = better_half(runners, self.starts)
        for runner in (r for r in runners if not any(r is k for k in kept)):
            self.dropped[runner.treatment.name] = (
                f"tried for {rung} steps: {runner.score:.4g}, where "
                f"{kept[0].treatment.name} came to {kept[0].score:.4g}"
            )
        return [r for r in runners if any(r is k for k in kept)]


def affordable(steps: int, first: int, most: int) -> int:
    """How many can race for so many steps, over two rungs."""
    count = 2
    while count < most and (count + 1 + -(-(count + 1) // 2)) * first <= steps:
        count += 1
    return count
