"""Shares that leave a number format, against a cast to that format; empty and zero tensors."""

import pytest
import torch

from isograd.statistics import derive, exponents, shares, sums
from isograd.statistics.derived import BF16, FP8_E4M3, FP8_E5M2, FP16

CASTS = {
    "fp16": (torch.float16, FP16),
    "bf16": (torch.bfloat16, BF16),
    "fp8": (torch.float8_e4m3fn, FP8_E4M3),
    "fp8 backward": (torch.float8_e5m2, FP8_E5M2),
}


@pytest.mark.parametrize("name", CASTS)
def test_limits_are_those_of_torch(name: str) -> None:
    dtype, (smallest, largest) = CASTS[name]
    info = torch.finfo(dtype)
    assert largest == info.max
    assert smallest == info.smallest_normal * info.eps


@pytest.mark.parametrize("name", CASTS)
def test_shares_count_what_lies_outside(name: str) -> None:
    _, (smallest, largest) = CASTS[name]
    inside = torch.tensor([smallest, largest, 1.0], dtype=torch.float64)
    outside = torch.tensor([smallest / 1.001, smallest / 8, largest * 1.15], dtype=torch.float64)
    x = torch.cat([inside, -inside, outside, torch.zeros(5)])
    key = name.split()[0]
    of = shares(exponents(x).tolist(), 9, backward="backward" in name)
    assert of[f"share_{key}_underflow"] == pytest.approx(2 / 9)
    assert of[f"share_{key}_overflow"] == pytest.approx(1 / 9)
    assert len(of) == 6


def test_shares_of_zeros_have_no_meaning() -> None:
    assert set(shares(exponents(torch.zeros(3)).tolist(), 0).values()) == {None}


def test_shares_never_exceed_one() -> None:
    x = torch.full((100_003,), 1e-30)
    assert (
        shares([count + 1 for count in exponents(x).tolist()], 100_003)["share_fp16_underflow"] == 1
    )


def test_derive_of_zeros() -> None:
    of = derive(sums(torch.zeros(3, 5)).tolist())
    assert of["rms"] == of["mean"] == of["min"] == 0
    assert of["zero"] == 1
    assert of["kurtosis"] is None


def test_derive_needs_a_whole_vector() -> None:
    with pytest.raises(ValueError, match="zip"):
        derive([0.0, 1.0])
