"""check_sink: what it finds, and the example of a sink outside this package."""

import importlib.metadata
import importlib.util
import random
import sys
import threading
from pathlib import Path

import pytest
from made_runs import INFO, alarm, look

from isograd.catalogue import Catalogue
from isograd.errors import CatalogueError
from isograd.sinks import Sink, Sinks
from isograd.testing import check_sink


class Quiet(Sink):
    code = "quiet"

    def open(self, info):
        self.waiting = threading.Event()

    def record(self, record):
        pass


class Nameless(Quiet):
    code = "No Word"


class Demanding(Quiet):
    def __init__(self, where):
        self.where = where


class Drawing(Quiet):
    def losses(self, pairs):
        random.random()


class Printing(Quiet):
    def record(self, record):
        print(record.step)  # noqa: T201  # the mistake under test


class Raising(Quiet):
    def record(self, record):
        record.series["forward.rms"]


class Threading(Quiet):
    def close(self, diagnosis, outcome):
        threading.Thread(target=self.waiting.wait, name="left").start()


@pytest.mark.parametrize(
    ("sink", "told"),
    [
        (Nameless(), "its code is 'No Word'"),
        (Demanding("here"), "it cannot be made without arguments: TypeError"),
        (Drawing(), "it draws random numbers"),
        (Printing(), "it prints '0"),
        (Raising(), "it raises KeyError: 'forward.rms'"),
        (Threading(), "threads are left when it is closed: left"),
    ],
)
def test_a_breach_is_named(sink, told):
    with pytest.raises(CatalogueError, match=f"{type(sink).__name__} breaks.*: {told}"):
        check_sink(sink)
    if isinstance(sink, Threading):
        sink.waiting.set()


def test_a_sink_that_does_nothing_wrong_passes():
    check_sink(Quiet())
    with pytest.raises(CatalogueError, match="expected an instance of a Sink, found <class"):
        check_sink(Quiet)


def test_the_example_keeps_the_contract_and_joins_the_catalogue(monkeypatch, tmp_path):
    path = Path(__file__).parents[2] / "examples" / "own_sink.py"
    spec = importlib.util.spec_from_file_location("own_sink_example", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "own_sink_example", module)
    spec.loader.exec_module(module)
    module.test_the_sink_keeps_the_contract()
    assert 'isograd.sinks"]' in module.__doc__
    point = importlib.metadata.EntryPoint("csv", "own_sink_example:Csv", "isograd.sinks")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [point])
    assert isinstance(Catalogue("isograd.sinks", Sink)["csv"], module.Csv)

    file = tmp_path / "curves.csv"
    sinks = Sinks([module.Csv(file)])
    sinks.open(INFO)
    sinks.losses([(0, 2.5)])
    sinks.record(look(1))
    sinks.alarms([alarm()])
    sinks.close()
    assert file.read_text().splitlines() == [
        "step,what,value",
        "0,loss,2.5",
        "1,smallest gradient,0.5",  # infinities and NaN are no numbers of a pair
        "1,largest gradient,0.5",
        "5,alarm raised,IG201",
        ",outcome,finished",
    ]
