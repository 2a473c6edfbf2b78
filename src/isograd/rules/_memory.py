"""How long recurrent layers remember."""

import math

from isograd.records import Record

FORGOTTEN = 1e-6
"""Factor over a whole sequence below which nothing of the first steps is left: float32 rounds."""


def forgetful(record: Record) -> tuple[str, float, float] | None:
    """A recurrent layer whose gradient is lost before it comes to the first time steps.

    Returns:
        Its name, the steps that it remembers (in which the gradient falls by e) and those of its
        sequence; None where there is none.
    """
    for index, rate in record.pairs("backward.time_decay"):
        steps = record.value("forward.time_steps", index)
        if steps and math.isfinite(rate) and rate * steps < math.log(FORGOTTEN):
            return record.sites[index].name, -1 / rate, steps
    return None
