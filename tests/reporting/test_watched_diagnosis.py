"""A watched run is told beside its latest look, and with the course of its loss."""

import re
from dataclasses import replace

import pytest

from isograd.diagnosis import diagnose
from isograd.findings import Diagnosis
from isograd.records import Reading
from isograd.reporting import read_json, render
from isograd.reporting._summary import at_the_end, losses
from isograd.reporting.as_markdown import plain
from isograd.rules._examples import chain, run


def watched() -> Diagnosis:
    facts = {"model.name": "Net", "loss.chance": 2.303, "loss.name": "cross_entropy"}
    first = chain(4, series={"forward.rms": 1.25}, facts={**facts, "loss.value": 2.31})
    later = chain(4, series={"forward.rms": 77.7}, facts={"loss.value": 0.5}, step=40)
    return diagnose(run(first, later, losses=[2.31 * 0.97**k for k in range(60)]))


@pytest.mark.parametrize("form", ["text", "markdown", "html", "html-fragment"])
def test_every_form_shows_the_latest_look(form: str) -> None:
    told = render(watched(), form)
    assert "77.7" in told or "7.8e+01" in told
    assert "1.2e+00" not in told
    assert "step 40" in told
    assert "60 step" in told
    assert "Rehears" not in told
    assert "2.303" in told  # what stays as it was is known from the first look


def test_other_forms_have_everything() -> None:
    diagnosis = watched()
    assert read_json(render(diagnosis, "json")) == diagnosis


def test_one_look_and_a_rehearsal_are_told_as_they_are() -> None:
    diagnosis = watched()
    single = replace(diagnosis, reading=Reading(diagnosis.reading.seen))
    assert at_the_end(single) is single
    last = replace(diagnosis.reading.last, facts={"rehearsal.losses": [2.3, 1.0]})
    tried = replace(diagnosis, reading=Reading(diagnosis.reading.seen, history=(last,)))
    assert at_the_end(tried) is tried
    assert losses(tried) == [2.3, 1.0]
    assert "Rehearsal  2 steps" in render(tried, "text")


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("nn.init.kaiming_normal_(w), std=0.1 / fan_in ** 0.5", r"\*"),
        ("values in [0, 7.12e+29] with 3 zeros", None),
        ("see [this](http://x)", r"\]"),
        ("__name__ and _emphasis_", r"(?<![A-Za-z0-9])_"),
        ("[ ] a task", r"^\["),
        ("head#2 of <b> | a", r"#2|<|\|"),
        ("# title", "^#"),
    ],
)
def test_markdown_is_only_marked_where_it_would_act(text: str, marked: str | None) -> None:
    expected = text
    if marked:
        expected = re.sub(
            marked, lambda m: "".join(f"&#{ord(c)};" if not c.isalnum() else c for c in m[0]), text
        )
    assert plain(text) == expected
