"""What the reason of a repair says: what trials came to, and what is left to the user."""

import math

from isograd.findings import Finding
from isograd.repairs.attempting import NOT_TRIED, Attempt
from isograd.repairs.choosing import NOISE
from isograd.repairs.comparing import Comparison
from isograd.repairs.planning import Candidates, flagged
from isograd.repairs.proving import FEWEST_STEPS, TELLS
from isograd.repairs.result import Trial
from isograd.repairs.scoring import MEASURES
from isograd.repairs.treatments import AS_IT_IS, Treatment

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
    """`loss 0.41 after 30 steps, where the network as it is comes to 2.3 (means of 3 seeds; …)`."""
    # Those of the proof, where none is lost: what counts may be less.
    whole = all(map(math.isfinite, trials[1].scores))
    scores = trials[1].scores if whole else comparison.after
    after = sum(scores) / len(scores)
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
            f" A constant answer comes to {attempt.chance:.4g}: whether it learns more than that "
            "shows in more steps only."
        )
    if not comparison.better and steps < FEWEST_STEPS:
        told += f" So few steps tell little: give a budget of {ENOUGH_BUDGET} steps or more."
    return told


def unshown(attempt: Attempt, comparison: Comparison) -> bool:
    """Whether a change that is better has not come below a constant answer yet.

    In the mean, or, where it is better in that it does not break, in every run.
    """
    scores, blind = comparison.after, attempt.chance
    after = max(scores) if comparison.lasts else sum(scores) / len(scores)
    return blind is not None and after >= (1 - TELLS) * blind


def _end(trial: Trial) -> str:
    """`comes to 2.3`, `breaks`, `comes to 2.3 and breaks in 1 of 3 runs`."""
    whole = [score for score in trial.scores if math.isfinite(score)]
    if not whole:
        return "breaks"
    broke = len(trial.scores) - len(whole)
    told = f" and breaks in {broke} of {len(trial.scores)} runs" if broke else ""
    return f"comes to {sum(whole) / len(whole):.4g}{told}"


def nothing_helped(
    attempt: Attempt,
    found: Candidates,
    change: Treatment,
    comparison: Comparison,
    trials: tuple[Trial, Trial],
    late: int,
) -> str:
    """What the change that came nearest came to, and what is left to the user.

    Args:
        attempt: is over.
        found: what could be tried.
        change: that came nearest.
        comparison: of the network as it is and with the change.
        trials: of both.
        late: steps after which what is wrong shows.
    """
    noise = NOISE * abs(sum(comparison.before) / len(comparison.before))
    told = f"{change.name} came nearest: "
    if comparison.gain <= noise:
        what = "makes a difference" if comparison.gain >= -noise else "does better"
        told = f"No change that was tried {what}; with {change.name}: "
    told += outcome(attempt, comparison, trials)
    first = unmended(attempt, found)
    if first:
        return f"{first} {told}"
    return f"{told} {to_do(attempt, late, max(len(x) for x in trials[0].losses))}"


def unmended(attempt: Attempt, found: Candidates) -> str:
    """The first cause that was found, if nothing that could be tried mends it, and what does."""
    flags = flagged(attempt.case.findings)
    if not flags or any(one.cause == 0 for one in found.treatments):
        return ""
    advice = f"; yours to do: {flags[0].remedies[0]}" if flags[0].remedies else "."
    return (
        f"{flags[0].code} {flags[0].cause} comes before all else, and no change that is made here "
        f"mends it{advice}"
    )


def to_do(attempt: Attempt, late: int, steps: int) -> str:
    """What is left to the user where nothing helped.

    Args:
        attempt: is over.
        late: steps after which what is wrong shows.
        steps: of a run of the proof; 0 without one.
    """
    untried = sum(why == NOT_TRIED for why in attempt.dropped.values())
    told, room = list[str](), 0
    if untried:
        room = max(2 * attempt.budget.steps, ENOUGH_BUDGET)
        told.append(f"{untried} further change{'s were' if untried > 1 else ' was'} not tried.")
    if 0 < steps < late:
        room = max(room, LATE * late)
        told.append(f"What was found shows after {late} steps, and a run of the proof had {steps}.")
    if room:
        told.append(
            f"A larger budget has room for {'both' if len(told) > 1 else 'that'}: budget={room}."
        )
    return " ".join((*told, OWN))


def untried(found: Candidates) -> str:
    """Why nothing could be tried."""
    if found.skipped:
        return f"No remedy fits: see why each was skipped. {OWN}"
    return f"No remedy addresses what was found. {OWN}"
