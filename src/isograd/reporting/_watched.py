"""Watched: a watched run as a report tells it, and what every form says of it in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from isograd.findings import Alarm, Diagnosis, Severity
from isograd.records import NONFINITE, Reading, Record
from isograd.reporting import _summary as summary
from isograd.reporting._numbers import counted, printable, short
from isograd.storage import Progress, Run, Session

LOOKS = 120
"""Looks of a run that a report is made from, both ends among them."""

CURVE = 300
"""Pieces of the curve of the loss, each with its smallest and its largest."""

ENDS = {"finished": "healthy", "running": "healthy"}
"""How a run may stand without anybody having to look."""


@dataclass(frozen=True)
class Watched:
    """One session of a run file."""

    session: Session
    progress: Progress
    diagnosis: Diagnosis
    """The last judgement; as long as there is none, the alarms that stand. Its reading holds the
    looks."""
    losses: tuple[tuple[int, ...], tuple[float, ...]]
    """Steps and values, all that were written."""
    alarms: tuple[Alarm, ...]
    """As they stand now, in the order in which they were raised."""

    @property
    def looks(self) -> tuple[Record, ...]:
        """All looks, in order of their step."""
        reading = self.diagnosis.reading
        return (reading.seen, *reading.history)

    @property
    def latest(self) -> Diagnosis:
        """The same judgement beside the numbers of the latest look alone."""
        first = {**self.session.info.facts, **self.looks[0].facts}
        seen = summary.latest_look(first, self.looks[-1])
        return replace(self.diagnosis, reading=Reading(seen))

    @property
    def standing(self) -> tuple[Alarm, ...]:
        """The alarms that were not withdrawn."""
        return tuple(alarm for alarm in self.alarms if alarm.state != "withdrawn")


def gather(run: Run) -> Watched:
    """All that a report needs of a run that is open.

    Raises:
        StorageError: nothing was looked at yet.
    """
    reading = run.reading(LOOKS)
    alarms = run.alarms()
    diagnosis = run.diagnosis()
    if diagnosis is None:
        standing = [alarm.finding for alarm in alarms if alarm.state != "withdrawn"]
        standing.sort(key=lambda finding: -finding.severity.weight)
        diagnosis = Diagnosis(tuple(standing), (), reading)
    return Watched(
        run.session, run.progress(), replace(diagnosis, reading=reading), run.losses(), alarms
    )


def name(watched: Watched) -> str:
    """What the run is called."""
    return printable(watched.session.info.name)


def state(watched: Watched) -> str:
    """`running`, `finished`, `died` or what stopped it."""
    return printable(watched.session.state)


def level(watched: Watched) -> str:
    """error, warning or healthy: the worst of how it ended and what was found."""
    worst = summary.level(watched.diagnosis)
    if any(alarm.finding.severity is Severity.ERROR for alarm in watched.standing):
        worst = "error"
    elif watched.session.state not in ENDS and worst == "healthy":
        worst = "warning"
    return worst


def verdict(watched: Watched) -> str:
    """`2 alarms stand, 1 is over`, `no alarm`; what to fix first where something is found."""
    standing = len(watched.standing)
    over = len(watched.alarms) - standing
    words = [f"{counted(standing, 'alarm')} stand{'s' * (standing == 1)}"] if standing else []
    words += [f"{counted(over, 'alarm') if not standing else over} over"] if over else []
    first = summary.first(watched.diagnosis)
    return ", ".join(words or ["no alarm"]) + (f"; {first}" if first else "")


def tiles(watched: Watched) -> list[tuple[str, str]]:
    """The numbers that say how the run stands."""
    values = [x for x in watched.losses[1] if math.isfinite(x)]
    last = watched.looks[-1]
    found = [("step", short(watched.progress.step))]
    if watched.losses[1]:
        found.append(("loss", short(watched.losses[1][-1])))
    if values:
        at = watched.losses[0][watched.losses[1].index(min(values))]
        found.append(("lowest loss", f"{short(min(values))} at {at:,}"))
    if (lr := last.fact("optimizer.lr")) is not None:
        found.append(("learning rate", short(lr) if isinstance(lr, (int, float)) else str(lr)))
    found.append(("looks", short(watched.progress.looks)))
    if took := _took(watched.session):
        found.append(("took", took))
    return found


def alarm_words(alarm: Alarm) -> str:
    """`steps 120 to 400, worst 310`; `step 7`."""
    if alarm.first_step == alarm.last_step:
        return f"step {alarm.first_step:,}"
    worst = f", worst {alarm.worst_step:,}" if alarm.worst_step != alarm.first_step else ""
    return f"steps {alarm.first_step:,} to {alarm.last_step:,}{worst}"


def curve(watched: Watched) -> tuple[list[int], list[float]]:
    """The losses, of many the smallest and the largest of every piece, so that spikes stay."""
    steps, values = watched.losses
    if len(steps) <= 2 * CURVE:
        return list(steps), list(values)
    keep = {0, len(steps) - 1}
    size = math.ceil(len(steps) / CURVE)
    for start in range(0, len(steps), size):
        piece = range(start, min(start + size, len(steps)))
        finite = [i for i in piece if math.isfinite(values[i])]
        keep.update(i for i in piece[:1] if len(finite) < len(piece))  # a gap where one is
        if finite:
            keep.update((min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)))
        if len(finite) < len(piece):
            keep.add(next(i for i in piece if not math.isfinite(values[i])))
    kept = sorted(keep)
    return [steps[i] for i in kept], [values[i] for i in kept]


def span(watched: Watched) -> tuple[int, int]:
    """The first and the last step of which anything is known."""
    steps = [look.step for look in watched.looks] + list(watched.losses[0][:1])
    return min(steps), max(watched.progress.step or 0, *steps)


def column(look: Record, key: str, names: Sequence[str]) -> list[float | None]:
    """A series of one look at the sites or parameters of these names.

    NaN where any entry was none, whatever the others give: that is what has to be seen.
    """
    weights = key.startswith("weight.")
    rows = [row.name for row in look.parameters] if weights else [row.name for row in look.sites]
    broken = look.series.get(NONFINITE.get(key, ""), ())
    numbers = dict(zip(rows, look.series.get(key, ()), strict=False))
    numbers.update((row, math.nan) for row, count in zip(rows, broken, strict=False) if count)
    return [numbers.get(name) for name in names]


def _took(session: Session) -> str:
    if session.ended is None:
        return ""
    try:
        begun, ended = (datetime.fromisoformat(t) for t in (session.info.started, session.ended))
        seconds = (ended - begun).total_seconds()
    except (ValueError, TypeError):
        return ""
    if seconds < 0:
        return ""
    hours, minutes = divmod(round(seconds) // 60, 60)
    rest = f"{round(seconds) % 60} s"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest}" if minutes else rest
