"""The race: candidates trained side by side, the hopeless ones dropped early (successive halving).

Jamieson and Talwalkar 2016, Non-stochastic best arm identification and hyperparameter optimization.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from isograd.probe.stepping import Stepper
from isograd.remedies import Case
from isograd.repairs.choosing import better_half, ranked
from isograd.repairs.scoring import Judge, failed
from isograd.repairs.supply import Supply
from isograd.repairs.treatments import Trainee, Treatment


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
        torch.manual_seed(self.seed + done)
        for step in range(done, done + steps):
            value = own.forward(next(batches))
            self.losses.append(float(value.detach()))
            if not math.isfinite(self.losses[-1]):
                self.broke = f"the loss was no finite number at step {step}"
                break
            own.update(value)
        if self.broke is None and not own.finite_weights():
            self.broke = f"weights were no finite numbers after {len(self.losses)} steps"
        return len(self.losses) - done

    def judged(self, judge: Judge) -> float:
        """The score now; infinite where the run broke."""
        self.score = math.inf if self.broke else judge(self.trainee.model)
        return self.score


@dataclass
class Race:
    """Runs treatments from one seed against one another."""

    case: Case
    supply: Supply
    judge: Judge
    seed: int
    starts: tuple[float, ...]
    """Scores from which gains count: of a constant answer, of the untrained network."""
    steps: int = 0
    """Steps spent."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Name of a treatment, and why it was given up."""

    def run(self, treatments: Sequence[Treatment], budget: int, longest: int) -> list[Runner]:
        """Trains within a budget of steps; returns the runners that came to the end, best first.

        Each round has an equal share of the budget, but at most `longest` steps for a runner, and
        half of the runners of the round before. A treatment without a rival is not run.
        """
        if len(treatments) == 1:
            return [r for t in treatments if (r := self._start(t)) is not None]
        runners = [r for t in treatments if (r := self._start(t)) is not None]
        rounds = max(1, math.ceil(math.log2(max(len(runners), 1))))
        for number in range(rounds):
            if not runners:
                break
            share = min(max(1, budget // (rounds * len(runners))), longest)
            runners = [r for r in runners if self._advance(r, share)]
            if number < rounds - 1:
                runners = self._better_half(runners)
        return ranked(runners, self.starts)

    def _start(self, treatment: Treatment) -> Runner | None:
        try:
            return Runner(treatment, treatment.start(self.case, self.seed), self.seed)
        except Exception as error:  # a candidate that fails is no candidate
            self.dropped[treatment.name] = f"could not be applied: {failed(error)}"
            return None

    def _advance(self, runner: Runner, steps: int) -> bool:
        try:
            self.steps += runner.advance(self.supply, steps)
            runner.judged(self.judge)
        except Exception as error:
            runner.broke = failed(error)
        if runner.broke is not None:
            self.dropped[runner.treatment.name] = f"tried and broke: {runner.broke}"
        return runner.broke is None

    def _better_half(self, runners: list[Runner]) -> list[Runner]:
        """The better half, in the order in which they came."""
        kept = better_half(runners, self.starts)
        for runner in (r for r in runners if not any(r is k for k in kept)):
            self.dropped[runner.treatment.name] = (
                f"tried for {len(runner.losses)} steps: {runner.score:.4g}, where "
                f"{kept[0].treatment.name} came to {kept[0].score:.4g}"
            )
        return [r for r in runners if any(r is k for k in kept)]
