"""Parts of large tensors: where they lie, and that native readers take the same."""

import math

import pytest
import torch

from isograd.statistics import LARGE, Place, Table, part

SHAPES = [
    (256, 512),
    (64, 16, 32, 32),
    (64, 32, 16, 16),
    (2048, 256),
    (300, 1000),
    (40, 3, 64, 64),
    (16, 16384),
]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
def test_it_meets_every_part_of_every_axis(shape: tuple[int, ...]) -> None:
    count = math.prod(shape)
    places = part(torch.arange(count, dtype=torch.float64)).reshape(-1).long()
    assert len(places) == 2**12
    assert len(set(places.tolist())) > 0.99 * 2**12
    for axis, index in enumerate(torch.unravel_index(places, shape)):
        met = torch.bincount(index * min(shape[axis], 16) // shape[axis])
        assert len(met) == min(shape[axis], 16)
        assert met.max() < 5 * met.min(), axis


def test_its_rms_has_the_error_that_is_said() -> None:
    errors = [
        float(part(x).square().mean().sqrt()) - 1.0
        for x in torch.randn(200, LARGE, generator=torch.Generator().manual_seed(1))
    ]
    # The sd of an sd of 200 is 5 percent of it.
    assert torch.tensor(errors).std().item() == pytest.approx((2 * 2**12) ** -0.5, rel=0.2)


@pytest.mark.parametrize("shape", [*SHAPES, (LARGE - 1,), (LARGE,), (LARGE + 3,)])
def test_a_native_reader_takes_the_same(shape: tuple[int, ...]) -> None:
    table = Table([Place(0.0, None)] * 2, "cpu")
    if (read := table.part_reader(0)) is None:
        pytest.skip("built without a compiler")
    x = noise(*shape)
    assert read(x)
    table.read(1, part(x))
    assert table.values[0].tolist() == pytest.approx(table.values[1].tolist(), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    "x",
    [
        noise(64, 16, 32, 32).contiguous(memory_format=torch.channels_last),
        noise(600, 512).t(),
        torch.ones(3, dtype=torch.int64),
        torch.eye(3).to_sparse(),
        noise(2, 3).as_subclass(type("Own", (torch.Tensor,), {})),
    ],
    ids=["channels last", "transposed", "integers", "sparse", "subclass"],
)
def test_what_is_not_plain_is_left_to_others(x: torch.Tensor) -> None:
    table = Table([Place()], "cpu")
    if (read := table.part_reader(0)) is None:
        pytest.skip("built without a compiler")
    assert not read(x)
    assert table.values[0, 0] == 0
