"""What sinks that do not keep whole records show of one: a few numbers, and its worst layers."""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence

from isograd.findings import Alarm
from isograd.records import NONFINITE, WEIGHT_KINDS, Record

SIGNALS = ("forward.rms", "backward.rms")
"""Read at weight layers; of a network without any, at all sites."""

SHARES = ("forward.dead", "forward.saturated")
"""Read at activations."""

WEIGHTS = ("weight.rms", "weight.grad_rms", "weight.update_ratio")
"""Read of weights; of a network without any, of all parameters."""

KEYS = (*SIGNALS, *SHARES, *WEIGHTS)
"""The series that are shown."""

Key = tuple[str, str, int]
"""What makes an alarm one: code, cause and first step."""

Alarms = dict[Key, Alarm]
"""The alarms that stand."""


def key(alarm: Alarm) -> Key:
    """What it has in common with what is said of it later."""
    return alarm.finding.code, alarm.finding.cause, alarm.first_step


def update(standing: Alarms, changes: Sequence[Alarm]) -> None:
    """Follows alarms as they are raised, get worse and are withdrawn."""
    for alarm in changes:
        standing.pop(key(alarm), None)
        if alarm.state != "withdrawn":
            standing[key(alarm)] = alarm


def column(record: Record, series: str) -> list[tuple[int, str, float]]:
    """(index, kind, number) of the rows of a series that are shown; numbers may be inf or NaN."""
    if series in WEIGHTS:
        kinds = [p.kind if p.is_weight else "" for p in record.parameters]
        all_kinds = [p.kind for p in record.parameters]
    else:
        all_kinds = [site.kind for site in record.sites]
        kinds = [kind if kind in WEIGHT_KINDS or series in SHARES else "" for kind in all_kinds]
    if not any(kinds):
        kinds = all_kinds
    return [
        (index, kind, number)
        for index, kind in enumerate(kinds)
        if kind and (number := value(record, series, index)) is not None
    ]


def value(record: Record, series: str, index: int) -> float | None:
    """One entry; NaN where any number behind it was none, whatever the others give."""
    broken = NONFINITE.get(series)
    if broken is not None and record.value(broken, index):
        return math.nan
    return record.value(series, index)


def scalars(record: Record) -> dict[str, float]:
    """Few numbers with a name each: per series the median of each kind, smallest and largest.

    `forward.rms/linear` is the median over the linear layers; a series of one number has only that.
    """
    found: dict[str, float] = {}
    for key in KEYS:
        rows = column(record, key)
        kinds: dict[str, list[float]] = {}
        for _, kind, number in rows:
            kinds.setdefault(kind, []).append(number)
        for kind, numbers in sorted(kinds.items()):
            # NaN has no order; as infinity it is seen, and a median stays one.
            found[f"{key}/{kind}"] = statistics.median(map(_ordered, numbers))
        if len(rows) > 1:
            numbers = [_ordered(number) for *_, number in rows]
            if key not in SHARES:
                found[f"{key}/smallest"] = min(numbers)
            found[f"{key}/largest"] = max(numbers)
    lr = record.fact("optimizer.lr")
    if isinstance(lr, (int, float)):
        found["optimizer.lr"] = float(lr)
    return found


def worst(record: Record, named: Iterable[str], most: int) -> list[int]:
    """Indices of the weight layers most in need of a look, worst first.

    Those that alarms name, then those whose signal or gradient lies furthest from the median of
    all, in decades; what is zero or not finite lies furthest.

    Args:
        record: one look.
        named: sites and parameters that alarms name.
        most: how many.
    """
    rank: dict[str, int] = {}
    for name in named:
        rank.setdefault(name, len(rank))
    strain: dict[int, float] = {}
    for key in SIGNALS:
        rows = [(index, _decades(number)) for index, _, number in column(record, key)]
        finite = [decades for _, decades in rows if math.isfinite(decades)]
        middle = statistics.median(finite) if finite else 0.0
        for index, decades in rows:
            strain[index] = max(strain.get(index, 0.0), abs(decades - middle))
    for index in range(len(record.sites)):
        if rank.keys() & _names(record, index):
            strain.setdefault(index, 0.0)

    def order(index: int) -> tuple[int, float]:
        ranks = [rank[name] for name in _names(record, index) if name in rank]
        return min(ranks, default=len(rank)), -strain[index]

    return sorted(strain, key=order)[:most]


def _names(record: Record, index: int) -> set[str]:
    site = record.sites[index]
    return {site.name, *(record.parameters[p].name for p in site.parameters)}


def named(alarms: Iterable[Alarm]) -> Iterator[str]:
    """The sites and parameters that alarms name, the latest alarm first."""
    for alarm in reversed(list(alarms)):
        yield from alarm.finding.sites


def _ordered(number: float) -> float:
    return math.inf if math.isnan(number) else number


def _decades(number: float) -> float:
    return math.log10(number) if math.isfinite(number) and number > 0 else math.inf
