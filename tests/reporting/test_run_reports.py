"""Reports of watched runs: text, page, JSON, Markdown; also while they go on."""

import base64
import json
import math
import re
import struct
import zlib
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
from made_runs import INFO, PARAMETERS, SITES, alarm, look
from test_as_html import Page

from isograd.errors import InputError, StorageError
from isograd.findings import Alarm, Diagnosis, Finding, Severity, Verdict
from isograd.records import Parameter, Reading, Record, Site
from isograd.reporting import RUN_FORMS, _maps, read_json, render_run
from isograd.reporting import _watched as words
from isograd.storage import RunWriter, open_run

FINDING = Finding("IG201", Severity.ERROR, "dead-units", "They died.", ("a:relu",), {"share": 0.3})


@pytest.fixture
def written(tmp_path):
    """Writes a run, and opens it: looks, losses, alarms, and how it ended."""
    runs = []

    def write(looks, losses=(), alarms=(), *, end=True, name="night shift", judged=True):
        writer = RunWriter(tmp_path / f"{len(runs)}.isograd", replace(INFO, name=name))
        for one in looks:
            writer.add(one)
        writer.losses(losses)
        writer.alarms(alarms)
        if end:
            verdicts = (Verdict("IG201", "finding", "They died."),)
            writer.close(Diagnosis((FINDING,), verdicts, Reading(look(0))) if judged else None)
        runs.extend([open_run(writer.path), writer])
        return runs[-2]

    yield write
    for run in runs:
        run.close()


@pytest.fixture
def run(written):
    losses = [(step, 100 / (step + 1) ** 2) for step in range(9)]
    alarms = [alarm(), alarm(code="IG607", first=4, last=4), alarm("withdrawn", last=6)]
    return written(map(look, (0, 2, 4, 8)), losses, alarms)


def test_a_run_as_text(run):
    lines = render_run(run, "text", width=100).splitlines()
    assert lines[0] == (
        "✗ night shift: finished · 1 alarm stands, 1 over; fix first: dead-units at a:relu"
    )
    assert lines[1] == "  Net · 2 weight layers · measured at step 8"
    assert lines[2].startswith("  step 8 · loss 1.235 · lowest loss 1.235 at 8 · learning rate 0.5")
    assert "over IG201: steps 3 to 6, worst 4: 2 of 7 units died." in lines[3]
    assert "ALARM IG607: steps 4 to 5" not in "".join(lines)  # it was seen at one step
    assert "ALARM IG607: step 4: 2 of 7" in lines[4]
    backward = lines.index("Gradient, backward") + 1  # what it is takes a line of its own
    # Of a the rms falls from 1 to 2^-8; of b it is NaN at every look.
    assert re.fullmatch(r"  a +1\.0e\+00 [▁▂▃▄▅▆▇█]{4} 3\.9e-03", lines[backward + 1])
    assert re.fullmatch(r"  b +nan ×××× nan", lines[backward + 2])
    assert "1 ERROR IG201 dead-units" in "\n".join(lines)
    assert max(map(len, lines)) <= 100


def test_a_run_as_json_is_as_the_schema_says_and_comes_back(run):
    text = files("isograd.reporting").joinpath("assets/report.schema.json").read_text("utf-8")
    report = json.loads(render_run(run, "json"))
    jsonschema.Draft202012Validator(json.loads(text)).validate(report)
    told = report["run"]
    assert (told["name"], told["state"], told["step"], told["looks"]) == (
        "night shift", "finished", 8, 4,
    )  # fmt: skip
    assert told["losses"]["values"][:2] == [100, 25]
    assert [(a["finding"]["code"], a["state"]) for a in told["alarms"]] == [
        ("IG201", "withdrawn"),
        ("IG607", "raised"),
    ]
    back = read_json(render_run(run, "json"))
    assert back.findings == (FINDING,)
    assert [r.step for r in back.reading.history] == [2, 4, 8]


