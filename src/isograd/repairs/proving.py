"""The proof: the network as it is and a change, trained alike from several fresh seeds."""

import math
from collections.abc import Sequence

from isograd.remedies import Case
from isograd.repairs.comparing import Comparison
from isograd.repairs.racing import Runner
from isograd.repairs.result import Trial
from isograd.repairs.scoring import Judge
from isograd.repairs.supply import Supply
from isograd.repairs.treatments import Treatment


def trial(
    treatment: Treatment,
    case: Case,
    supply: Supply,
    judge: Judge,
    *,
    seeds: Sequence[int],
    steps: int,
) -> Trial:
    """Trains one treatment from every seed, and judges the end of each run.

    Raises:
        IsogradError: the network cannot be trained; of a change, that it cannot be made.
    """
    runners = []
    for seed in seeds:
        runner = Runner(treatment, treatment.start(case, seed), seed)
        runner.advance(supply, steps)
        runner.judged(judge)
        runners.append(runner)
    return Trial(
        treatment.name,
        tuple(tuple(r.losses) for r in runners),
        tuple(r.score for r in runners),
        tuple(r.broke for r in runners),
    )


def compared(before: Trial, after: Trial, untrained: float) -> Comparison:
    """Two trials on the same seeds.

    Args:
        before: of the network as it is.
        after: of the change.
        untrained: score of the network before training: a run that broke, or ended worse than
            that, counts as much, so that one such run does not decide.
    """
    worst = untrained if math.isfinite(untrained) else _finite_worst(before, after)
    return Comparison(
        tuple(min(score, worst) for score in before.scores),
        tuple(min(score, worst) for score in after.scores),
    )


def _finite_worst(*trials: Trial) -> float:
    finite = [s for t in trials for s in t.scores if math.isfinite(s)]
    return 2 * max(finite, default=1.0) + 1
