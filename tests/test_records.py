"""Records: plain numbers, columns that fit, and questions with an answer for what is absent."""

import dataclasses
import math

import pytest

from isograd.records import EXPONENTS, WEIGHT_KINDS, Parameter, Reading, Record, Site
from isograd.sites import WEIGHTS


def site(name: str, kind: str, *inputs: int) -> Site:
    return Site(name, kind, kind.title(), 1, (5, 7), inputs)


SITES = (
    site("a", "linear"),
    site("b", "relu", 0),
    site("c", "conv", 1),
    site("d", "add", 0, 2),
    site("e", "attention", 3),
)
PARAMETERS = (Parameter("a.weight", (7, 3), "linear"), Parameter("a.bias", (7,), "bias"))
SERIES = {
    "forward.rms": (1.0, None, math.nan, math.inf, 0.0),
    "backward.rms": (None,) * 5,
    "weight.rms": (0.5, None),
}
RECORD = Record(SITES, PARAMETERS, SERIES, facts={"batch.size": 5, "loss.value": None})


@pytest.mark.parametrize(
    ("key", "column"),
    [
        ("forward.rms", (1.0,) * 4),
        ("weight.rms", (1.0,) * 5),
        ("output.x", ()),
        ("weight.x", (1.0,)),
    ],
)
def test_a_column_has_an_entry_per_row(key: str, column: tuple[float, ...]) -> None:
    rows = 2 if key.startswith("weight.") else 5
    with pytest.raises(ValueError, match=f"{key} has {len(column)} entries for {rows} rows"):
        Record(SITES, PARAMETERS, {key: column})


def test_a_record_may_be_empty() -> None:
    empty = Record(())
    assert not empty.has("forward.rms")
    assert empty.weight_sites() == ()
    assert (empty.source, empty.step, empty.notes) == ("measured", 0, ())


def test_what_is_there() -> None:
    assert RECORD.has("forward.rms")
    assert not RECORD.has("backward.rms")  # a column of nothing
    assert not RECORD.has("forward.mean")  # no column
    assert RECORD.has("weight.rms")


def test_one_number() -> None:
    assert RECORD.value("forward.rms", 0) == 1.0
    assert RECORD.value("forward.rms", 1) is None
    assert RECORD.value("forward.rms", 3) == math.inf
    assert RECORD.value("forward.mean", 0) is None
    with pytest.raises(IndexError):
        RECORD.value("forward.rms", 5)


def test_pairs_are_the_finite_numbers() -> None:
    assert list(RECORD.pairs("forward.rms")) == [(0, 1.0), (4, 0.0)]
    assert list(RECORD.pairs("weight.rms")) == [(0, 0.5)]
    assert list(RECORD.pairs("forward.mean")) == []


def test_facts() -> None:
    assert RECORD.fact("batch.size") == 5
    assert RECORD.fact("loss.value", 3) is None  # known to be nothing
    assert RECORD.fact("loss.kind") is None
    assert RECORD.fact("loss.kind", "mse") == "mse"


def test_who_reads_whom() -> None:
    assert RECORD.consumers(0) == (1, 3)
    assert RECORD.consumers(2) == (3,)
    assert RECORD.consumers(4) == ()


def test_weight_layers() -> None:
    assert RECORD.weight_sites() == (0, 2, 4)
    assert set(WEIGHT_KINDS) == set(WEIGHTS)  # said in two rooms that may not meet


@pytest.mark.parametrize(
    ("kind", "weight"),
    [
        ("linear", True),
        ("conv", True),
        ("recurrent", True),
        ("embedding", False),
        ("norm", False),
        ("bias", False),
        ("other", False),
    ],
)
def test_which_parameters_multiply_a_signal(kind: str, weight: bool) -> None:
    assert Parameter("p", (3, 5), kind).is_weight is weight


def test_they_are_frozen() -> None:
    for made, name in ((SITES[0], "name"), (PARAMETERS[0], "kind"), (RECORD, "step")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, name, 3)


def test_the_bins_of_a_histogram_are_those_of_the_statistics() -> None:
    from isograd import statistics

    assert range(statistics.EXPONENT_LOW, statistics.EXPONENT_HIGH) == EXPONENTS


def test_the_last_look() -> None:
    first, second, third = (dataclasses.replace(RECORD, step=k) for k in (0, 4, 9))
    assert Reading(first).last is first
    assert Reading(first, history=(second, third)).last is third
