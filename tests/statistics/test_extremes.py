"""Smallest and largest entry of every unit, against a loop."""

import math

import pytest
import torch

from isograd.errors import InputError
from isograd.statistics import units


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_every_axis(dtype: torch.dtype, axis: int) -> None:
    x = torch.randn(3, 5, 7, 11, generator=torch.Generator().manual_seed(0)).to(dtype)
    for layout in (x, x.to(memory_format=torch.channels_last), x.transpose(0, 3)):
        low, high = units(layout, axis)
        parts = layout.unbind(axis)
        assert low.tolist() == [part.min().item() for part in parts]
        assert high.tolist() == [part.max().item() for part in parts]


def test_small_tensors() -> None:
    assert [u.tolist() for u in units(torch.tensor(2.0), -1)] == [[2.0], [2.0]]
    assert [u.tolist() for u in units(torch.tensor([2.0, 3.0]), -1)] == [[2.0, 3.0], [2.0, 3.0]]
    assert all(math.isnan(v) for u in units(torch.empty(0, 3), -1) for v in u.tolist())
    assert units(torch.empty(3, 0), -1)[0].shape == (0,)


def test_complex_parts_belong_to_one_unit() -> None:
    low, high = units(torch.tensor([[1 + 5j, 2 - 3j], [0 + 7j, 4 + 4j]]), -1)
    assert low.tolist() == [0.0, -3.0]
    assert high.tolist() == [7.0, 4.0]


def test_nan_shows() -> None:
    low, high = units(torch.tensor([[1.0, math.nan], [2.0, 3.0]]), -1)
    assert (low[0].item(), high[0].item()) == (1.0, 2.0)
    assert math.isnan(low[1].item())
    assert math.isnan(high[1].item())


def test_integers_are_refused() -> None:
    with pytest.raises(InputError, match=r"torch\.bool"):
        units(torch.ones(2, 3, dtype=torch.bool), 1)
