"""Spread, correlation and what tells units apart, against numpy in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from isograd.errors import InputError
from isograd.statistics import correlation, rank, row_cosine, row_spread, sign_agreement, spread
from isograd.statistics.samples import FEATURES, SAMPLES, _scale, _spread

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
FUNCTIONS = (spread, correlation, rank, row_cosine, row_spread, sign_agreement)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def table(x: Tensor) -> np.ndarray:
    return x.double().reshape(len(x), -1).numpy()


def brute_spread(x: Tensor) -> float:
    size = float(x.double().abs().max()) or 1.0
    return float(np.sqrt((table(x) / size).var(axis=0).mean())) * size


def brute_cosine(x: Tensor) -> float:
    rows = table(x)
    rows = rows / np.abs(rows).max(axis=1, keepdims=True)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return float(np.square(units @ units.T)[np.triu_indices(len(rows), 1)].mean())


def brute_correlation(x: Tensor) -> float:
    rows = table(x)
    rows = rows / np.abs(rows).max()
    rows = rows[np.abs(rows).max(axis=1) > 0]
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    gram = units @ units.T
    return float(gram[np.triu_indices(len(rows), 1)].mean())


def brute_rank(x: Tensor) -> float:
    rows = table(x)
    rows = rows - rows[0]
    rows = rows / (np.abs(rows).max() or 1.0)
    values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    return float(values.sum() ** 2 / np.square(values).sum()) if values.any() else 0.0


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(FLOATS),
    st.sampled_from([(2,), (3, 1), (5, 7), (11, 3, 5), (2, 3, 5, 7), (7, 1, 2)]),
    st.integers(0, 10_000),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, 30.0]),
)
def test_any_tensor(dtype, shape: tuple[int, ...], seed: int, size: int, mean: float) -> None:
    power = size * {torch.float16: 1, torch.float64: 60}.get(dtype, 11)
    x = ((noise(*shape, seed=seed) + mean) * 10.0**power).to(dtype)
    for layout in (x, x.transpose(0, -1), x.flip(-1)[::2] if len(x) > 3 else x):
        if len(layout) < 2:
            continue
        truth = brute_spread(layout)
        assert spread(layout).item() == pytest.approx(truth, rel=1e-5)
        assert spread(layout).dtype == torch.float64
        assert correlation(layout).item() == pytest.approx(brute_correlation(layout), abs=3e-6)
        assert rank(layout).item() == pytest.approx(brute_rank(layout), rel=1e-9)
        assert row_cosine(layout).item() == pytest.approx(brute_cosine(layout), abs=3e-6)
        rms = brute_rms(layout)
        assert row_spread(layout).item() == pytest.approx(truth / rms, rel=2e-5)
        signs = np.sign(table(layout))
        agreement = np.abs(signs.sum(axis=1)).mean() / signs.shape[1]
        assert sign_agreement(layout).item() == pytest.approx(agreement, rel=1e-6)


def brute_rms(x: Tensor) -> float:
    size = float(x.double().abs().max()) or 1.0
    return float(np.sqrt(((table(x) / size) ** 2).mean())) * size


@pytest.mark.parametrize("shape", [(5, 90_001), (70_001, 5), (13, 7, 61, 67), (2, 3, 211, 301)])
def test_many_tiles(shape: tuple[int, ...]) -> None:
    x = (noise(*shape) + 1.0).float()
    for layout in (
        x,
        x.to(memory_format=torch.channels_last) if x.dim() == 4 else x.t().clone().t(),
    ):
        assert spread(layout).item() == pytest.approx(brute_spread(x), rel=1e-5)
        # Of a sample of the units and their weights.
        assert row_spread(layout).item() == pytest.approx(brute_spread(x) / brute_rms(x), rel=0.1)


def test_device_path_says_the_same() -> None:
    for size in (1e-38, 1e-30, 1.0, 1e30):
        x = (noise(7, 90_001) * size).float()
        assert _spread(x, _scale(x)).item() == pytest.approx(brute_spread(x), rel=1e-5)


def test_a_small_spread_on_a_large_mean() -> None:
    common = noise(1, 3_001).float() * 100
    x = common + 1e-4 * noise(8, 3_001).float()
    # What float32 stored is the truth, rounding of the sum included.
    assert spread(x).item() == pytest.approx(brute_spread(x), rel=1e-5)


def test_a_huge_entry_that_all_samples_share() -> None:
    x = noise(5, 1_009).float()
    x[:, 17] = torch.finfo(torch.float32).min  # a mask
    expected = brute_spread(torch.cat([x[:, :17], torch.zeros(5, 1), x[:, 18:]], dim=1))
    assert spread(x).item() == pytest.approx(expected, rel=1e-5)


def test_equal_samples() -> None:
    x = noise(1, 3, 5, 7).float().expand(11, 3, 5, 7)
    assert spread(x).item() == 0.0
    assert row_spread(x).item() == 0.0
    assert correlation(x).item() == pytest.approx(1.0, abs=1e-6)
    assert correlation(-x * torch.linspace(1, 1e9, 11)[:, None, None, None]).item() == (
        pytest.approx(1.0, abs=1e-6)
    )


def test_opposite_and_orthogonal_samples() -> None:
    x = noise(1, 1_001).float()
    assert correlation(torch.cat([x, -x])).item() == pytest.approx(-1.0, abs=1e-6)
    assert correlation(torch.eye(7)).item() == pytest.approx(0.0, abs=1e-7)


def test_correlation_of_a_large_batch_is_sampled() -> None:
    samples, features = 3 * SAMPLES + 1, 3 * FEATURES + 1
    x = (noise(1, features) + noise(samples, features, seed=1)).float()
    assert correlation(x).item() == pytest.approx(0.5, abs=5 * features**-0.5)


@pytest.mark.parametrize("directions", [1, 3, 7])
def test_rank_counts_the_directions(directions: int) -> None:
    plain, mixing = noise(directions, 41), noise(29, directions, seed=1)
    mixing = torch.linalg.qr(mixing - mixing.mean(dim=0)).Q  # equally far along each of them
    x = 1e6 + mixing @ torch.linalg.qr(plain.T).Q.T
    assert rank(x).item() == pytest.approx(directions, rel=1e-6)
    uneven = mixing * torch.tensor([2.0**-k for k in range(directions)])
    weights = [4.0**-k for k in range(directions)]
    few = sum(weights) ** 2 / sum(w**2 for w in weights)
    assert rank(uneven).item() == pytest.approx(few, rel=1e-9)


def test_rank_of_samples_that_are_the_same_is_zero() -> None:
    assert rank(noise(1, 3, 5, 7).float().expand(11, 3, 5, 7)).item() == 0.0
    assert rank(noise(2, 5)).item() == pytest.approx(1.0)


def test_rank_of_a_large_batch_is_sampled() -> None:
    samples, features = 3 * SAMPLES + 1, 3 * FEATURES + 1
    # Independent entries: (tr G)^2 / |G|^2 = (n - 1) / (1 + (n - 1) / d), n samples, d features.
    found = rank(noise(samples, features).float()).item()
    n = len(range(0, samples, -(-samples // SAMPLES)))
    assert found == pytest.approx((n - 1) / (1 + (n - 1) / FEATURES), rel=0.01)


def test_zero_samples_have_no_direction() -> None:
    x = noise(3, 11).float()
    padded = torch.cat([x, torch.zeros(2, 11)])
    assert correlation(padded).item() == pytest.approx(correlation(x).item(), abs=1e-6)
    assert math.isnan(correlation(torch.zeros(3, 5)).item())


@pytest.mark.parametrize("x", [torch.ones(1, 5), torch.empty(0, 5), torch.empty(5, 0)])
def test_too_little_to_compare(x: Tensor) -> None:
    for function in (spread, correlation, rank, row_cosine, row_spread):
        assert math.isnan(function(x).item())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_number_alone(function) -> None:
    result = function(torch.tensor(2.0))
    assert result.shape == ()
    assert math.isnan(result.item()) is (function is not sign_agreement)


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_non_finite_entries_show(odd: float) -> None:
    x = noise(3, 5).float()
    x[1, 2] = odd
    for function in (spread, correlation, rank, row_cosine, row_spread):
        assert math.isnan(function(x).item())


def test_zero_weights_are_equal() -> None:
    assert row_spread(torch.zeros(3, 5)).item() == 0.0


def test_independent_rows_differ_by_their_size() -> None:
    assert row_spread(noise(301, 211).float()).item() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("rank", "expected"), [(1, 1.0), (5, 1 / 5), (211, 2 / 211)])
def test_the_squared_cosine_tells_the_rank(rank: int, expected: float) -> None:
    """Of a product of Gaussian factors of rank r: 1/r + 1/in, and all of 1 at rank one."""
    left, right = noise(701, rank), noise(rank, 211, seed=1)
    assert row_cosine((left @ right).float()).item() == pytest.approx(expected, rel=0.08)
    assert row_cosine(noise(701, 211).float()).item() == pytest.approx(1 / 211, rel=0.05)


def test_units_that_are_zero_have_no_direction() -> None:
    rows = torch.outer(noise(7).float(), noise(5, seed=1).float())
    rows[2] = 0
    assert row_cosine(rows).item() == pytest.approx(1.0, abs=1e-6)
    assert math.isnan(row_cosine(torch.zeros(3, 5)).item())


def test_sign_agreement_of_an_outer_product() -> None:
    g = torch.outer(noise(7), noise(1_001).abs())
    assert sign_agreement(g).item() == 1.0
    mixed = sign_agreement(noise(307, 1_001)).item()
    assert mixed == pytest.approx(math.sqrt(2 / (math.pi * 1_001)), rel=0.15)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_integers_are_refused(function) -> None:
    with pytest.raises(InputError, match=r"torch\.int64"):
        function(torch.ones(3, 5, dtype=torch.int64))


def test_autocast_does_not_change_the_numbers() -> None:
    x = noise(5, 1_001).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = [function(x).item() for function in FUNCTIONS]
    assert inside == [function(x).item() for function in FUNCTIONS]


def test_units_are_compared_on_a_sample() -> None:
    alike = torch.ones(300, 9_001)
    assert row_spread(alike).item() == 0.0
    one_row = noise(1, 9_001).float()
    assert row_spread(one_row.expand(300, -1)).item() == 0.0
    assert row_spread(noise(300, 9_001).float()).item() == pytest.approx(1.0, rel=0.02)
