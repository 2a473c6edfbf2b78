"""Tests of pooling: averages as matrices, largest entries against draws, in float64."""

import numpy as np
import pytest
import torch
from covariances import cuts_of, made
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from linear_maps import check_linear
from torch.nn import functional

from isograd.errors import PredictionError
from isograd.prediction.functions import laws
from isograd.prediction.moments.fields import Field
from isograd.prediction.propagation import Propagation

AVERAGES = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
ADAPTIVE = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}


@st.composite
def maps(draw):
    """(number of spatial axes, a field of samples, channels and these)."""
    d = draw(st.sampled_from((1, 2, 2, 3)))
    shape = [
        2,
        draw(st.integers(1, 2)),
        *(draw(st.integers(1, {1: 9, 2: 5, 3: 3}[d])) for _ in range(d)),
    ]
    cuts = [draw(cuts_of(n, 2)) for n in shape if n > 1]
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    return d, made(rng, cuts, [int(n > 1) for n in shape])


@settings(deadline=None, max_examples=60)
@given(maps(), st.data())
def test_averages(found, data):
    d, x = found
    size = [data.draw(st.integers(1, 3)) for _ in range(d)]
    stride = data.draw(st.none() | st.lists(st.integers(1, 3), min_size=d, max_size=d))
    padding = [data.draw(st.integers(0, k // 2)) for k in size]
    assume(all(n >= k for n, k in zip(x.shape[2:], size, strict=True)))
    args = size, stride, padding, data.draw(st.booleans()), data.draw(st.booleans())
    check_linear(lambda t: AVERAGES[d](t, *args), x)


@settings(deadline=None, max_examples=30)
@given(maps(), st.data())
def test_adaptive_averages(found, data):
    d, x = found
    size = [data.draw(st.none() | st.integers(1, 4)) for _ in range(d)] if d > 1 else 3
    check_linear(lambda t: ADAPTIVE[d](t, size), x)


def test_a_divisor_of_its_own():
    x = made(np.random.default_rng(1), [(2,), (3,), (4,), (5,)], [1, 1, 1, 1])
    check_linear(lambda t: functional.avg_pool2d(t, 2, divisor_override=3), x)


LETTERS = "nchw"


def mixture(shape, parts, mean=0.0):
    """The field of a sum of independent Gaussians, each the same along all axes but its own.

    Args:
        shape: of samples, channels, rows, columns.
        parts: axes of each, as letters, and its variance.
        mean: of every entry.
    """
    second = np.full((2,) * len(shape), mean**2)
    for axes, variance in parts.items():
        second[tuple(0 if c in axes else slice(None) for c in LETTERS[: len(shape)])] += variance
    cuts = tuple((n,) for n in shape)
    return Field(second, cuts, (1,) * len(shape), np.full((1,) * len(shape), mean))


def drawn(rng, number, shape, parts, mean=0.0):
    """Draws of it."""
    total = torch.full((number, *shape), mean, dtype=torch.float64)
    for axes, variance in parts.items():
        size = [n if c in axes else 1 for n, c in zip(shape, LETTERS, strict=False)]
        total += variance**0.5 * torch.from_numpy(rng.normal(size=(number, *size)))
    return total


def moments(draws, cuts):
    """(mean over draws of the moments per kind of pair, its standard error)."""
    per_draw = np.empty((len(draws), *(2 for _ in cuts)))
    for subset in np.ndindex(*(2 for _ in cuts)):  # axes on which two entries are any two
        free = tuple(axis + 1 for axis, some in enumerate(subset) if some)
        rest = tuple(axis + 1 for axis, some in enumerate(subset) if not some)
        per_draw[(slice(None), *subset)] = np.square(draws.mean(free, keepdims=True)).mean(
            (*free, *rest)
        )
    for axis in range(len(cuts)):
        n = draws.shape[axis + 1]
        rows = np.moveaxis(per_draw, axis + 1, 1)
        rows[:, 1] = (rows[:, 1] * n - rows[:, 0]) / (n - 1)
    return per_draw.mean(axis=0), per_draw.std(axis=0) / (len(draws) - 1) ** 0.5


def check_largest(function, shape, parts, gradient, *, mean=0.0, number=8000, slack=0.006):
    """Moments of output and gradient, within four standard errors and a share of the energy."""
    x = mixture(shape, parts, mean)
    run = Propagation()
    with run:
        out = run.field_of(function(run.abstract(x)))
    rng = np.random.default_rng(5)
    draws = drawn(rng, number, shape, parts, mean).requires_grad_()
    values = torch.func.vmap(function)(draws)
    assert tuple(values.shape[1:]) == out.shape
    near(out, values.detach().numpy(), slack)
    back = drawn(rng, number, out.shape, gradient)
    run.backward([(out, mixture(out.shape, gradient))])
    (found,) = torch.autograd.grad(values, draws, back)
    near(run.gradient_of(x), found.numpy(), slack)


def near(field, draws, slack):
    field = field.recut([(sum(cut),) for cut in field.cuts])
    found, error = moments(draws, field.cuts)
    off = (np.abs(field.second - found) - 4 * error) / field.energy
    assert off.max() < slack, (off, field.second, found)


ALONE = {"nchw": 1.0}
SHARED = {"nchw": 0.5, "nc": 0.2, "chw": 0.2, "n": 0.1}
GRADIENT = {"nchw": 0.6, "nc": 0.4}


@pytest.mark.parametrize("parts", [ALONE, SHARED])
@pytest.mark.parametrize(
    ("shape", "function"),
    [
        ((2, 3, 8, 6), lambda t: functional.max_pool2d(t, 2)),
        ((2, 3, 8, 6), lambda t: functional.max_pool2d(t, (3, 2), (2, 1), (1, 0), 1, True)),
        ((2, 3, 11), lambda t: functional.max_pool1d(t, 3, 2, 1, 2)),
        ((2, 3, 9, 7), lambda t: functional.adaptive_max_pool2d(t, (2, 3))),
        ((2, 3, 4, 5), lambda t: functional.adaptive_max_pool2d(t, 1).expand(2, 3, 2, 2)),
    ],
)
def test_largest_of_gaussians(parts, shape, function):
    check_largest(function, shape, parts, GRADIENT)


@pytest.mark.parametrize("mean", [-0.6, 0.3])
@pytest.mark.parametrize(
    ("gradient", "slack"),
    [
        (ALONE, 0.006),
        # Two windows with the same largest entry have the same slope there, and a high one; that
        # matters where windows overlap and have gradients in common.
        (GRADIENT, 0.05),
    ],
)
def test_largest_after_a_kink_goes_straight_to_what_is_before_it(mean, gradient, slack):
    check_largest(
        lambda t: functional.max_pool2d(functional.relu(t), 3, 2, 1),
        (2, 3, 8, 8), SHARED, gradient, mean=mean, slack=slack,
    )  # fmt: skip


@pytest.mark.parametrize("mean", [-1.0, -0.2])
def test_a_kink_after_the_largest(mean):
    check_largest(
        lambda t: functional.relu(functional.max_pool2d(t, 2)),
        (2, 3, 6, 6), SHARED, GRADIENT, mean=mean, slack=0.012,
    )  # fmt: skip


@pytest.mark.parametrize("function", [functional.silu, torch.neg, torch.square])
def test_functions_that_are_not_monotone(function):
    check_largest(
        lambda t: functional.max_pool2d(function(t), 2), (2, 3, 6, 6), ALONE, GRADIENT, slack=0.012
    )


def test_window_of_one_and_constant_maps():
    run = Propagation()
    x = mixture((2, 3, 4, 4), SHARED, 0.5)
    flat = mixture((2, 3, 4, 4), {}, 0.5)
    with run:
        same = run.field_of(functional.max_pool2d(run.abstract(x), 1))
        still = run.field_of(functional.max_pool2d(run.abstract(flat), 2))
    np.testing.assert_allclose(same.recut(x.cuts).second, x.second, atol=1e-9)
    np.testing.assert_allclose(still.second, 0.25)


def test_gradient_at_the_function_that_is_pooled():
    """The output of the ReLU gets a gradient too, also where all of a window is zero."""
    run = Propagation()
    x = mixture((2, 3, 8, 8), ALONE)
    with run:
        middle = functional.relu(run.abstract(x))
        out = run.field_of(functional.max_pool2d(middle, 2))
    run.backward([(out, mixture(out.shape, ALONE))])
    assert run.gradient_of(run.field_of(middle)).energy == pytest.approx(1 / 4)
    assert run.gradient_of(x).energy == pytest.approx((1 - 2**-4) / 4)


def kept(t):
    return t


def turned(t):
    return t.transpose(-1, -2)


@pytest.mark.parametrize(
    ("first", "layout"), [(torch.tanh, kept), (torch.neg, kept), (kept, turned)]
)
def test_gradients_of_all_in_a_chain_through_pooling(first, layout):
    """Each tensor on the way is told its own gradient, also what is a function of another."""

    def chain(t):
        one = first(t)
        two = functional.relu(one)
        three = functional.max_pool2d(layout(two), 2)
        return [t, one, two, three, functional.silu(three)]

    run = Propagation()
    with run:
        *abstract, last = chain(run.abstract(mixture((2, 3, 8, 8), ALONE)))
    run.backward([(run.field_of(last), mixture(last.shape, ALONE))])
    draws = drawn(np.random.default_rng(3), 3000, (2, 3, 8, 8), ALONE).flatten(0, 1)
    *on_the_way, last = chain(draws.requires_grad_())
    g = torch.from_numpy(np.random.default_rng(4).normal(size=last.shape))
    for tensor, gradient in zip(abstract, torch.autograd.grad(last, on_the_way, g), strict=True):
        found = run.gradient_of(run.field_of(tensor)).energy
        assert found == pytest.approx(float(gradient.square().mean()), rel=0.01)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.97])
@pytest.mark.parametrize("number", [2, 9, 40])
def test_law_of_the_largest(number, rho):
    """Against draws; for two, the mean is sqrt((1 - rho) / pi)."""
    x = np.linspace(-7.0, 8.0, 3001)
    cdf, density = laws.law(x, number, rho)
    assert np.diff(cdf).min() >= 0
    np.testing.assert_allclose(np.cumsum(density) * 0.005, cdf, atol=0.005)
    rng = np.random.default_rng(2)
    z, e = rng.normal(size=(40_000, 1)), rng.normal(size=(40_000, number))
    largest = (rho**0.5 * z + (1 - rho) ** 0.5 * e).max(axis=1)
    np.testing.assert_allclose(cdf[::100], (largest[:, None] < x[::100]).mean(axis=0), atol=0.013)
    if number == 2:
        mean = (density @ x) / density.sum()
        assert mean == pytest.approx(((1 - rho) / np.pi) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.95])
