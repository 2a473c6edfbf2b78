"""Sinks: all sinks of one run, of which none can harm the training or another."""

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from isograd.errors import InputError, warn
from isograd.findings import Alarm, Diagnosis
from isograd.records import Record, RunInfo
from isograd.sinks._sink import Sink


@dataclass
class _Outlet:
    sink: Sink
    broken: bool = False
    missed: int = 0
    """Records it did not get."""


class Sinks:
    """Tells every sink what is read; one that raises is told nothing more, with one warning.

    Args:
        chosen: codes of sinks, or sinks; each of them takes the readings of one run.

    Raises:
        CatalogueError: no sink has this code.
        InputError: something is neither a code nor a sink.
    """

    def __init__(self, chosen: Iterable[str | Sink]) -> None:
        self._outlets = [_Outlet(_made(one)) for one in chosen]

    def open(self, info: RunInfo) -> None:
        """Opens all."""
        with _random_kept():  # packages of others draw names for their runs
            self._tell(lambda sink: sink.open(info), "opened")

    def record(self, record: Record) -> None:
        """Passes on what was read at one step."""
        self._tell(lambda sink: sink.record(record), "given a record")
        for outlet in self._outlets:
            outlet.missed += outlet.broken

    def losses(self, pairs: Sequence[tuple[int, float]]) -> None:
        """Passes on losses."""
        self._tell(lambda sink: sink.losses(pairs), "given losses")

    def alarms(self, changes: Sequence[Alarm]) -> None:
        """Passes on alarms."""
        self._tell(lambda sink: sink.alarms(changes), "given alarms")

    def close(self, diagnosis: Diagnosis | None = None, outcome: str = "finished") -> None:
        """Closes all, and says what those that broke did not get."""
        with _random_kept():
            self._tell(lambda sink: sink.close(diagnosis, outcome), "closed")
        for outlet in self._outlets:
            if outlet.missed:
                warn(f"sink {outlet.sink.code!r} missed {outlet.missed:,} records of this run")
        self._outlets = []

    def _tell(self, act: Callable[[Sink], None], doing: str) -> None:
        for outlet in self._outlets:
            if outlet.broken:
                continue
            try:
                act(outlet.sink)
            except Exception as error:
                outlet.broken = True
                warn(
                    f"sink {outlet.sink.code!r} is switched off, it failed when it was {doing}: "
                    f"{type(error).__name__}: {error}; training goes on"
                )


def _made(one: str | Sink) -> Sink:
    from isograd.sinks import SINKS  # late: the catalogue is made of this package

    if isinstance(one, str):
        return type(SINKS[one])()  # a catalogue's own entry would be shared by all runs
    if not isinstance(one, Sink):
        raise InputError(
            f"sinks: found {one!r}; give codes ({', '.join(s.code for s in SINKS)}) or instances "
            "of isograd.sinks.Sink"
        )
    return one


@contextmanager
def _random_kept() -> Iterator[None]:
    """The training's random streams go on as if nothing had been drawn inside."""
    here = random.getstate()
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    arrays = numpy.random.get_state() if numpy else None
    tensors = torch.get_rng_state() if torch else None
    try:
        yield
    finally:
        random.setstate(here)
        if numpy:
            numpy.random.set_state(arrays)
        if torch:
            torch.set_rng_state(tensors)
