"""`isograd runs` and `isograd tail`: watched runs in a folder, and one that goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import INFO, alarm, look

from isograd.cli.commands import tail
from isograd.findings import Diagnosis, Finding, Severity
from isograd.records import Reading
from isograd.storage import RunWriter, save


def write(file, steps, *, name="night shift", started="2026-11-29T08:00:00+00:00", end=True):
    file.parent.mkdir(exist_ok=True)
    writer = RunWriter(file, replace(INFO, name=name, started=started))
    for step in steps:
        writer.losses([(step, 2.5 / (step + 1)), (step + 1, 2.5 / (step + 2))])
        writer.add(look(step))
        if step == 4:
            writer.alarms([alarm(), alarm(code="IG607", last=4)])
    writer.alarms([alarm("withdrawn", last=6)])
    if end:
        finding = Finding("IG607", Severity.ERROR, "dead-units", "They died.", ("a:relu",))
        writer.close(Diagnosis((finding,), (), Reading(look(0))))
    return writer


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder with a finished run, a file with two, one that goes on, and files that are none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    write(tmp_path / "one.isograd", range(0, 6, 2))
    write(tmp_path / "deep/two.isograd", [0], started="2026-11-28T08:00:00+00:00", name="a\x1b")
    going = write(tmp_path / "deep/two.isograd", [], started="2026-11-30T08:00:00+00:00", end=False)
    save(tmp_path / "checked.isograd", Diagnosis((), (), Reading(look(0))))
    (tmp_path / ".hidden").mkdir()
    write(tmp_path / ".hidden/old.isograd", [0])
    (tmp_path / "broken.isograd").write_text("no run")
    yield tmp_path
    going.close()


def test_runs_lists_what_a_folder_holds(isograd, runs):
    ended = isograd("runs")
    assert ended.code == 0
    assert [line.split("  ")[0] for line in ended.out.splitlines()] == [
        "run",
        "deep/two.isograd --session 2",
        "one.isograd",
        "deep/two.isograd --session 1",
    ]
    _, going, one, two = (line.split() for line in ended.out.splitlines())
    assert one == "one.isograd night shift 2026-11-29 08:00 5 3 finished 0.4167 IG607".split()
    assert going[-5:] == "– 0 running – –".split()
    assert "a?" in two
    assert "left out: broken.isograd: cannot be read: it is not a SQLite file" in ended.err


def test_runs_as_json(isograd, runs):
    rows = json.loads(isograd("runs", str(runs), "--format", "json").out)
    assert [row["state"] for row in rows] == ["running", "finished", "finished"]
    assert rows[0]["pid"] == os.getpid()
    assert {key: rows[1][key] for key in ("step", "looks", "loss", "alarms", "session")} == {
        "step": 5,
        "looks": 3,
        "loss": 2.5 / 6,
        "alarms": ["IG607"],
        "session": 1,
    }


def test_runs_of_one_file_and_of_nothing(isograd, runs):
    assert len(isograd("runs", "deep/two.isograd").out.splitlines()) == 3
    (runs / "empty").mkdir()
    assert isograd("runs", "empty").out.startswith("no watched run in empty: isograd.watch(run=")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("runs nowhere", "nowhere: there is no such folder"),
        ("runs broken.isograd", "broken.isograd: cannot be read: it is not a SQLite file"),
        ("tail nowhere", "nowhere: there is no such file"),
        ("tail broken.isograd", "broken.isograd: cannot be read"),
        ("tail checked.isograd", "checked.isograd: holds no watched run"),
        ("tail one.isograd --session 2", "has no session 2, it holds 1"),
    ],
)
def test_bad_input_is_one_line_and_code_2(isograd, runs, words, message):
    ended = isograd(*words.split())
    assert ended.code == 2
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1
    assert message in ended.err


TOLD = [
    "isograd watches night shift",
    "night shift: step 0 · loss 2.5 · lr 0.5 · b: backward rms nan",
    "night shift: step 2 · loss 0.8333 · lr 0.5 · b: backward rms nan",
    "night shift: step 4 · loss 0.5 · lr 0.5 · b: backward rms nan",
    "IG607 dead-units, step 3: 2 of 7 units died.",
    "IG201 dead-units, step 3: 2 of 7 units died.",
    "IG201 dead-units: over after step 6",
    "night shift: step 5 · loss 0.4167 · lr 0.5 · alarms IG607 · "
    "a:relu: forward rms 4.5e+00, backward rms inf, dead 0 %",
    "night shift: finished; IG607 dead-units",
]


@pytest.mark.parametrize("at_once", [1, 2, 50])
def test_tail_of_a_run_that_has_ended_tells_all_of_it(isograd, runs, monkeypatch, at_once):
    monkeypatch.setattr(tail, "AT_ONCE", at_once)
    assert isograd("tail", "one.isograd").out.splitlines() == TOLD


def follow(file: Path) -> subprocess.Popen[str]:
    program = f"from isograd.cli import main; main(['tail', {str(file)!r}])"
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # Tests that run in the background of a shell inherit that it ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_tail_follows_from_another_process_until_the_run_ends(tmp_path):
    file = tmp_path / "run.isograd"
    writer = write(file, [0], end=False)
    process = follow(file)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    writer.losses([(8, 0.25)])
    writer.add(look(8))
    while "step 8 · loss 0.25" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1]
    writer.close()
    out, err = process.communicate(timeout=20)
    assert out.splitlines()[-1] == "night shift: finished"
    assert (process.returncode, err) == (0, "")


def test_ctrl_c_ends_the_following_and_not_the_run(tmp_path):
    file = tmp_path / "run.isograd"
    writer = write(file, [0], end=False)
    process = follow(file)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert out.splitlines()[-1] == "night shift: running, no longer followed"
    assert (process.returncode, err.strip()) == (130, "")
    writer.add(look(1))
    writer.close()


def test_report_of_a_watched_run(isograd, runs):
    text = isograd("report", "one.isograd").out
    assert text.startswith("✗ night shift: finished")
    assert isograd("report", "deep/two.isograd", "--session", "1").out.startswith("✗ a\\x1b: fin")
    written = isograd("report", "one.isograd", "--output", "page.html")
    assert (written.code, written.err) == (0, "wrote page.html\n")
    assert (runs / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert json.loads(isograd("report", "one.isograd", "--format", "json").out)["run"]["step"] == 5


def test_report_of_a_file_that_holds_both(isograd, runs):
    save("one.isograd", Diagnosis((), (), Reading(look(0))), name="checked")
    assert isograd("report", "one.isograd").out.startswith("✗ night shift")
    assert isograd("report", "one.isograd", "--entry", "1").out.startswith("✓ healthy")
    listed = isograd("report", "one.isograd", "--list").out.splitlines()
    assert [line.split()[:2] for line in listed] == [["--session", "1"], ["--entry", "1"]]
    assert isograd("report", "checked.isograd").out.startswith("✓ healthy")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("report one.isograd --session 2", "has no session 2, it holds 1"),
        ("report one.isograd --entry 1", "has no entry 1"),
        ("report one.isograd --entry 1 --session 1", "exclude each other"),
        ("report checked.isograd --session 1", "holds no watched run"),
        ("report deep/two.isograd", "no step was looked at yet"),
        ("report nowhere", "there is no such file"),
    ],
)
def test_a_report_of_nothing_is_bad_input(isograd, runs, words, message):
    ended = isograd(*words.split())
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1)
    assert message in ended.err
