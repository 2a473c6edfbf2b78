"""The text form: order, widths, and plots that say what the numbers say."""

import itertools
import math
import re

import pytest
from made_diagnoses import HOSTILE, make_deep, make_hostile, make_sick, network

from isograd.findings import Diagnosis, Finding, Severity
from isograd.records import Reading
from isograd.reporting import _profile, render
from isograd.reporting._numbers import (
    abbreviate,
    clip,
    counted,
    printable,
    scientific,
    short,
    shorten,
    value,
)
from isograd.reporting._summary import brief, first, loss
from isograd.reporting._textplot import ROWS, sparkline
from isograd.rules._examples import chain

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def test_the_parts_come_in_order(sick):
    text = render(sick, "text")
    parts = (
        "✗ 1 error, 1 warning, 1 note · fix first: gain-mismatch at layers.0",
        "loss cross_entropy 2.34; chance level 2.303 (the loss was chosen for you)",
        "note loss: cross_entropy, because",
        "Rehearsal  50 steps: loss 2.31 → 2.209",
        "Profile  ×0.97 per layer forward · ×0.24 per layer back",
        "1 ERROR IG101 gain-mismatch ─",
        "  where: layers.0, layers.1, layers.2 and 17 more",
        "  evidence: rate per layer 0.24 · band 0.4 · first rms 1.7e-15",
        "  do: Replace the sigmoids",
        "  explains IG201: Up to 54 %",
        "2 WARNING IG412 precision ─",
        "3 INFO IG777 data-bug ─",
        "8 rules: 2 found something, 1 passed, 3 not applicable, 1 not selected, 1 broke",
        "not applicable:",
        "  IG301 IG302  no optimizer was given (check(..., optimizer=...) adds it)",
        "  IG503  the network has no recurrent layer",
        "broke IG999: the rule itself failed",
    )
    places = [text.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)


def test_a_clean_bill_is_short(healthy):
    text = render(healthy, "text")
    assert text.startswith("✓ healthy\n")
    assert "fix first" not in text
    assert "1 rule: 1 passed" in text


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("make", [make_sick, make_deep])
def test_lines_fit_the_width(make, width):
    for line in render(make(), "text", width=width).splitlines():
        assert len(line) <= width
        assert line == line.rstrip()


def test_color_changes_no_character(any_diagnosis):
    plain = render(any_diagnosis, "text", width=90)
    colored = render(any_diagnosis, "text", width=90, color=True)
    assert ANSI.sub("", colored) == plain


def test_nothing_steers_the_terminal():
    text = render(make_hostile(), "text")
    assert HOSTILE not in text
    assert "\\x1b[31m\\u202e" in text


def bars(diagnosis, width=120):
    lines = render(diagnosis, "text", width=width).splitlines()
    rows = [line for line in lines if re.match(r" {2,}\d+  ", line)]
    return [re.findall(r"(\d\.\de[+-]\d+) ([█▏▎▍▌▋▊▉]*)", row) for row in rows]


def test_bars_are_as_long_as_the_logarithm(sick):
    rows = bars(sick)
    assert len(rows) == 20
    lengths = [len(row[1][1]) for row in rows]
    assert lengths == sorted(lengths)
    numbers = [math.log10(float(row[1][0])) for row in rows]
    slope = (lengths[-1] - lengths[4]) / (numbers[-1] - numbers[4])
    assert lengths[12] - lengths[4] == pytest.approx(slope * (numbers[12] - numbers[4]), abs=1.1)


def test_a_deep_profile_is_thinned_and_keeps_its_ends(deep):
    full = _profile.rows(deep)
    shown = _profile.thin(full, ROWS)
    assert len(full) == 400
    assert len(bars(deep)) == len(shown) <= ROWS
    assert [full.index(row) for row in shown[:2]] == [0, 1]
    assert [full.index(row) for row in shown[-2:]] == [398, 399]
    steps = [b.index - a.index for a, b in itertools.pairwise(shown)]
    assert max(steps) <= 2 * 400 / (ROWS - 4)
    assert "24 of 400 layers" in render(deep, "text")


def test_a_marked_row_stays_when_rows_are_thinned():
    record = network(100, 1.0, 0.9)
    finding = Finding("IG1", Severity.ERROR, "local-nan", "x", ("acts.37", "layers.58.weight"))
    full = _profile.rows(Diagnosis((finding,), (), Reading(record)))
    marked = [row.name for row in _profile.thin(full, ROWS) if row.marks]
    assert marked == ["layers.37", "layers.58"]