def test_a_run_as_markdown(run):
    text = render_run(run, "markdown")
    assert text.startswith("### 🔴 night shift: finished\n")
    assert (
        "| IG201 dead-units | over | steps 3 to 6, worst 4 | a:relu | 2 of 7 units died. |" in text
    )
    assert "| IG607 dead-units | warning | step 4 | a:relu |" in text


def test_a_run_as_sarif_is_its_last_judgement(run):
    report = json.loads(render_run(run, "sarif"))
    assert [r["ruleId"] for r in report["runs"][0]["results"]] == ["IG201"]


def test_a_run_as_a_page(run):
    text = render_run(run, "html")
    page = Page(text)
    told = " ".join(page.text().split())
    assert "night shift: finished" in told
    for title in ("Over time", "Alarms", "Findings", "Signal, forward", "Gradient, backward"):
        assert title in told
    ids = [value for _, key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    # The loss: a flag at the first step of each alarm, 3 and 4 of 0 to 8.
    flags = re.findall(r'<span class="flag" style="left:([\d.]+)%">(\d)</span>', text)
    assert flags[:2] == [("37.50", "1"), ("50.00", "2")]


def test_a_run_that_goes_on_is_told_by_the_alarms_that_stand(written):
    run = written([look(0)], [(0, 1.0)], [alarm()], end=False)
    text = render_run(run, "text")
    assert text.startswith("! night shift: running · 1 alarm stands; fix first: dead-units")
    assert "1 WARNING IG201 dead-units" in text
    assert "0 rules" not in text


def test_a_run_that_was_stopped_or_died_is_no_clean_bill(written):
    healthy = written([look(0)], judged=False)
    assert render_run(healthy, "text").startswith("✓ night shift: finished · no alarm")
    writer = RunWriter(healthy.path, INFO)
    writer.add(look(0))
    writer.close(None, outcome="stopped: out of memory")
    with open_run(healthy.path) as run:
        assert render_run(run, "text").startswith("! night shift: stopped: out of memory · no")


def test_what_a_cheap_look_does_not_say_again_is_told(written):
    cheap = replace(look(7), facts={"loss.value": 1.0})
    assert render_run(written([look(0), cheap]), "text").splitlines()[1].startswith("  Net · 2 w")


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        ("2026-11-29T08:00:07+00:00", "took 7 s"),
        ("2026-11-29T08:02:07+00:00", "took 2 min 7 s"),
        ("2026-11-30T09:02:07+00:00", "took 25 h 2 min"),
        ("2026-11-28T09:02:07+00:00", None),  # a clock that was set
        ("soon", None),
    ],
)
def test_how_long_it_took(written, ended, told):
    watched = words.gather(written([look(0)]))
    tiles = words.tiles(replace(watched, session=replace(watched.session, ended=ended)))
    assert dict(tiles).get("took") == (told and told.removeprefix("took "))


@pytest.mark.parametrize("form", RUN_FORMS)
def test_whatever_a_run_holds_every_form_tells_it(written, form):
    odd = Finding("IG999", Severity.INFO, "data-bug", "<script>|\x1b[2J", ("a", "<i>"))
    looks = [
        Record((), step=0),
        look(3),
        Record((Site("<b>", "linear", "L", 1, (2,)),), series={"forward.rms": (math.nan,)}, step=3),
        replace(look(9), series={}),
    ]
    losses = [(5, math.nan), (4, -math.inf), (7, -1.0), (7, 0.0), (8, 1e300)]
    alarms = [Alarm(odd, "raised", 900, 1, 2), Alarm(odd, "raised", 0, 0, 0)]
    for name in ("", "<script>\x1b[2J"):
        run = written(looks, losses, alarms, name=name, end=False)
        text = render_run(run, form)
        assert "\x1b" not in text
        if form == "html":
            assert text.count("<script>") == 1
            Page(text)
    render_run(written([look(0)]), form)


def test_without_a_look_there_is_nothing_to_report(written):
    with pytest.raises(StorageError, match="no step was looked at yet"):
        render_run(written([], [(0, 1.0)]), "text")
    with pytest.raises(InputError, match="no form 'html-fragment'; there is text"):
        render_run(written([look(0)]), "html-fragment")


