"""What networks are judged by in a repair, and the scores from which gains count."""

import math
from collections.abc import Collection

from isograd.remedies import Case
from isograd.repairs.planning import flagged
from isograd.repairs.scoring import Judge, judge
from isograd.repairs.supply import Supply
from isograd.repairs.treatments import Treatment

STARTS_LARGE = ("IG603",)
"""Findings about the size of the loss, which scores that take the outputs' scale out would forgive:
what the user sees is what has to fall."""
TRAINED = 0.9
"""Part of a constant answer's score below which a network has been trained before."""


def judge_of(case: Case, supply: Supply, treatments: Collection[Treatment], seed: int) -> Judge:
    """The judge of a network and of all that could be done to it."""
    record, found = case.record, flagged(case.findings)
    stale = case.has("norm-mode")  # shows in evaluation mode only
    return judge(
        case.model,
        supply,
        case.loss,
        # A loss that is itself at fault is no measure; other changes keep the user's units.
        new_loss=any("loss" in t.families for t in treatments),
        scale=case.has("target-not-normalized", "output-activation", "dead-output"),
        training=case.model.training and not stale,
        seed=seed,
        own=record.fact("loss.kind") == "other"
        or bool(record.fact("output.cosines"))
        or any(f.code in STARTS_LARGE for f in found),
        labels=any(plan.remedy == "loss-classes" for t in treatments for plan in t.plans),
        code=record.fact("loss.code") if any(f.code == "IG612" for f in found) else (),
    )


def chance_of(case: Case, by: Judge) -> float | None:
    """Score of a constant answer, where it is known."""
    if by.measure in ("line", "variance"):
        return 1.0
    if by.measure == "classes":
        return math.log(case.record.fact("target.classes") or 1) or None
    return case.record.fact("loss.chance") if by.measure == "loss" else None


def starts(case: Case, by: Judge) -> tuple[float, ...]:
    """Scores of who has learned nothing: a constant answer, the network before training.

    A third, of a constant answer again, for a network that was trained before: what it has learned
    can be lost.
    """
    untrained = by(case.model) if by.untrained is None else by.untrained
    chance = chance_of(case, by)
    lost = (chance,) if chance is not None and untrained < TRAINED * chance else ()
    # At the best temperature nobody is worse than a constant answer by more than noise.
    first = untrained if by.measure == "classes" else min(untrained, chance or untrained)
    return first, untrained, *lost
