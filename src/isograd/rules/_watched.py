"""A watched run: its looks over time, its learning rates, and whether its loss is at its best."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from isograd.records import Number, Reading, Record
from isograd.rules._course import Course, course, known_chance
from isograd.rules._numbers import counted
from isograd.rules._rates import lower, rates
from isograd.rules._remembering import remembered
from isograd.rules._rule import NotApplicable

NOW = 3
"""Latest looks whose median is called now: a single odd batch is not the state of a network."""

FEW = 10
"""Losses below which nothing is said about their trend."""

LOST = 0.15
"""Part of what training had gained that a loss must have lost again to count as worse: between
batches and epochs a healthy loss moves by less."""

ERRORS = 3.0
"""Standard errors of the recent loss that are no news."""

RECENT = 20
"""Latest losses whose median is the loss of now."""


@dataclass(frozen=True)
class Over:
    """One column at all looks that hold it, first to last."""

    steps: tuple[int, ...]
    rows: tuple[tuple[Number, ...], ...]
    """One row per site or parameter, with one entry per look."""

    def now(self, row: int) -> float | None:
        """Median of the latest looks; `None` if one of them is no finite number."""
        return _median(self.rows[row][-NOW:])

    def then(self, row: int) -> float | None:
        """Median of the earliest looks."""
        return _median(self.rows[row][:NOW])


def some(count: int) -> list[int]:
    """Which looks to compare: evenly spaced ones of the past, then the latest of now."""
    past = max(0, count - NOW)
    step = -(-past // PAST) if past else 1
    return [*range(0, past, step), *range(past, count)]


PAST = 12
"""Looks before that are enough for a median."""


def _median(values: Sequence[Number]) -> float | None:
    known = [v for v in values if v is not None and math.isfinite(v)]
    return median(known) if known and len(known) == len(values) else None


def watched(reading: Reading) -> bool:
    """Whether this is a run that is watched, rather than one look or a rehearsal."""
    return reading.last.fact("watch.losses") is not None


@remembered
def looks(reading: Reading) -> list[Record]:
    """The first look and the later ones that have its parameters, so that `weight.*` compare."""
    own = reading.seen.parameters
    later = (x for x in reading.history if x.parameters is own or x.parameters == own)
    return [reading.seen, *later]


@remembered
def _alike(reading: Reading) -> list[Record]:
    """Those of the looks that have the same sites too: a forward may run otherwise at times."""
    own = reading.seen.sites
    return [look for look in looks(reading) if look.sites is own or look.sites == own]


def over(reading: Reading, key: str, *, fewest: int) -> Over | NotApplicable:
    """A column over time.

    Args:
        reading: the run.
        key: name of the column.
        fewest: looks that must hold it.
    """
    among = looks(reading) if key.startswith("weight.") else _alike(reading)
    held = [look for look in among if key in look.series]
    if len(held) < fewest:
        return NotApplicable(
            f"{key} is known of {counted(len(held), 'look')}, {fewest} are needed (isograd.watch "
            "makes them)"
        )
    rows = tuple(zip(*(look.series[key] for look in held), strict=True))
    return Over(tuple(look.step for look in held), rows)


def latest(reading: Reading, key: str) -> Record:
    """The latest look that holds a column; the first one where none does."""
    among = looks(reading) if key.startswith("weight.") else _alike(reading)
    return next((look for look in reversed(among) if look.has(key)), reading.seen)


def latest_with(reading: Reading, key: str) -> Record:
    """The latest look that knows a fact; the last one where none does."""
    after = (look for look in reversed((reading.seen, *reading.history)) if key in look.facts)
    return next(after, reading.last)


def warming(reading: Reading) -> bool:
    """Whether the learning rate is still on its way up: a warm-up, or a restart."""
    found = rates(reading)
    return len(found) > 1 and found[-1] > 1.1 * found[-1 - len(found) // 2]


def cooling(reading: Reading) -> bool:
    """Whether the learning rate has come down from its largest to less than a third."""
    found = rates(reading)
    return bool(found) and found[-1] < max(found) / 3


@remembered
def suffers(reading: Reading) -> bool | None:
    """Whether the loss is worse than it was, or never got anywhere; `None`: too few to tell."""
    path = course(reading)
    if path is None or len(path.losses) < FEW:
        return True if path is not None and path.broke_at is not None else None
    if path.broke_at is not None:
        return True
    chance = known_chance(reading.seen)
    start, now, best = levels(path)
    if chance is not None:
        start = max(start, chance)
    noise = path.noise * math.sqrt(2 / recent(path))
    gained = start - best
    if gained <= max(ERRORS * noise, 0.01 * abs(start)):
        return None if chance is None else True
    return now - best > max(ERRORS * noise, LOST * gained)


def recent(path: Course) -> int:
    """How many losses the levels of a course are medians of."""
    return max(3, min(RECENT, len(path.losses) // 4))


def levels(path: Course) -> tuple[float, float, float]:
    """Medians of the first losses, of the latest, and of the best stretch of that length."""
    count = recent(path)
    parts = [path.losses[k : k + count] for k in range(0, len(path.losses) - count + 1, count)]
    now = median(path.losses[-count:])
    return median(parts[0]), now, min(now, *(median(part) for part in parts))


def cures(reading: Reading) -> tuple[str, ...]:
    """What to do about a training that steps have harmed."""
    return (
        f"{lower(reading)}, or warm it up; go back to a checkpoint from before.",
        "Clip the gradient norm, so that one bad batch cannot do this.",
    )
