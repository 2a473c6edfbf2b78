"""No claim is forgotten, and the page of claims says what the results say."""

import doctest
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from isograd.lab.claims import claims, missing, table
from isograd.lab.experiments import EXPERIMENTS, questions
from isograd.lab.judging import judge
from isograd.lab.pages import page
from isograd.lab.result import Result

DOCS = Path(__file__).parents[2] / "docs"


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_gallery", DOCS / "make_gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NOT_YET = Path(__file__).with_name("not_yet.txt").read_text().split()
"""Claims that still wait for their experiment."""

NOT_RUN = Path(__file__).with_name("not_run.txt").read_text().split()
"""Experiments whose result still waits for a machine with time to spare."""

RESULTS: dict[str, Result] = maker().results()


def test_every_claim_is_there() -> None:
    groups = {"S0.": 27, "S1.": 51, "S3.": 53, "X": 15, "E": 19, "H": 13}
    for prefix, count in groups.items():
        numbered = [f"{prefix}{i}" for i in range(1, count + 1)]
        assert [key for key in claims() if key in set(numbered)] == numbered
    figures = [key for key in claims() if ".F" in key]
    assert len(claims()) == sum(groups.values()) + len(figures)


def test_what_is_not_shown_yet() -> None:
    assert missing(EXPERIMENTS) == NOT_YET


def test_every_experiment_has_a_result_with_its_settings() -> None:
    assert sorted([*RESULTS, *NOT_RUN]) == sorted(questions()), "run make gallery"
    for name, result in RESULTS.items():
        experiment = EXPERIMENTS[name]
        assert experiment.given(result.settings) == experiment, "run make gallery"


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_a_result_has_what_must_come_out(name: str) -> None:
    checks = judge(EXPERIMENTS[name], RESULTS[name])
    assert checks
    assert [check for check in checks if not check.met] == []


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_the_page_of_a_result_is_up_to_date(name: str) -> None:
    text = (DOCS / "gallery" / f"{name}.md").read_text()
    assert text == page(EXPERIMENTS[name], RESULTS[name]), "run docs/make_gallery.py --redraw"
    assert (DOCS / "gallery" / f"{name}.png").is_file()


def test_the_page_of_claims_is_up_to_date() -> None:
    assert (DOCS / "claims.md").read_text() == table(EXPERIMENTS, RESULTS)
    assert (DOCS / "gallery" / "README.md").read_text() == maker().index()


def test_the_page_of_claims_shows_a_number_that_was_missed() -> None:
    from dataclasses import replace

    result = RESULTS["products-of-factors"]
    wrong = replace(result, numbers={**result.numbers, "overflow_fp16": 29})
    told = table(EXPERIMENTS, {**RESULTS, "products-of-factors": wrong})
    assert "**29** (missed)" in told
    assert told != (DOCS / "claims.md").read_text()


def test_the_program_on_the_page_of_the_lab() -> None:
    text = (DOCS / "lab.md").read_text()
    test = doctest.DocTestParser().get_doctest(
        "\n".join(re.findall(r"```pycon\n(.*?)```", text, re.DOTALL)), {}, "lab.md", None, 0
    )
    results = doctest.DocTestRunner().run(test)
    assert (results.failed, results.attempted) == (0, 3)
