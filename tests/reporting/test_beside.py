"""What was predicted stands beside what was measured, in every form."""

import json
import math
import re
from dataclasses import replace

import pytest
from made_diagnoses import HOSTILE, make_healthy, make_hostile, make_sick, network

from isograd.findings import Diagnosis
from isograd.records import Reading
from isograd.reporting import _beside as beside
from isograd.reporting import read_json, render
from isograd.reporting._profile import rows


def made(*, off: float = 1.0, back: float = 1.0, **facts: object) -> Diagnosis:
    """Twelve layers, the last of which is `off` times what is predicted."""
    seen = network(12, 1.01, 0.98, "relu")
    expected = replace(seen, source="predicted", facts={**seen.facts, **facts})
    forward = [x * 1.02 for x in seen.series["forward.rms"]]
    forward[-1] *= off
    backward = [x * 1.05 for x in seen.series["backward.rms"]]
    backward[0] *= back
    series = {**seen.series, "forward.rms": tuple(forward), "backward.rms": tuple(backward)}
    return Diagnosis((), (), Reading(replace(seen, series=series), expected))


def test_the_agreement_is_the_median_and_the_worst() -> None:
    found = beside.agreement(made(off=3.0).reading, "forward")
    assert found is not None
    assert found.typical == pytest.approx(math.log(1.02))
    assert found.worst == pytest.approx(math.log(3.06))
    assert found.name == "layers.11"


def test_one_line_says_how_far_theory_is_off() -> None:
    assert beside.told(made(off=3.0, back=0.1)) == (
        "measured/predicted: signal ±2 % (×3.06 at layers.11) · gradient ±5 % (×0.10 at layers.0)"
    )
    sampled = beside.told(made(**{"prediction.sampled": ["prelu", "glu"]}))
    assert sampled.endswith("; estimated by sampling: prelu, glu")
    assert beside.told(make_healthy()) == ""


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_text_tells_it(form: str) -> None:
    text = " ".join(render(made(off=3.0), form).split())
    assert "signal ±2 % (×3.06 at layers.11)" in text


def test_a_number_that_is_not_predictable_is_not_shown() -> None:
    diagnosis = made(off=3.0, **{"prediction.predictable": False})
    assert all(not any(row.predicted.values()) for row in rows(diagnosis))
    assert "not predictable" in render(diagnosis, "text")
    assert "predicted by theory" not in render(diagnosis, "html")
    assert "÷ predicted" not in render(diagnosis, "html")


def test_bars_carry_a_mark_where_theory_has_them() -> None:
    lines = render(made(off=30.0), "text", width=120).splitlines()
    bars = [line for line in lines if re.match(r"\s+\d+  layers", line)]
    assert len(bars) == 12
    assert all(line.count("┊") == 2 for line in bars)
    signal = [line[line.index("layers") : line.rindex("e-0")] for line in bars]
    assert re.search(r"█┊\s*[0-9]", signal[0])  # where the bar ends
    assert re.search(r"█┊█{5}", signal[-1])  # far inside
    assert "forward rms, ┊ predicted" in "\n".join(lines)
    assert "┊" not in render(make_healthy(), "text")


@pytest.mark.parametrize("off", [1e-30, 1e30, 1.0])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_lines_fit_whatever_is_predicted(off: float, width: int) -> None:
    for line in render(made(off=off), "text", width=width).splitlines():
        assert len(line) <= width
        assert line == line.rstrip()


def test_the_page_has_the_curve_its_band_and_the_columns() -> None:
    page = render(made(off=3.0), "html")
    assert page.count("predicted by theory") >= 2
    assert page.count("where 95 % of random draws would lie") == 2
    heads = re.findall(r'<th scope="col">([^<]*)</th>', page)
    assert heads.count("predicted rms") == 2
    assert heads.count("÷ predicted") == 2
    assert "3.06" in re.findall(r"<td[^>]*>([^<]*)</td>", page)
    assert "signal off prediction" in page
    assert "±2 %" in page
    plain = render(make_healthy(), "html")
    assert "÷ predicted" not in plain
    assert "signal off prediction" not in plain


def test_gradients_of_weights_are_compared_by_name() -> None:
    diagnosis = made()
    seen, expected = diagnosis.reading.seen, diagnosis.reading.expected
    assert expected is not None
    backwards = tuple(reversed(expected.parameters))
    column = tuple(float(i + 1) for i in range(12))
    reading = Reading(
        replace(seen, series={**seen.series, "weight.grad_rms": column}),
        replace(
            expected,
            parameters=backwards,
            series={**expected.series, "weight.grad_rms": tuple(2 * x for x in reversed(column))},
        ),
    )
    joined = beside.joined(reading)
    assert joined.series["weight.over_predicted"] == pytest.approx([0.5] * 12)


def test_machines_get_the_numbers() -> None:
    diagnosis = made(off=3.0)
    (run,) = json.loads(render(diagnosis, "sarif"))["runs"]
    signal = run["properties"]["isograd/prediction"]["signal"]
    assert signal["worst"] == pytest.approx(3.06)
    assert signal["at"] == "layers.11"
    back = read_json(render(diagnosis, "json"))
    assert back.reading.expected == diagnosis.reading.expected
    (plain,) = json.loads(render(make_healthy(), "sarif"))["runs"]
    assert "properties" not in plain


def test_odd_numbers_and_names_break_nothing() -> None:
    odd = make_hostile()
    seen = odd.reading.seen
    reading = Reading(seen, replace(seen, source="predicted"))
    for form in ("text", "html", "markdown", "sarif", "json"):
        assert HOSTILE not in render(replace(odd, reading=reading), form)


def test_sites_that_the_prediction_does_not_have_stay_empty() -> None:
    sick = make_sick()
    assert sick.reading.expected is not None
    other = replace(
        sick.reading.expected,
        sites=tuple(replace(s, name=f"other.{s.name}") for s in sick.reading.expected.sites),
    )
    reading = replace(sick.reading, expected=other)
    assert beside.agreement(reading, "forward") is None
    assert "predicted" not in render(replace(sick, reading=reading), "text")
