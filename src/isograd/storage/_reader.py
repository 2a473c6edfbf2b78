"""Run: a watched run as its file holds it, readable while it is written."""

import math
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

from isograd.errors import StorageError
from isograd.findings import Alarm, Diagnosis, Finding, Verdict
from isograd.records import Number, Reading, Record
from isograd.storage._columns import entry, size, unpack, unpack_histograms
from isograd.storage._files import open_to_read, troubles
from isograd.storage._plain import as_free, from_plain, loads
from isograd.storage._sessions import Session, read_sessions

LATEST = 512
"""Losses of the latest steps that rules see one by one; about as many older ones are kept."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    step: int | None
    """The latest step of which anything is known."""
    looks: int
    """At how many steps the network was looked at."""
    loss: float | None
    """The latest."""


@dataclass(frozen=True)
class Mark:
    """How far somebody has read; the beginning where nothing is given."""

    reading: int = 0
    loss: int = 0
    alarm: int = 0


@dataclass(frozen=True)
class News:
    """What was added since a mark."""

    records: tuple[Record, ...]
    losses: tuple[tuple[int, float], ...]
    alarms: tuple[Alarm, ...]
    mark: Mark = field(default_factory=Mark)
    """Where to go on."""


class Run:
    """A watched run, open for reading; use it in a `with` statement, or `close` it.

    Every method reads what is there at that moment; a training that goes on is neither
    stopped nor slowed.
    """

    def __init__(self, path: str | PathLike[str], session: int | None = None) -> None:
        self.path = Path(path)
        with self._troubles():
            self._run = open_to_read(self.path)
        self._layouts: dict[int, tuple[Record, tuple[str, ...]]] = {}
        try:
            count = len(read_sessions(self._run, self.path))
            if not count:
                raise StorageError(
                    f"{self.path}: holds no watched run; isograd.watch(run=...) writes one, and "
                    f"`isograd report {self.path}` shows what it holds"
                )
            self._number = count if session is None else session
            if not 1 <= self._number <= count:
                raise StorageError(
                    f"{self.path}: has no session {session}, it holds {count}, counted from 1"
                )
            self._key = self.session.key
        except BaseException:
            self._run.close()
            raise

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file."""
        self._run.close()

    @property
    def session(self) -> Session:
        """What is known of the run, and whether it goes on."""
        with self._troubles():
            return read_sessions(self._run, self.path)[self._number - 1]

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that were looked at, in the order in which they were added."""
        rows = self._all("SELECT step FROM readings WHERE session = ? ORDER BY id", self._key)
        return tuple(step for (step,) in rows)

    def record(self, step: int) -> Record:
        """What was read at a step.

        Raises:
            StorageError: that step was not looked at.
        """
        rows = self._all(
            f"SELECT {_FIELDS} FROM readings WHERE session = ? AND step = ? ORDER BY id DESC",
            self._key,
            step,
        )
        if not rows:
            known = self.steps
            near = min(known, key=lambda other: abs(other - step), default=None)
            raise StorageError(
                f"{self.path}: step {step} was not looked at; "
                + (f"the nearest is {near}" if known else "no step was yet")
            )
        return self._record(rows[0])

    def records(self, most: int | None = None) -> tuple[Record, ...]:
        """All that was read, in order; of more than `most` looks some, both ends among them.

        Those are spread evenly, half by their number and half by their step, so that neither a
        stretch with few looks is left out nor one with many.
        """
        rows = self._all("SELECT id, step FROM readings WHERE session = ? ORDER BY id", self._key)
        keys = [key for key, _ in rows]
        if most is not None and len(keys) > most:
            keys = [keys[i] for i in _spread([step for _, step in rows], most)]
        found = []
        for key in keys:
            (row,) = self._all(f"SELECT {_FIELDS} FROM readings WHERE id = ?", key)
            found.append(self._record(row))
        return tuple(found)

    def column(self, key: str, name: str) -> tuple[tuple[int, ...], tuple[Number, ...]]:
        """One series over time at one site, or of one parameter: steps and numbers.

        Args:
            key: of a series, such as `forward.rms`.
            name: of a site; of a parameter where the key begins with `weight.`.
        """
        steps: list[int] = []
        numbers: list[Number] = []
        rows = self._all(
            "SELECT step, layout, forms, data FROM readings WHERE session = ? ORDER BY id",
            self._key,
        )
        for step, layout, forms, data in rows:
            base, keys = self._layout(layout)
            row = _names(base, key).get(name)
            if row is None or key not in keys:
                continue
            form, start = _where(base, keys, forms, key)
            steps.append(step)
            numbers.append(entry(form, data, start, row))
        return tuple(steps), tuple(numbers)

    def losses(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Steps and losses, of all steps, looked at or not."""
        rows = self._all("SELECT step, value FROM losses WHERE session = ? ORDER BY id", self._key)
        return tuple(s for s, _ in rows), tuple(_loss(value) for _, value in rows)

    def progress(self) -> Progress:
        """How far it is, without reading all of it."""
        looks, step = self._all(
            "SELECT count(*), max(step) FROM readings WHERE session = ?", self._key
        )[0]
        last = self._all(
            "SELECT step, value FROM losses WHERE session = ? ORDER BY id DESC LIMIT 1", self._key
        )
        steps = [number for number in (step, *(row[0] for row in last)) if number is not None]
        loss = _loss(last[0][1]) if last else None
        return Progress(max(steps, default=None), looks, loss)

    def alarms(self) -> tuple[Alarm, ...]:
        """Every alarm as it stands now, in the order in which they were raised."""
        latest: dict[tuple[str, str, int], Alarm] = {}
        for alarm in self.since(Mark(reading=_FAR, loss=_FAR)).alarms:
            latest[alarm.finding.code, alarm.finding.cause, alarm.first_step] = alarm
        return tuple(latest.values())

    def reading(self, most: int = 60) -> Reading:
        """What rules judge: the first look, and the later ones, thinned to `most`.

        Raises:
            StorageError: nothing was looked at yet.
        """
        looks = self.records(most)
        if not looks:
            raise StorageError(f"{self.path}: no step was looked at yet")
        last = replace(
            looks[-1], facts={**looks[-1].facts, "watch.losses": _thinned(*self.losses())}
        )
        looks = (*looks[:-1], last)
        kept = self._judgement()
        expected = kept["expected"] if kept else None
        return Reading(
            looks[0], None if expected is None else from_plain(Record, expected), looks[1:]
        )

    def diagnosis(self) -> Diagnosis | None:
        """The last judgement; `None` as long as the run has not ended."""
        kept = self._judgement()
        if kept is None:
            return None
        return Diagnosis(
            findings=tuple(from_plain(Finding, plain) for plain in kept["findings"]),
            verdicts=tuple(from_plain(Verdict, plain) for plain in kept["verdicts"]),
            reading=self.reading(),
        )

    def since(self, mark: Mark, most: int = -1) -> News:
        """What was added since `mark`, to follow a run: `news = run.since(news.mark)`.

        Args:
            mark: how far was read already.
            most: looks at once, all where it is negative.
        """
        with self._troubles(), _snapshot(self._run):
            looks = self._all(
                f"SELECT id, {_FIELDS} FROM readings WHERE session = ? AND id > ? ORDER BY id "
                "LIMIT ?",
                self._key,
                mark.reading,
                most,
            )
            losses = self._all(
                "SELECT id, step, value FROM losses WHERE session = ? AND id > ? ORDER BY id",
                self._key,
                mark.loss,
            )
            alarms = self._all(
                "SELECT id, finding, state, first, worst, last FROM alarms "
                "WHERE session = ? AND id > ? ORDER BY id",
                self._key,
                mark.alarm,
            )
            return News(
                tuple(self._record(row[1:]) for row in looks),
                tuple((step, _loss(value)) for _, step, value in losses),
                tuple(
                    Alarm(from_plain(Finding, loads(finding)), *rest)
                    for _, finding, *rest in alarms
                ),
                Mark(
                    looks[-1][0] if looks else mark.reading,
                    losses[-1][0] if losses else mark.loss,
                    alarms[-1][0] if alarms else mark.alarm,
                ),
            )

    def _troubles(self) -> Any:
        return troubles(self.path, "read")

    def _all(self, statement: str, *values: Any) -> list[Any]:
        with self._troubles():
            return self._run.execute(statement, values).fetchall()

    def _judgement(self) -> Any:
        ((text,),) = self._all("SELECT diagnosis FROM sessions WHERE id = ?", self._key)
        return None if text is None else loads(text)

    def _layout(self, number: int) -> tuple[Record, tuple[str, ...]]:
        if number not in self._layouts:
            ((keys, document),) = self._all(
                "SELECT keys, document FROM layouts WHERE id = ?", number
            )
            base = from_plain(Record, loads(document))
            self._layouts[number] = base, tuple(loads(keys)["keys"])
        return self._layouts[number]

    def _record(self, row: Sequence[Any]) -> Record:
        step, layout, forms, facts, histograms, data = row
        base, keys = self._layout(layout)
        series, start = {}, 0
        for key, form in zip(keys, forms, strict=True):
            rows = _rows(base, key)
            end = start + size(form, rows)
            series[key] = unpack(form, data[start:end], rows)
            start = end
        changed, gone, notes = loads(facts)
        kept = {key: value for key, value in base.facts.items() if key not in gone}
        return replace(
            base,
            series=series,
            histograms=unpack_histograms(histograms),
            facts={**kept, **{key: as_free(value) for key, value in changed.items()}},
            notes=base.notes if notes is None else tuple(notes),
            step=step,
        )


