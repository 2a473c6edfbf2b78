"""Binary exponents against numpy's frexp."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from isograd.errors import InputError
from isograd.records import EXPONENTS
from isograd.statistics import EXPONENT_HIGH, EXPONENT_LOW, exponents
from isograd.statistics._extension import extension
from isograd.statistics._layout import stride_for
from isograd.statistics.histogram import SAMPLE


@pytest.fixture(autouse=True, scope="module", params=["native", "torch"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways of counting."""
    if request.param == "native" and extension() is None:
        pytest.skip("the extension was built without a compiler")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setattr("isograd.statistics.histogram.reads", lambda _: None)
        yield


def brute_force(x: Tensor) -> list[int]:
    entries = x.double().numpy().ravel()
    entries = entries[np.isfinite(entries) & (entries != 0)]
    exponent = np.clip(np.frexp(entries)[1] - 1, EXPONENT_LOW, EXPONENT_HIGH - 1)
    return np.bincount(exponent - EXPONENT_LOW, minlength=EXPONENT_HIGH - EXPONENT_LOW).tolist()


def test_bins_are_those_of_a_record() -> None:
    assert range(EXPONENT_LOW, EXPONENT_HIGH) == EXPONENTS


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.floats(width=64) | st.sampled_from([0.0, -0.0, math.nan, math.inf]), max_size=40),
    st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
)
def test_any_number(values: list[float], dtype: torch.dtype) -> None:
    x = torch.tensor(values, dtype=torch.float64).to(dtype)
    seen = exponents(x)
    assert seen.dtype == torch.int64
    assert seen.tolist() == brute_force(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_power_of_two(dtype: torch.dtype) -> None:
    powers = torch.exp2(torch.arange(-149.0, 128.0, dtype=torch.float64)).to(dtype)
    below = torch.nextafter(powers.float(), torch.zeros(())).to(dtype)
    for x in (powers, -powers, below):
        assert exponents(x).tolist() == brute_force(x)


@pytest.mark.parametrize("x", [torch.empty(0), torch.zeros(3, 5), torch.tensor(math.nan)])
def test_nothing_to_count(x: Tensor) -> None:
    assert exponents(x).sum() == 0


def test_both_parts_of_a_complex_number() -> None:
    assert exponents(torch.tensor([1 + 4j, 0 - 4j])).nonzero().ravel().tolist() == [150, 152]
    assert exponents(torch.tensor([1 + 4j, 0 - 4j])).sum() == 3


def test_a_large_tensor_is_sampled_and_scaled_back() -> None:
    x = torch.randn(500_009, generator=torch.Generator().manual_seed(0))
    seen, truth = exponents(x).double(), torch.tensor(brute_force(x)).double()
    sample = x[:: stride_for(len(x), SAMPLE)]
    factor = len(x) / len(sample)
    assert seen.tolist() == [math.floor(count * factor + 0.5) for count in brute_force(sample)]
    assert (seen != truth).any()
    common = truth > 0.01 * len(x)
    # Five standard errors of a share of 1 % among 2^16.
    assert seen[common].div(truth[common]).sub(1).abs().max() < 5 * (0.01 * SAMPLE) ** -0.5


def test_a_pattern_in_the_shape_is_not_met() -> None:
    channels = torch.exp2(torch.arange(64.0)).expand(5_000, 64).contiguous()
    seen = exponents(channels)[-EXPONENT_LOW : 64 - EXPONENT_LOW]
    assert seen.min() > 4_900
    assert seen.max() < 5_100


@pytest.mark.parametrize("count", [65_537, 1 << 20, 3 * 5 * 7 * 11 * 13 * 17, 6_432_896])
def test_stride_is_coprime(count: int) -> None:
    step = stride_for(count, 1 << 16)
    assert math.gcd(step, count) == 1
    assert (1 << 14) < -(-count // step) <= 1 << 16


def test_integers_are_refused() -> None:
    with pytest.raises(InputError, match=r"torch\.int64"):
        exponents(torch.arange(3))
