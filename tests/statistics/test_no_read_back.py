"""Nothing is read back from a device on the way: a meta tensor has no data to read."""

import pytest
import torch
from torch import Tensor

from isograd.statistics import (
    correlation,
    exponents,
    rank,
    row_cosine,
    row_spread,
    sign_agreement,
    spread,
    sums,
    units,
)

SHAPES = [(5, 7), (3, 90_001), (3, 5, 7, 11), (100_003,), (1,), ()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.complex64])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_read_back(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.empty(shape, dtype=dtype, device="meta")
    samplewise = (spread, correlation, rank, row_cosine, row_spread, sign_agreement)
    for function in (sums, exponents, *samplewise):
        result = function(x)
        here = function(torch.zeros(shape, dtype=dtype))
        assert (result.shape, result.dtype) == (here.shape, here.dtype)
        assert result.device.type == "meta"
    assert all(extreme.device.type == "meta" for extreme in units(x, -1))


def test_a_read_back_would_show() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        Tensor.item(sums(torch.empty(3, device="meta"))[0])
