"""A run file through what happens to trainings: sudden death, a full disk, no permission."""

import json
import os
import random
import resource
import select
import signal
import sqlite3
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import INFO, alarm, look

from isograd.errors import IsogradWarning
from isograd.sinks import Sinks
from isograd.storage import Mark, RunWriter, open_run, sessions
from isograd.storage import _writer as module


def child(act):
    """A forked process that calls `act(report)`: its id, and the end of a pipe to read from."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        os.close(reading)
        act(lambda data: os.write(writing, data))
    finally:
        os._exit(0)


def write_for_ever(file, report):
    """Each of R, L and A is reported when the call that wrote it has returned."""
    writer = RunWriter(file, INFO)
    for step in range(10**6):
        writer.add(look(step))
        report(b"R")
        writer.losses([(step, step / 4)])
        report(b"L")
        if step % 3 == 0:
            writer.alarms([alarm(first=step, last=step)])
            report(b"A")


def held(run) -> dict[str, int]:
    """How many of each the run holds; all that it holds is whole and in order."""
    looks, (steps, losses), alarms = run.records(), run.losses(), run.alarms()
    assert repr(looks) == repr(tuple(map(look, range(len(looks)))))
    assert losses == tuple(step / 4 for step in steps)
    assert steps == tuple(range(len(steps)))
    assert alarms == tuple(alarm(first=3 * i, last=3 * i) for i in range(len(alarms)))
    return {"R": len(looks), "L": len(losses), "A": len(alarms)}


def counted(acknowledged: bytes) -> dict[str, int]:
    return {kind: acknowledged.count(kind.encode()) for kind in "RLA"}


def test_what_was_acknowledged_survives_kill_9_at_100_moments(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_PAGES", 16)  # so that death comes while it moves, too
    file, draw = tmp_path / "run.isograd", random.Random(1)
    kept = []
    for number in range(1, 101):
        pid, pipe = child(lambda report: write_for_ever(file, report))
        told = os.read(pipe, 1)
        if number % 10 == 0:  # a reader beside the writer
            with open_run(file) as run:
                assert run.session.state == "running"
                told += os.read(pipe, 4096)
                before = held(run)
            assert all(before[kind] >= n for kind, n in counted(told).items())
        time.sleep(draw.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while part := os.read(pipe, 65536):
            told += part
        os.close(pipe)
        with open_run(file) as run:
            assert run.session.number == number
            assert run.session.state == "died"
            found = held(run)
        # One more at most: written, and killed before it was said.
        assert 0 <= sum(found.values()) - len(told) <= 1
        assert all(found[kind] >= n for kind, n in counted(told).items())
        kept.append(found)
    assert len({sum(found.values()) for found in kept}) > 5  # the moments were different ones
    assert len(sessions(file)) == 100
    for number in range(1, 101, 9):  # what a later process wrote did no harm to the earlier ones
        with open_run(file, session=number) as run:
            assert held(run) == kept[number - 1]
    assert sqlite3.connect(file).execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_reader_beside_a_writer_sees_a_growing_run(tmp_path):
    file = tmp_path / "run.isograd"
    pid, pipe = child(lambda report: write_for_ever(file, report))
    try:
        told = os.read(pipe, 1)
        with open_run(file) as run:
            seen = run.since(Mark())
            count = len(seen.records)
            first = count
            while count <= first + 20:  # however slow a writer: each turn waits for what it says
                ready, _, _ = select.select([pipe], [], [], 60)
                assert ready, "the writer has stopped"
                told += os.read(pipe, 4096)
                seen = run.since(seen.mark)
                count += len(seen.records)
                assert count >= counted(told)["R"]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pipe)


def train_in_child(file, prepare) -> list[str]:
    """The warnings of a watched training in a process of its own, or what it died of."""

    def act(report):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                prepare()
                sinks = Sinks(["sqlite"])
                sinks.open(replace(INFO, path=str(file)))
                for step in range(400):
                    sinks.record(look(step))
                    sinks.losses([(step, 1.0)])
                sinks.close()
                lines = [str(one.message) for one in told]
            except BaseException as error:
                lines = [f"raised {error!r}"]
        report(json.dumps(lines).encode())

    pid, pipe = child(act)
    os.waitpid(pid, 0)
    data = os.read(pipe, 65536)
    os.close(pipe)
    return json.loads(data)


def test_a_disk_that_fills_up_is_a_warning_and_leaves_what_was_written(tmp_path):
    file = tmp_path / "run.isograd"

    def fill():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    first, last = train_in_child(file, fill)
    assert first.startswith(f"{file}: cannot be written: ")
    assert "readings are kept in memory and tried again" in first
    assert "readings, losses and alarms are not in it" in last
    with open_run(file) as run:
        assert 10 < len(run.steps) < 390
        assert run.steps == tuple(range(len(run.steps)))
        assert run.session.state == "died"  # its end could not be written either


def add(writer, steps) -> None:
    for step in steps:
        writer.add(look(step))


def filling(file) -> RunWriter:
    """A writer on what SQLite takes for a full disk, until `max_page_count` is raised."""
    writer = RunWriter(file, INFO)
    (pages,) = writer._run.execute("PRAGMA page_count").fetchone()
    writer._run.execute(f"PRAGMA max_page_count = {pages + 2}")
    return writer


def test_once_there_is_space_again_nothing_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    file = tmp_path / "run.isograd"
    writer = filling(file)
    with pytest.warns(IsogradWarning, match="the disk is full; free some space") as told:
        add(writer, range(300))
    assert len(told) == 1
    with open_run(file) as run:
        assert 10 < len(run.steps) < 290
    writer._run.execute("PRAGMA max_page_count = 100000")
    writer.add(look(300))
    writer.close()
    assert writer.dropped == 0
    with open_run(file) as run:
        assert repr(run.records()) == repr(tuple(map(look, range(301))))


def test_what_waits_in_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_PENDING", 20_000)
    file = tmp_path / "run.isograd"
    writer = filling(file)
    with pytest.warns(IsogradWarning, match="the disk is full"):
        add(writer, range(500))
    assert writer._waiting <= 20_000
    writer._run.execute("PRAGMA max_page_count = 100000")
    with pytest.warns(IsogradWarning, match=f"{writer.dropped:,} readings, losses and alarms"):
        writer.close()
    with open_run(file) as run:
        assert len(run.steps) == 500 - writer.dropped
        assert repr(run.record(499)) == repr(look(499))  # the latest are kept, and can be read


def test_a_folder_in_which_nobody_may_write_is_a_warning():
    folder = Path(tempfile.mkdtemp())  # pytest's own are closed to the user that we become
    folder.chmod(0o555)
    try:
        told = train_in_child(
            folder / "run.isograd", lambda: os.geteuid() == 0 and os.setuid(65534)
        )
    finally:
        folder.rmdir()
    failed, missed = told
    assert failed.startswith("sink 'sqlite' is switched off, it failed when it was opened")
    assert "give a place where this user may write; training goes on" in failed
    assert missed == "sink 'sqlite' missed 400 records of this run"
