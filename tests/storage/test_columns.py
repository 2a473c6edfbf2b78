"""Columns of numbers as bytes: what comes back, and how many bytes it takes."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isograd.storage._columns import entry, pack, size, unpack

NUMBERS = st.none() | st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(NUMBERS, max_size=12))
def test_what_comes_back_is_what_went_in_to_seven_digits(column):
    form, data = pack(column)
    assert len(data) == size(form, len(column))
    back = unpack(form, data, len(column))
    assert list(back) == [entry(form, data, 0, row) for row in range(len(column))] or any(
        x is not None and math.isnan(x) for x in back
    )
    for before, after in zip(column, back, strict=True):
        if before is None or not math.isfinite(before):
            assert repr(after) == repr(before).replace("-nan", "nan")
        else:
            assert after == pytest.approx(before, rel=2**-24, abs=0)


@pytest.mark.parametrize(
    ("column", "form", "taken"),
    [
        ([1.5, 2.5, None], "f", 12),
        ([0.0, 1e-38 * 2, 3e38], "f", 12),
        ([1.0, 1e-38], "d", 16),  # below the smallest normal number of single precision
        ([1.0, 1e39], "d", 16),
        ([math.nan, 1.0, 1e-40], "d", 24),
        ([math.nan, math.inf, -math.inf, None, 1.0], "d", 40),
        ([1.0, math.nan, math.inf], "f", 12),
        ([7, 7, 7, 7], "s", 8),
        ([None] * 1000, "s", 8),
        ([1e-300] * 3, "s", 8),
        ([], "f", 0),
    ],
)
def test_the_smallest_form_that_loses_nothing_is_taken(column, form, taken):
    assert pack(column)[0] == form
    assert len(pack(column)[1]) == taken
    assert repr(unpack(*pack(column), len(column))) == repr(tuple(pytest_floats(column)))


def pytest_floats(column):
    """What single precision holds of a column that fits it; counts come back as floats."""
    single = pack(column)[0] == "f"
    for number in column:
        if number is None:
            yield None
        else:
            yield struct.unpack("f", struct.pack("f", number))[0] if single else float(number)