def test_a_shared_beginning_of_names_is_said_once(deep):
    text = render(deep, "text", width=80)
    assert "names begin with transformer.decoder.blocks." in text
    assert "  0.part0.layers.0 " in text


def test_numbers_that_are_none_are_shown():
    text = render(make_hostile(), "text", width=100)
    for word in (" nan", " inf ▒▒▒▒", " -inf", " –", " 0", "1.0e+300 ███"):
        assert word in text


def test_without_backward_numbers_there_is_no_backward_column(sick):
    seen = sick.reading.seen
    series = {k: v for k, v in seen.series.items() if not k.startswith("backward")}
    forward = type(seen)(seen.sites, seen.parameters, series)
    text = render(Diagnosis((), (), Reading(forward)), "text")
    assert "forward rms" in text
    assert "backward" not in text


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([1, 10, 100, 1000], "▁▃▆█"),
        ([1, math.nan, 2, None, math.inf], "▁×█××"),
        ([3, 3], "▁▁"),
        ([], ""),
    ],
)
def test_sparkline(numbers, line):
    assert sparkline(numbers, 20) == line


def test_a_long_sparkline_is_sampled():
    line = sparkline(range(1000), 30)
    assert len(line) == 30
    assert (line[0], line[-1]) == ("▁", "█")


def test_rates_are_slopes_over_depth(sick):
    full = _profile.rows(sick)
    assert _profile.rate(full, "backward") == pytest.approx(0.24, rel=1e-6)
    assert _profile.rate(full[:1], "backward") is None


def test_axes_hold_their_numbers_and_at_least_two_decades():
    assert _profile.axis([0.9, 1.1]) == _profile.Axis(-1, 1)
    assert _profile.axis([3e-5, 40]) == _profile.Axis(-5, 2)
    assert _profile.axis([2.0, 3.0]) in (_profile.Axis(-1, 1), _profile.Axis(0, 2))
    assert _profile.axis([100.0]).at(100.0) == pytest.approx(0.5)
    assert _profile.axis([None, math.nan, 0.0, -1.0]) == _profile.Axis(-1, 1)
    assert _profile.Axis(-4, 0).at(1e-3) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (12345, "12,345"),
        (2.302585, "2.303"),
        (1.7e-15, "1.7e-15"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        ((16, 3), "(16, 3)"),
        ([], "none"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
        ({"op": "log", "at": {"x": 0.5}}, "op log, at x 0.5"),
        ("a\x1bb", "a\\x1bb"),
    ],
)
def test_values(thing, text):
    assert value(thing) == text


def test_scientific_numbers_fit_eight_columns():
    for number in (None, math.nan, -math.inf, 0.0, -0.0, 1.23e-300, 9.99e300, 5e-324):
        assert len(scientific(number)) <= 8
    assert scientific(-0.0) == scientific(0.0) == "0"
    assert scientific(1.25e-7) == "1.2e-07"


def test_words():
    assert clip("a long reason", 8) == "a long…"
    assert brief("It shrinks; because of this. And that.") == "It shrinks"
    assert brief("It shrinks by 0.5.") == "It shrinks by 0.5"
    assert counted(1, "error") == "1 error"
    assert counted(1200, "layer") == "1,200 layers"
    assert shorten("encoder.layers.3.attention", 12) == "enco…tention"
    assert shorten("short", 12) == "short"
    assert abbreviate("transformer.h.11.attn.c_attn", 20) == "t.h.11.attn.c_attn"
    assert abbreviate("encoder.layers.3.attention.dense", 24) == "e.l.3.attention.dense"
    assert abbreviate("a.b.averylongnameindeed", 12) == "a.b.…eindeed"
    assert abbreviate("layers.3", 12) == "layers.3"
    assert short(0.0) == "0"
    assert printable("tab\tnew\nline") == "tab\\tnew\\nline"


def test_random_probes_are_no_loss():
    record = chain(3, facts={"loss.kind": "probe", "loss.name": "random probes", "loss.value": 0.3})
    assert loss(record) == "none, random probes"
    page = render(Diagnosis((), (), Reading(record)), "html")
    assert "<dt>loss</dt><dd>none, random probes</dd>" in page
    assert page.count("<dt>value</dt>") == 1  # among the facts, not at the top


def test_the_headline_stays_short():
    name = f"{'wrapped_module.' * 30}11.weight"
    finding = Finding("IG101", Severity.ERROR, "graph-cut", "Cut.", (name,))
    told = first(Diagnosis((finding,), (), Reading(chain(3))))
    assert told.startswith("fix first: graph-cut at w.w.")
    assert told.endswith(".11.weight")
    assert len(told) <= len("fix first: graph-cut at ") + 60