def decode(text: str) -> tuple[list[bytes], bytes, bytes]:
    """Rows of bytes, colors and opacities of an image in a page."""
    (data,) = re.findall(r"data:image/png;base64,([^\"]+)", text)
    data, parts, at = base64.b64decode(data), {}, 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        parts[data[at + 4 : at + 8]] = data[at + 8 : at + 8 + size]
        at += 12 + size
    width, height = struct.unpack(">II", parts[b"IHDR"][:8])
    raw = zlib.decompress(parts[b"IDAT"])
    rows = [raw[(width + 1) * y + 1 : (width + 1) * (y + 1)] for y in range(height)]
    return rows, parts[b"PLTE"], parts[b"tRNS"]


def test_a_map_shows_each_number_until_the_next_look(written):
    """Three layers whose middle is 1: 1000 is as red as it gets, 1/1000 as blue."""
    sites = tuple(Site(name, "linear", "L", 1, (2, 3)) for name in "abc")
    columns = {0: (1.0, 1e3, 1e-3), 4: (1.0, 0.0, math.nan), 9: (1e3, None, 1e-3)}
    looks = [Record(sites, series={"backward.rms": c}, step=s) for s, c in columns.items()]
    watched = words.gather(written(looks))
    (one,) = _maps.maps(watched)
    assert (one.key, one.names) == ("backward.rms", ["a", "b", "c"])
    rows, colors, opacities = decode(str(_maps.figure(one, watched)))
    assert [len(row) for row in rows] == [10] * 3

    def color(row, step):
        byte = rows[row][step]
        return tuple(colors[3 * byte : 3 * byte + 3]), opacities[byte]

    red, blue = ((217, 72, 15), 255), ((37, 99, 235), 255)
    assert color(0, 0)[1] == color(0, 3)[1] == 0  # in the middle: clear
    assert [color(1, step) for step in (0, 2)] == [red] * 2
    assert [color(2, step) for step in (0, 2, 9)] == [blue] * 3
    assert color(1, 5) == (_maps._ZERO, 255)
    assert color(2, 5) == (_maps._SICK, 255)
    assert color(1, 9)[1] == 0  # not measured
    assert color(0, 9) == red


def test_a_gradient_that_falls_alike_everywhere_keeps_its_colors():
    columns = [[1e-3, 2e-3, 4e-3], [1e-9, 2e-9, 4e-9], [0.0, None, math.nan], [0.0, 0.0, 0.0]]
    one = _maps.Map("backward.rms", "", "", list("abc"), [0, 5, 9, 11], columns)
    assert one.shown[0] == pytest.approx([0.5, 1.0, 2.0])
    assert one.shown[1] == pytest.approx([0.5, 1.0, 2.0])
    assert repr(one.shown[2:]) == repr(columns[2:])
    assert replace(one, key="forward.rms").shown == columns


def test_entries_that_are_no_numbers_are_seen_whatever_the_others_give():
    series = {
        "forward.rms": (1.0, None, 3.0),
        "forward.nonfinite": (0.0, 14.0, None),
        "weight.grad_rms": (1.0, 2.0, 3.0, None),
        "weight.grad_nonfinite": (0.0, 5.0, 0.0, 0.0),
    }
    record = replace(look(0), series=series)
    sites, parameters = [s.name for s in SITES], [p.name for p in PARAMETERS]
    assert repr(words.column(record, "forward.rms", sites)) == "[1.0, nan, 3.0]"
    assert repr(words.column(record, "weight.grad_rms", parameters)) == "[1.0, nan, 3.0, None]"


def test_outliers_do_not_hide_the_rest():
    numbers = [1.0, 10.0] * 50 + [1e30] * 5
    one = _maps.Map("forward.rms", "", "", ["a"], list(range(105)), [[x] for x in numbers])
    middle, reach = _maps.scale(one)
    assert (middle, reach) == (1.0, _maps.NARROWEST)
    shares = replace(one, key="forward.dead", columns=[[0.25]])
    assert _maps.scale(shares) == (0.5, 0.5)


