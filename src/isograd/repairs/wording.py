"""What the reason of a repair says: what trials came to, and what is left to the user."""

import math

from isograd.findings import Finding
from isograd.repairs.attempting import NOT_TRIED, Attempt
from isograd.repairs.comparing import Comparison
from isograd.repairs.planning import Candidates
from isograd.repairs.proving import FEWEST_STEPS, TELLS
from isograd.repairs.result import Trial
from isograd.repairs.scoring import MEASURES
from isograd.repairs.treatments import AS_IT_IS

TOLD = 1.05
"""Times what a lost run counts at which its own score is worth a word."""
ENOUGH_BUDGET = 100
"""Steps from which a repair races, combines and proves."""
LATE = 20
"""Steps of a budget for each step after which trouble shows, so that runs of the proof reach it."""
OWN = "What the findings advise is for you to do."


def yours(finding: Finding) -> str:
    """What a finding that stands asks of the user."""
    advice = f"; yours to do: {finding.remedies[0]}" if finding.remedies else "."
    return f"{finding.code} {finding.cause} stands, which this does not mend{advice}"


def outcome(attempt: Attempt, comparison: Comparison, trials: tuple[Trial, Trial]) -> str:
    """`loss 2.3 -> 0.41 after 30 steps, mean of 3 seeds (p = 0.002)`."""
    after = sum(comparison.after) / len(comparison.after)
    steps = max(len(curve) for trial in trials for curve in trial.losses)
    told = (
        f"{MEASURES[attempt.judge.measure]} {after:.4g} after {steps} steps, where the network "
        f"{AS_IT_IS} {_end(trials[0])} (means of {len(comparison.before)} seeds; "
        f"{comparison.told})."
    )
    most = max((*comparison.before, *comparison.after))
    if any(score > TOLD * most for trial in trials for score in trial.scores):
        told += (
            f" A run that broke, or ended worse than who has learned nothing, counts {most:.4g}."
        )
    if comparison.better and unshown(attempt, comparison):
        told += (
            f" A constant answer comes to {guessed(attempt):.4g}: whether it learns more than that "
            "shows in more steps only."
        )
    if not comparison.better and steps < FEWEST_STEPS:
        told += f" So few steps tell little: give a budget of {ENOUGH_BUDGET} steps or more."
    return told


def unshown(attempt: Attempt, comparison: Comparison) -> bool:
    """Whether a change that is better has not come below a constant answer yet."""
    after, blind = sum(comparison.after) / len(comparison.after), guessed(attempt)
    return blind is not None and after >= (1 - TELLS) * blind


def guessed(attempt: Attempt) -> float | None:
    """Score of a constant answer, where it is known."""
    if attempt.judge.measure == "classes":
        return math.log(attempt.case.record.fact("target.classes") or 1) or None
    return attempt.chance


def _end(trial: Trial) -> str:
    """`comes to 2.3`, `breaks`, `comes to 2.3 and breaks in 1 of 3 runs`."""
    whole = [score for score in trial.scores if math.isfinite(score)]
    if not whole:
        return "breaks"
    broke = len(trial.scores) - len(whole)
    told = f" and breaks in {broke} of {len(trial.scores)} runs" if broke else ""
    return f"comes to {sum(whole) / len(whole):.4g}{told}"


def to_do(attempt: Attempt, late: int, steps: int) -> str:
    """What is left to the user where nothing helped.

    Args:
        attempt: is over.
        late: steps after which what is wrong shows.
        steps: of a run of the proof; 0 without one.
    """
    untried = sum(why == NOT_TRIED for why in attempt.dropped.values())
    told = []
    if untried:
        room = max(2 * attempt.budget.steps, ENOUGH_BUDGET)
        told.append(
            f"{untried} further change{'s were' if untried > 1 else ' was'} not tried: budget="
            f"{room} has room for more."
        )
    if 0 < steps < late:
        told.append(
            f"What was found shows after {late} steps, and a run of the proof had {steps}: budget="
            f"{LATE * late} has room for longer ones."
        )
    return " ".join((*told, OWN))


def untried(found: Candidates) -> str:
    """Why nothing could be tried."""
    if found.skipped:
        return f"No remedy fits: see why each was skipped. {OWN}"
    return f"No remedy addresses what was found. {OWN}"
