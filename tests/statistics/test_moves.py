"""Moves, against numpy: how far samples of tensors have moved."""

import math
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from isograd.statistics import Moves
from isograd.statistics.moves import RUN, SAMPLE, sample

SHAPES = [(3,), (1,), (31, 33), (SAMPLE,), (SAMPLE + 1,), (129, 301), (7, 5, 3, 3)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def expected(before: Tensor, after: Tensor) -> list[float]:
    """By indices that are worked out one by one."""
    old, new = (x.double().numpy().reshape(-1) for x in (before, after))
    if len(old) > SAMPLE:
        runs, golden = SAMPLE // RUN, (math.sqrt(5) - 1) / 2
        share = (len(old) - RUN) // runs
        starts = [k * share + int(k * golden % 1 * share) for k in range(runs)]
        places = [start + i for start in starts for i in range(RUN)]
        old, new = old[places], new[places]
    return [float((old**2).sum()), float(((new - old) ** 2).sum()), len(old)]


@pytest.mark.parametrize("shape", [(512, 512), (128, 128), (768, 3072), (300, 768), (2, 4096, 7)])
def test_a_sample_meets_every_part_of_every_axis(shape: tuple[int, ...]) -> None:
    """A gradient of few large columns: samples of the same ones would say that all are alike."""
    count = math.prod(shape)
    places = sample(torch.arange(float(count), dtype=torch.float64)).reshape(-1).long()
    assert 0.9 * SAMPLE < len(places) <= SAMPLE
    for index, length in zip(torch.unravel_index(places, shape), shape, strict=True):
        met = torch.bincount(index * min(length, 32) // length, minlength=min(length, 32))
        assert met.max() < 2.5 * met.min()


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_squares_and_changes(dtype: torch.dtype, native: bool) -> None:
    with (
        mock.patch("isograd.statistics.moves.extension", return_value=None)
        if not native
        else (mock.MagicMock())
    ):
        moves = Moves(torch.device("cpu"))
    tensors = [noise(*shape, seed=i).to(dtype) for i, shape in enumerate(SHAPES)]
    for _ in range(2):  # what was taken before is forgotten
        before = [x.clone() for x in tensors]
        moves.take(tensors)
        for i, x in enumerate(tensors):
            x += 0.01 * noise(*x.shape, seed=50 + i).to(dtype)
        found = moves.compare(tensors)
        for row, old, new in zip(found, before, tensors, strict=True):
            assert row.tolist() == pytest.approx(expected(old, new), rel=1e-9)


def test_of_what_is_not_contiguous_the_order_of_memory_counts() -> None:
    x = noise(64, 32, 3, 3).contiguous(memory_format=torch.channels_last)
    moves = Moves(torch.device("cpu"))
    moves.take([x])
    old = x.permute(0, 2, 3, 1).clone()
    x.mul_(1.5)
    found = moves.compare([x])[0]
    assert found.tolist() == pytest.approx(expected(old, x.permute(0, 2, 3, 1)), rel=1e-6)


def test_another_tensor_in_its_place_has_not_moved() -> None:
    moves = Moves(torch.device("cpu"))
    moves.take([noise(7), noise(5)])
    assert not moves.compare([noise(7), noise(6)]).any()
    moves.take([])
    assert moves.compare([]).shape == (0, 3)


def test_what_is_not_finite_shows() -> None:
    moves, x = Moves(torch.device("cpu")), noise(9)
    moves.take([x])
    x[3] = np.nan
    square, change, count = moves.compare([x])[0].tolist()
    assert np.isfinite(square)
    assert np.isnan(change)
    assert count == 9


def test_on_a_gpu_all_tensors_are_sampled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of one length each, of which the shorter ones end in zeros."""

    class Rows:
        def gather(self, tensors: list[Tensor], runs: int, run: int) -> Tensor:
            flats = [sample(x).reshape(-1).double() for x in tensors]
            return torch.stack(
                [torch.nn.functional.pad(x, (0, runs * run - len(x))) for x in flats]
            )

    monkeypatch.setattr("isograd.statistics.moves.extension", lambda: None)
    monkeypatch.setattr("isograd.statistics.moves.best", lambda _: Rows())
    before = [noise(*shape, seed=k) for k, shape in enumerate(SHAPES)]
    after = [x + 0.1 * noise(*x.shape, seed=50) for x in before]
    moves = Moves(torch.device("cpu"))
    moves.take(before)
    found = moves.compare(after)
    for row, pair in zip(found.tolist(), zip(before, after, strict=True), strict=True):
        assert row == pytest.approx(expected(*pair), rel=1e-9)
