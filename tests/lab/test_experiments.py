"""Every experiment keeps the contract: at the scale `fast` its numbers come out, and it draws."""

import sys
import warnings
from dataclasses import fields, replace

import pytest

from isograd.lab import figures
from isograd.lab.claims import claims
from isograd.lab.experiment import Experiment
from isograd.lab.experiments import EXPERIMENTS, questions
from isograd.lab.images import BUNDLED
from isograd.lab.judging import judge
from isograd.lab.result import Result, from_json, to_json
from isograd.lab.running import run

ALL = list(EXPERIMENTS)
IDS = [one.code for one in ALL]


@pytest.mark.parametrize("experiment", ALL, ids=IDS)
def test_what_it_says_of_itself(experiment: Experiment) -> None:
    kind = type(experiment)
    assert experiment.code == kind.__module__.rpartition(".")[2].replace("_", "-")
    assert questions()[experiment.code] == experiment.question()
    assert experiment.question().endswith("?")
    assert len(experiment.about()) > 100
    named = [one.name for one in fields(experiment)]  # type: ignore[arg-type]  # a dataclass
    assert set(experiment.settings_help()) >= set(named)
    assert not experiment.data or experiment.data[-1] in BUNDLED
    assert set(experiment.scales) <= {"fast", "full"}
    for scale in ("fast", *experiment.scales):
        assert type(experiment.at(scale)) is kind


@pytest.mark.parametrize("experiment", ALL, ids=IDS)
def test_its_answers(experiment: Experiment) -> None:
    assert experiment.answers
    preferred = experiment.data[0] if experiment.data else None
    bundled = experiment.data[-1] if experiment.data else None
    for answer in experiment.answers:
        assert answer.claim in claims()
        assert not claims()[answer.claim].nothing_to_test
        assert answer.verdict == "true" or len(answer.statement) > 20
        for scale, data in (("fast", bundled), ("standard", preferred)):
            applying = [one for one in answer.expected if one.applies(scale, data)]
            assert applying, f"{answer.claim} has no number at the scale {scale} on {data}"
    for _, one in experiment.expected():
        assert len(one.why) > 10
        assert set(one.at) <= {"fast", "standard", "full"}
        assert set(one.on) <= set(experiment.data)


@pytest.mark.parametrize("experiment", ALL, ids=IDS)
def test_it_runs_and_draws(experiment: Experiment) -> None:
    result = run(experiment, scale="fast")
    assert result.scale == "fast"
    wrong = [check for check in judge(experiment, result) if not check.met]
    assert not wrong
    again = from_json(to_json(result))
    assert replace(again, numbers=0, series=0) == replace(result, numbers=0, series=0)
    assert repr(again.numbers) == repr(dict(result.numbers))
    check_figure(experiment, again)


def check_figure(experiment: Experiment, result: Result) -> None:
    """Nothing is cut off, nothing lies upon a title, every axis says what it is."""
    with warnings.catch_warnings(), figures.styled():
        warnings.simplefilter("error")
        figure = experiment.given(result.settings).figure(result)
        figure.draw_without_rendering()
        whole = figure.bbox.padded(1)
        title = figure.get_suptitle()
        assert len(title) > 20
        for axes in figure.axes:
            box = axes.get_tightbbox()
            assert box is None or whole.containsx(box.x0), f"cut off at the left: {title}"
            assert box is None or whole.containsx(box.x1), f"cut off at the right: {title}"
            assert box is None or whole.containsy(box.y0), f"cut off at the bottom: {title}"
            assert box is None or whole.containsy(box.y1), f"cut off at the top: {title}"
        for text in figure.texts:
            extent = text.get_window_extent()
            assert whole.containsx(extent.x0), f"title cut off: {title}"
            assert whole.containsx(extent.x1), f"title cut off: {title}"


def test_the_check_of_figures_sees_a_title_that_is_cut_off() -> None:
    class Long(type(EXPERIMENTS["products-of-factors"])):  # type: ignore[misc]  # made at run time
        def figure(self, result: Result) -> object:
            figure = super().figure(result)
            figure.suptitle("a very long title that does not fit " * 6, x=0.012, ha="left")
            return figure

    sys.modules.setdefault(Long.__module__, sys.modules[__name__])
    result = run("products-of-factors", scale="fast")
    with pytest.raises(AssertionError, match="cut off"):
        check_figure(Long(), result)


@pytest.mark.parametrize("name", ["products-of-factors", "random-matrix-products"])
def test_two_runs_are_the_same(name: str) -> None:
    assert to_json(run(name, scale="fast")) == to_json(run(name, scale="fast"))


def test_two_trainings_are_the_same() -> None:
    settings = {"depths": (8,), "steps": 10, "seeds": 2}
    first, second = (
        to_json(run("hundreds-of-layers", scale="fast", settings=settings)) for _ in range(2)
    )
    assert first == second