def open_run(path: str | PathLike[str], *, session: int | None = None) -> Run:
    """Opens a watched run for reading, also while it is written.

    Args:
        path: the run file.
        session: which training, from 1, where the file holds several; the latest where left out.

    Raises:
        StorageError: there is no such file, it is no run file, or it holds no such session.
    """
    return Run(path, session)


_FIELDS = "step, layout, forms, facts, histograms, data"

_FAR = 2**62
"""Beyond every row."""


def _thinned(steps: Sequence[int], losses: Sequence[float]) -> list[list[float]]:
    """All of the latest, of older ones every n-th: what rules see while the training runs."""
    old = max(len(steps) - LATEST, 0)
    every = math.ceil(old / LATEST) or 1
    kept = [*range(0, old, every), *range(old, len(steps))]
    return [[steps[i] for i in kept], [losses[i] for i in kept]]


def _spread(steps: Sequence[int], most: int) -> list[int]:
    """Indices of at most `most` of the steps, evenly along the mean of number and step."""
    last = len(steps) - 1
    reach = max(steps[-1] - steps[0], 1)
    places = [(i / last + (step - steps[0]) / reach) / 2 for i, step in enumerate(steps)]
    wanted = [i / max(most - 1, 1) for i in range(most)]
    found = {0, last} if most > 1 else {0}
    for place in wanted[1:-1]:
        after = min(bisect_left(places, place), last)
        before = max(after - 1, 0)
        found.add(min(before, after, key=lambda i: abs(places[i] - place)))
    return sorted(found)


def _loss(value: float | None) -> float:
    return math.nan if value is None else value


def _names(base: Record, key: str) -> dict[str, int]:
    """The rows of a column: index by name of the site or parameter."""
    if key.startswith("weight."):
        return {parameter.name: index for index, parameter in enumerate(base.parameters)}
    return {site.name: index for index, site in enumerate(base.sites)}


def _rows(base: Record, key: str) -> int:
    return len(base.parameters if key.startswith("weight.") else base.sites)


def _where(base: Record, keys: Sequence[str], forms: str, key: str) -> tuple[str, int]:
    """The form of a column, and the byte at which it begins."""
    start = 0
    for other, form in zip(keys, forms, strict=True):
        if other == key:
            return form, start
        start += size(form, _rows(base, other))
    raise KeyError(key)


@contextmanager
def _snapshot(run: sqlite3.Connection) -> Iterator[None]:
    """What is read inside belongs together, whatever a writer adds meanwhile."""
    run.execute("BEGIN")
    try:
        yield
    finally:
        run.execute("ROLLBACK")