def test_law_of_the_largest_of_unlike_entries(rho):
    """Against draws: the law, and how often which kind is the largest."""
    kinds = laws.Kinds(np.array([1.0, 3.0]), np.array([0.2, 0.0]), np.array([0.5, 1.2]))
    x = np.linspace(-9.0, 9.0, 3001)
    pairs_of_two = 3 * 0.5 * 1.2 + 3 * 1.2 * 1.2
    cdf, each = laws.mixed_law(x, kinds, rho * pairs_of_two / 6)
    rng = np.random.default_rng(2)
    z, e = rng.normal(size=(40_000, 1)), rng.normal(size=(40_000, 4))
    u = rho**0.5 * z + (1 - rho) ** 0.5 * e
    u = u * np.array([0.5, 1.2, 1.2, 1.2]) + np.array([0.2, 0.0, 0.0, 0.0])
    largest, winner = u.max(axis=1), u.argmax(axis=1)
    np.testing.assert_allclose(cdf[::100], (largest[:, None] < x[::100]).mean(axis=0), atol=0.013)
    np.testing.assert_allclose(np.cumsum(each.sum(axis=0)) * 0.006, cdf, atol=0.006)
    assert each[0].sum() * 0.006 == pytest.approx((winner == 0).mean(), abs=0.012)


def test_indices_are_refused():
    run = Propagation()
    x = run.abstract(mixture((2, 3, 4, 4), ALONE))
    with run, pytest.raises(PredictionError, match="where the largest entries are"):
        functional.max_pool2d(x, 2, return_indices=True)