def test_a_map_of_many_layers_keeps_those_that_alarms_name(written):
    count = 3 * _maps.ROWS
    sites = tuple(Site(f"net.layers.{i}", "linear", "L", i, (2,)) for i in range(count))
    record = Record(sites, series={"forward.rms": tuple(map(float, range(1, count + 1)))})
    named = Finding("IG201", Severity.WARNING, "dead-units", "…", ("net.layers.200",))
    watched = words.gather(written([record], alarms=[Alarm(named, "raised", 0, 0, 0)]))
    (one,) = _maps.maps(watched)
    assert len(one.names) <= _maps.ROWS + 1
    assert {"net.layers.0", "net.layers.200", f"net.layers.{count - 1}"} <= set(one.names)
    figure = str(_maps.figure(one, watched))
    assert re.findall(r'class="alarmed">([^<]+)<', figure) == ["net.layers.200"]
    tops = [float(x) for x in re.findall(r"top:([\d.]+)%", figure)]
    gaps = [b - a for a, b in pairwise(tops)]
    assert min(gaps) / 100 * _maps.TALLEST >= _maps.LABEL_HEIGHT - 0.1  # none covers another


def test_shares_of_nothing_and_weights(written):
    record = look(1)
    watched = words.gather(written([record]))
    keys = [one.key for one in _maps.maps(watched)]
    assert keys == ["forward.rms", "backward.rms", "weight.rms", "forward.dead"]
    weights = next(one for one in _maps.maps(watched) if one.key == "weight.rms")
    assert weights.names == [p.name for p in PARAMETERS if p.kind == "linear"]
    none = {**record.series, "forward.dead": (None, 0.0, None)}
    watched = words.gather(written([replace(record, series=none)]))
    assert "forward.dead" not in [one.key for one in _maps.maps(watched)]
    assert len(SITES) == 3


def test_spikes_of_a_long_run_stay_in_its_curve(written):
    values = [1.0] * 10_000
    values[4321], values[7000] = 99.0, math.nan
    watched = words.gather(written([look(0)], list(enumerate(values))))
    steps, curve = words.curve(watched)
    assert len(steps) < 1000
    assert (steps[0], steps[-1]) == (0, 9999)
    assert curve[steps.index(4321)] == 99.0
    assert math.isnan(curve[steps.index(7000)])
    assert steps == sorted(set(steps))


@pytest.mark.parametrize(
    ("first", "last", "texts"),
    [
        (0, 8, ["0", "2", "4", "6", "8"]),
        (0, 52_000, ["0", "10,000", "20,000", "30,000", "40,000", "50,000"]),
        (990, 1_010, ["990", "995", "1,000", "1,005", "1,010"]),
        (7, 7, ["7"]),
    ],
)
def test_round_steps_stand_below_a_figure(first, last, texts):
    found = _maps.labels(first, last)
    assert [str(text) for _, text in found] == texts
    for place, text in found:
        if last > first:
            assert place == pytest.approx((int(text.replace(",", "")) - first) / (last - first))


def test_a_network_whose_sites_change_keeps_rows_by_name(written):
    one = Record(
        (Site("a", "linear", "L", 1, (2,)), Site("b", "linear", "L", 2, (2,))),
        (Parameter("w", (3, 5), "linear"),),
        {"forward.rms": (1.0, 2.0)},
    )
    other = Record((Site("b", "linear", "L", 1, (2,)),), series={"forward.rms": (8.0,)}, step=5)
    watched = words.gather(written([one, other]))
    (found,) = _maps.maps(watched)
    assert (found.names, found.columns) == (["a", "b"], [[1.0, 2.0], [None, 8.0]])


def test_the_program_of_the_page_on_runs_runs(run, capsys):
    page = (Path(__file__).parents[2] / "docs" / "runs.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    program = program.replace("runs/today.isograd", str(run.path)).replace("layers.0", "a")
    held = {}
    exec(program, held)
    assert capsys.readouterr().out.startswith("finished Progress(step=8, looks=4, loss=1.23")
    assert held["numbers"] == (1.0, 0.25, 0.0625, 2.0**-8)
