"""The brief numbers of a parameter are those of the full sums."""

import math

import pytest
import torch
from torch import Tensor

from isograd.errors import InputError
from isograd.statistics import brief, derive, sums


def values(size: float, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(37, 911, generator=generator, dtype=torch.float64) * size + size).to(dtype)


@pytest.mark.parametrize("size", [1e-30, 1e-7, 1.0, 1e9, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_they_agree_at_every_size(size: float, dtype: torch.dtype) -> None:
    x = values(size, dtype)
    full, short = derive(sums(x).tolist()), brief(x)
    assert set(short) == {"mean", "rms", "min", "max", "nonfinite"}
    for key, number in short.items():
        assert number == pytest.approx(full[key], rel=1e-5), key


def test_non_finite_entries_are_counted_and_left_out() -> None:
    x = values(1.0)
    x[3, 5], x[4, 6] = math.nan, math.inf
    short = brief(x)
    assert short["nonfinite"] == 2
    kept = x[torch.isfinite(x)].double()
    assert short["rms"] == pytest.approx(float(kept.square().mean().sqrt()), rel=1e-5)


def test_nothing_and_zeros() -> None:
    assert brief(torch.empty(0))["rms"] is None
    assert brief(torch.zeros(5))["rms"] == 0.0


def test_integers_are_refused() -> None:
    with pytest.raises(InputError, match="int64"):
        brief(torch.arange(3))
