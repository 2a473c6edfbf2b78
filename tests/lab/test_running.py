"""Settings, data, device and scale of a run, and what is refused."""

import json
import math

import pytest
import torch

from isograd.errors import CatalogueError, DataError, InputError
from isograd.lab import run
from isograd.lab.expected import above, below, between, exactly, near
from isograd.lab.experiments import EXPERIMENTS
from isograd.lab.judging import judge
from isograd.lab.result import from_json, to_json
from isograd.lab.running import change, choose_data


def test_a_setting_is_read_as_what_it_is() -> None:
    changed = change(
        EXPERIMENTS["hundreds-of-layers"], {"depths": "4, 6", "lr": "0.5", "steps": "3"}
    )
    assert changed.settings() == {
        **EXPERIMENTS["hundreds-of-layers"].settings(), "depths": (4, 6), "lr": 0.5, "steps": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"dept": "3"}, "no setting 'dept'; did you mean depth"),
        ({"depth": "three"}, "depth=three: expected a whole number"),
        ({"factor": "x"}, "factor=x: expected a number"),
        ({"depth": "0"}, "depth=0: expected a whole number of at least 1"),
        ({"depth": -3}, "depth=-3: expected a whole number of at least 1"),
        ({"factor": "inf"}, "factor=inf: expected a finite number"),
    ],
)
def test_a_setting_that_cannot_be(settings: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        run("products-of-factors", settings=settings)


def test_what_is_refused() -> None:
    with pytest.raises(CatalogueError, match="unknown code 'nothing'"):
        run("nothing")
    with pytest.raises(InputError, match="no scale 'full'; there is fast, standard"):
        run("products-of-factors", scale="full")
    with pytest.raises(InputError, match="one-step-away cannot run with width=1"):
        run("one-step-away", scale="fast", settings={"width": 1})
    with pytest.raises(InputError, match="no setting 'points'; it has none"):
        run("sigmoid-curve", settings={"points": 1})
    with pytest.raises(InputError, match="needs no data"):
        run("products-of-factors", data="digits")
    with pytest.raises(InputError, match="doctor"):
        run("products-of-factors", device="cuda:77")
    with pytest.raises(DataError, match="no data set 'imagenet'"):
        run("weights-or-jacobians", scale="fast", data="imagenet")


def test_changed_settings_are_not_judged() -> None:
    result = run("products-of-factors", settings={"depth": 5})
    assert result.scale == "custom"
    assert result.numbers["growing_20"] == 1.5**4
    assert judge(EXPERIMENTS["products-of-factors"], result) == ()


def test_without_a_folder_it_falls_back_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISOGRAD_DATA", raising=False)
    monkeypatch.setattr("isograd.lab.fetching.home", lambda: None)
    name, notes = choose_data(EXPERIMENTS["weights-or-jacobians"], "standard", None)
    assert name == "digits"
    assert "shown on digits, since mnist is not here" in notes[0]
    assert "isograd lab fetch mnist" in notes[0]
    with pytest.raises(DataError, match="mnist is not here; set ISOGRAD_DATA"):
        choose_data(EXPERIMENTS["weights-or-jacobians"], "standard", "mnist")


def test_the_stream_and_the_threads_are_as_before() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    run("random-matrix-products", settings={"draws": 2, "depth": 2})
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_a_result_is_strict_json_and_comes_back() -> None:
    result = run("products-of-factors", settings={"depth": 2000})
    text = to_json(result)
    assert result.numbers["output_growing"] == math.inf
    assert json.loads(text, parse_constant=pytest.fail)["numbers"]["output_growing"] == "inf"
    assert from_json(text).numbers["output_growing"] == math.inf
    with pytest.raises(DataError, match="not a result of the lab"):
        from_json("{}")


NUMBERS = {"x": 2.0, "x_theory": 2.2, "gone": math.nan}


@pytest.mark.parametrize(
    ("expected", "met", "words"),
    [
        (near("x", 2.1, "why", rel=0.05), True, "2.1 ± 5 %"),
        (near("x", 2.1, "why", abs=0.05), False, "2.1 ± 0.05"),
        (near("x", "x_theory", "why", rel=0.1), True, "2.2 ± 10 % (predicted)"),
        (exactly("x", 2, "why"), True, "2"),
        (exactly("x", 2.0000001, "why"), False, "2"),
        (above("x", 2, "why"), True, "≥ 2"),
        (above("x", 2.1, "why"), False, "≥ 2.1"),
        (below("x", "x_theory", "why"), True, "≤ 2.2"),
        (between("x", 1, 1.5, "why"), False, "1 to 1.5"),
        (near("gone", 0, "why", abs=math.inf), False, "0 ± inf"),
        (above("nowhere", -math.inf, "why"), False, "≥ -inf"),
    ],
)
def test_an_expected_number(expected: object, met: bool, words: str) -> None:
    assert expected.met(NUMBERS) is met  # type: ignore[attr-defined]
    assert expected.words(NUMBERS) == words  # type: ignore[attr-defined]


def test_an_expected_number_of_one_scale_and_one_data_set() -> None:
    one = above("x", 1, "why", at=("fast",), on=("mnist",))
    assert one.applies("fast", "mnist")
    assert not one.applies("standard", "mnist")
    assert not one.applies("fast", "digits")
