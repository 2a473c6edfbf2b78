"""The sink `console`: on a terminal a table that lives, else a line now and then."""

import io
import math
import re
from dataclasses import replace

import pytest
from made_runs import INFO, alarm, look

from isograd.findings import Alarm, Diagnosis, Finding, Severity
from isograd.records import Reading
from isograd.sinks import Sinks
from isograd.sinks import console as module
from isograd.sinks._view import scalars, worst
from isograd.sinks.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drive(file, steps=range(0, 8, 2)) -> list[str]:
    sinks = Sinks([Console(file)])
    sinks.open(INFO)
    for step in steps:
        sinks.losses([(step, 2.5 / (step + 1)), (step + 1, 0.5)])
        sinks.record(look(step))
        if step == 2:
            sinks.alarms([alarm()])
            sinks.alarms([alarm(last=7)])  # it got worse: that is no news
        if step == 4:
            sinks.alarms([alarm("withdrawn", last=7)])
    finding = Finding("IG201", Severity.ERROR, "dead-units", "They died.", ("a:relu",))
    sinks.close(Diagnosis((finding,), (), Reading(look(0))), "stopped")
    return file.getvalue().splitlines()


def test_without_a_terminal_it_is_a_few_lines():
    assert drive(io.StringIO()) == [
        "isograd watches night shift",
        "night shift: step 1 · loss 0.5",
        "IG201 dead-units, step 3: 2 of 7 units died.",
        "IG201 dead-units: over after step 7",
        # b has no number forward, and NaN backward: nothing lies further off
        "night shift: step 7 · loss 0.5 · lr 0.5 · b: backward rms nan",
        "night shift: stopped; IG201 dead-units",
    ]


def test_nothing_is_said_twice():
    file = io.StringIO()
    console = Console(file, every_look=True)
    console.open(INFO)
    console.alarms([alarm(), alarm(last=7)])
    console.record(look(2))
    console.close(None, "stopped")
    lines = file.getvalue().splitlines()
    assert len(lines) == len(set(lines)) == 4


def test_a_line_comes_again_after_some_time(monkeypatch):
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    lines = drive(io.StringIO())
    assert "night shift: step 3 · loss 0.5 · lr 0.5 · b: backward rms nan" in lines
    # The layer that an alarm names comes first.
    assert any("alarms IG201 · a:relu: forward rms" in line for line in lines)


def test_on_a_terminal_the_table_stands_at_the_end(monkeypatch):
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.0)
    for name, value in (("COLUMNS", "90"), ("TERM", "xterm"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    lines = [re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", line) for line in drive(Terminal())]
    table = [line.split() for line in lines[-4:-1]]
    assert table[0] == "layers, worst first forward rms backward rms dead".split()
    assert [row[0] for row in table[1:]] == ["b", "a"]
    assert any(line.startswith("a:relu") for line in lines)  # as long as an alarm named it
    assert table[2][1:] == ["6.2e+00", "1.6e-02", "1", "%"]
    assert lines[-1] == "night shift: stopped; IG201 dead-units"
    assert max(map(len, lines)) <= 90


@pytest.mark.parametrize(
    ("losses", "curve"),
    [
        ([1.0, 10.0, math.nan, 100.0], "▁▅×█"),
        ([0.0, 1.0, -1.0], "▅█▁"),
        ([3.0, 3.0], "▁▁"),
        ([math.inf], "×"),
        ([float(x) for x in range(1, 101)], None),
    ],
)
def test_the_curve_of_the_loss(losses, curve):
    drawn = module._curve(losses, 10)
    assert drawn == curve if curve else (len(drawn), drawn[-1]) == (10, "█")


def test_the_worst_layers_come_first():
    record = replace(
        look(0),
        series={
            "forward.rms": (1.0, 50.0, 1e-3),  # the relu in the middle is no weight layer
            "backward.rms": (1.0, 1.0, 0.01),
        },
    )
    assert worst(record, [], 5) == [0, 2]  # of two, both lie as far from their middle
    assert worst(record, ["b.weight"], 5) == [2, 0]
    assert worst(record, ["a:relu"], 1) == [1]
    dead = replace(record, series={"forward.rms": (2.0, None, 0.0)})
    assert worst(dead, [], 1) == [2]


def test_a_layer_with_entries_that_are_no_numbers_is_worst():
    series = {"forward.rms": (2.0, 3.0, 8.0), "forward.nonfinite": (0.0, 0.0, 5.0)}
    record = replace(look(4), series=series)
    assert worst(record, [], 1) == [2]
    assert scalars(record)["forward.rms/largest"] == math.inf
    file = io.StringIO()
    sinks = Sinks([Console(file)])
    sinks.open(INFO)
    sinks.record(record)
    assert file.getvalue().endswith("b: forward rms nan\n")


def test_scalars_are_few_and_keep_what_is_not_finite():
    found = scalars(replace(look(4), series={**look(4).series, "forward.rms": (2.0, 3.0, 8.0)}))
    assert found["forward.rms/linear"] == 5.0  # of 2 and 8; the relu does not count
    assert (found["forward.rms/smallest"], found["forward.rms/largest"]) == (2.0, 8.0)
    assert found["backward.rms/largest"] == math.inf  # of 1/16 and NaN
    assert found["forward.dead/relu"] == 4 / 1024
    assert "forward.dead/largest" not in found
    assert "forward.saturated/relu" not in found


def test_an_alarm_with_odd_words_is_printed_as_it_is():
    finding = Finding("IG201", Severity.INFO, "dead-units", "[red]two[/] \x1b[2J", ())
    file = io.StringIO()
    sinks = Sinks([Console(file)])
    sinks.open(INFO)
    sinks.alarms([Alarm(finding, "raised", 1, 1, 1)])
    sinks.close()
    assert "step 1: [red]two[/] " in file.getvalue()
    assert "\x1b" not in file.getvalue()
