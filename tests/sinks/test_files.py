"""The sinks that write files of our own: sqlite and jsonl."""

import json
import math
from dataclasses import replace

import pytest
from made_runs import INFO, alarm, look

from isograd.errors import IsogradWarning
from isograd.findings import Alarm
from isograd.records import Record
from isograd.sinks import Sinks
from isograd.storage import from_plain, open_run


def drive(sinks: Sinks, info):
    sinks.open(info)
    sinks.record(replace(look(0), histograms={"forward.exponents": ((1,), (2,), (0,))}))
    sinks.losses([(0, 2.5), (1, math.nan)])
    sinks.alarms([alarm()])
    sinks.record(look(2))


@pytest.fixture
def info(tmp_path):
    return replace(INFO, path=str(tmp_path / "runs" / "today.isograd"))


def test_sqlite_writes_the_run_file(info):
    sinks = Sinks(["sqlite"])
    drive(sinks, info)
    with open_run(info.path) as run:
        assert run.session.info == info
        assert repr(run.record(2)) == repr(look(2))
        assert run.alarms() == (alarm(),)
        sinks.close(None, "interrupted")
        assert run.session.state == "interrupted"


def test_sqlite_makes_a_file_beside_one_that_is_being_written(info):
    first, second, third = (Sinks(["sqlite"]) for _ in range(3))
    first.open(info)
    with pytest.warns(IsogradWarning, match=r"is writing it.*this run goes to .*today-2\.isograd"):
        drive(second, info)
    with pytest.warns(IsogradWarning, match=r"this run goes to .*today-3\.isograd"):
        third.open(info)
    for sinks in (first, second, third):
        sinks.close()
    with open_run(info.path.replace("today", "today-2")) as run:
        assert run.steps == (0, 2)


def test_jsonl_writes_what_can_be_read_again(info, tmp_path):
    sinks = Sinks(["jsonl"])
    drive(sinks, info)
    sinks.record(replace(look(3), parameters=look(3).parameters[::-1]))
    sinks.close(None, "finished")
    lines = [json.loads(x) for x in (tmp_path / "runs/today.jsonl").read_text().splitlines()]
    kinds = [line.pop("kind") for line in lines]
    assert kinds == ["run", "record", "loss", "loss", "alarm", "record", "record", "end"]
    run, first, _, loss, raised, second, third, end = lines
    assert run["name"] == "night shift"
    assert run["facts"] == {"model.name": "Net", "lr": {"$tuple": [1, 2]}}
    assert loss == {"step": 1, "value": "nan"}
    assert from_plain(Alarm, raised) == alarm()
    assert first["histograms"] == {"forward.exponents": [[1], [2], [0]]}
    assert "sites" not in second
    assert repr(from_plain(Record, {**first, **second, "histograms": {}})) == repr(look(2))
    assert [p["name"] for p in third["parameters"]] == [
        p.name for p in reversed(look(3).parameters)
    ]
    assert end == {"outcome": "finished", "findings": []}
