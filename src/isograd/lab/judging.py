"""judge(): the numbers of a result beside those that must come out."""

from dataclasses import dataclass

from isograd.lab.experiment import Experiment
from isograd.lab.result import Result


@dataclass(frozen=True)
class Check:
    """One number that had to come out, and what came out."""

    claim: str
    number: str
    measured: float | None
    """None where the result does not have it."""
    wanted: str
    why: str
    met: bool


def judge(experiment: Experiment, result: Result) -> tuple[Check, ...]:
    """Every expected number that holds at the result's scale and on its data.

    None for a result whose settings were changed by hand: nobody said what must come out.
    """
    if result.scale == "custom":
        return ()
    return tuple(
        Check(
            claim=answer.claim,
            number=one.number,
            measured=result.numbers.get(one.number),
            wanted=one.words(result.numbers),
            why=one.why,
            met=one.met(result.numbers),
        )
        for answer, one in experiment.expected()
        if one.applies(result.scale, result.data)
    )
