"""All sinks of a run: none can harm the training or another."""

import random

import numpy as np
import pytest
import torch
from made_runs import INFO, alarm, look

from isograd.errors import CatalogueError, InputError, IsogradWarning
from isograd.sinks import SINKS, Sink, Sinks


class Listing(Sink):
    """Keeps what it is told."""

    code = "listing"

    def __init__(self) -> None:
        self.told = []

    def open(self, info):
        self.told.append(("open", info.name))

    def record(self, record):
        self.told.append(("record", record.step))

    def losses(self, pairs):
        self.told.append(("losses", list(pairs)))

    def alarms(self, changes):
        self.told.append(("alarms", [a.finding.code for a in changes]))

    def close(self, diagnosis, outcome):
        self.told.append(("close", diagnosis, outcome))


def breaking(at: str, error: BaseException) -> Sink:
    """A sink that raises in one of its methods."""

    def fail(self, *_):
        raise error

    return type("Breaking", (Listing,), {at: fail, "code": f"breaks at {at}"})()


def run(*chosen):
    sinks = Sinks(chosen)
    sinks.open(INFO)
    sinks.record(look(0))
    sinks.losses([(0, 2.5), (1, 2.0)])
    sinks.alarms([alarm()])
    sinks.record(look(2))
    sinks.close(None, "finished")


EVERYTHING = [
    ("open", "night shift"),
    ("record", 0),
    ("losses", [(0, 2.5), (1, 2.0)]),
    ("alarms", ["IG201"]),
    ("record", 2),
    ("close", None, "finished"),
]


def test_every_sink_is_told_everything():
    first, second = Listing(), Listing()
    run(first, second)
    assert first.told == second.told == EVERYTHING


@pytest.mark.parametrize(
    ("at", "missed"), [("open", 2), ("record", 2), ("losses", 1), ("alarms", 1), ("close", 0)]
)
def test_a_sink_that_raises_is_switched_off_with_one_warning(at, missed):
    broken, sound = breaking(at, OSError(28, "no space")), Listing()
    with pytest.warns(IsogradWarning) as warnings:
        run(broken, sound)
    first, *rest = [str(w.message) for w in warnings]
    assert first.startswith(f"sink 'breaks at {at}' is switched off, it failed when it was ")
    assert "OSError: [Errno 28] no space; training goes on" in first
    expected = [f"sink 'breaks at {at}' missed {missed} records of this run"] if missed else []
    assert rest == expected
    assert sound.told == EVERYTHING


def test_a_warning_that_is_an_error_does_not_reach_the_training(capsys):
    run(breaking("record", ValueError("odd")))  # pytest makes warnings errors here
    told = capsys.readouterr().err.splitlines()
    assert [line.startswith("IsogradWarning: sink 'breaks") for line in told] == [True, True]


def test_an_interruption_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        run(breaking("record", KeyboardInterrupt()))


def test_random_numbers_drawn_when_opened_and_closed_leave_the_streams_as_they_were():
    class Drawing(Listing):
        def open(self, info):
            self.close()

        def close(self, *_):
            self.told = [random.random(), np.random.normal(), torch.rand(3)]  # noqa: NPY002  # the stream to keep

    def draw():
        return random.random(), np.random.normal(), torch.rand(1).item()  # noqa: NPY002

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    untouched = draw(), draw()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    sinks = Sinks([Drawing()])
    sinks.open(INFO)
    one = draw()
    sinks.close()
    assert (one, draw()) == untouched


def test_each_run_has_its_own_sink():
    one, other = (Sinks(["jsonl"])._outlets[0].sink for _ in range(2))
    assert type(one) is type(other) is type(SINKS["jsonl"])
    assert len({id(one), id(other), id(SINKS["jsonl"])}) == 3


def test_what_is_no_sink_is_refused_before_the_training():
    with pytest.raises(CatalogueError, match=r"unknown code 'sqlit'; known codes: .*sqlite"):
        Sinks(["sqlit"])
    with pytest.raises(InputError, match=r"sinks: found <class .*Listing'>; give codes"):
        Sinks([Listing])
