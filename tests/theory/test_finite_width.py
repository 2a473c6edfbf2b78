"""The band against closed forms and many random networks."""

import math

import numpy as np
import pytest

from isograd.errors import InputError
from isograd.theory.activations import activation
from isograd.theory.finite_width import band, finite_width, kappa
from isograd.theory.gains import gains


def test_kappa() -> None:
    assert kappa("linear") == pytest.approx(2, rel=1e-12)
    assert kappa("relu") == pytest.approx(5, rel=1e-12)
    assert kappa("hardshrink") > 2


def test_sum_over_layers() -> None:
    layers = [(7, "linear"), (100, "relu"), (300, "relu"), (11, "linear")]
    betas = np.cumsum([2 / 7, 5 / 100, 5 / 300, 2 / 11])
    np.testing.assert_allclose(band(layers), np.sqrt(betas) / 2, rtol=1e-12)
    assert band([]) == []


def test_nothing_passes() -> None:
    assert band([(3, "relu"), (0, "relu"), (5, "relu")])[1:] == [math.inf, math.inf]


@pytest.mark.parametrize("name", ["linear", "relu", "leaky_relu"])
def test_random_networks(name: str) -> None:
    """Standard deviation of ln rms over draws of an equal-width network, at every depth."""
    width, depth, draws = 100, 10, 600
    phi, gain = activation(name), gains(name).second_moment
    random = np.random.default_rng(0)
    logs = np.empty((draws, depth))
    for draw in range(draws):
        x = random.standard_normal(width)
        signal = x / np.sqrt((x**2).mean())
        for layer in range(depth):
            weights = random.standard_normal((width, width)) / np.sqrt(width)
            signal = weights @ (signal if layer == 0 else gain * phi.value(signal))
            logs[draw, layer] = np.log((signal**2).mean()) / 2
    predicted = band([(width, "linear")] + [(width, name)] * (depth - 1))
    measured = logs.std(axis=0)
    # Four standard errors of a standard deviation (2.9 % each), and 5 % for the next order in 1/n.
    np.testing.assert_allclose(measured, predicted, rtol=4 / math.sqrt(2 * draws) + 0.05)


def test_random_networks_backward() -> None:
    """Standard deviation of ln rms of a gradient: kinked and smooth slopes alike."""
    width, depth, draws = 100, 6, 400
    for name in ("relu", "tanh"):
        phi, gain = activation(name), gains(name).slope
        random = np.random.default_rng(1)
        logs = np.empty(draws)
        for draw in range(draws):
            gradient = np.ones(width)
            for _ in range(depth):
                # At a standard normal pre-activation, whose slope is independent of the gradient.
                weights = random.standard_normal((width, width)) / np.sqrt(width)
                slope = phi.slope(random.standard_normal(width))
                gradient = gain * slope * (weights @ gradient)
            logs[draw] = np.log((gradient**2).mean()) / 2
        expected = band([(width, name)] * depth)[-1]
        assert logs.std() == pytest.approx(expected, rel=4 / math.sqrt(2 * draws) + 0.05)


def test_published_laws() -> None:
    """Roberts et al. 2022, chapter 4: n V/K^2 is 5 l for ReLU, 2 l for linear, 2 l/3 for K* = 0."""
    for name, law in (("relu", 5), ("linear", 2)):
        of = finite_width(name, depth=12, width=100)
        np.testing.assert_allclose(of.kernel_beta * 100, law * np.arange(1, 13), rtol=1e-10)
    of = finite_width("tanh", depth=4000, width=100, weight_var=1.0, q=0.01)
    assert of.kernel_beta[-1] * 100 / 4000 == pytest.approx(2 / 3, rel=0.03)
    at = finite_width("tanh", depth=20, width=100, weight_var=1.7609546396067391, bias_var=0.05)
    assert math.sqrt(at.kernel_beta[-1]) == pytest.approx(0.0964, abs=5e-5)
    low = finite_width("tanh", depth=20, width=100, weight_var=1.0, q=1.0)
    assert math.sqrt(low.kernel_beta[-1]) == pytest.approx(0.355, abs=5e-4)


def test_bands_of_scale_invariant_activations() -> None:
    of = finite_width("relu", widths=[50, 70, 110])
    np.testing.assert_allclose(of.backward_beta, 5 * np.cumsum([1 / 50, 1 / 70, 1 / 110]))
    truth = [2 / 50, 5 / 50 + 2 / 70, 5 / 50 + 5 / 70 + 2 / 110]
    np.testing.assert_allclose(of.forward_beta, truth)
    np.testing.assert_allclose(of.backward, np.sqrt(np.expm1(of.backward_beta)))
    orthogonal = finite_width("relu", depth=10, width=100, weights="orthogonal")
    assert orthogonal.backward_beta[-1] == pytest.approx(0.3, rel=1e-10)
    assert orthogonal.forward_beta[0] == pytest.approx(0, abs=1e-14)
    exact = finite_width("linear", depth=10, width=10, weights="orthogonal")
    np.testing.assert_allclose(exact.backward_beta, 0, atol=1e-13)
    np.testing.assert_allclose(exact.forward_beta, 0, atol=1e-13)


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize(
    ("name", "weight_var", "bias_var", "q"),
    [("relu", 2.0, 0.0, 1.0), ("tanh", 1.76095464, 0.05, 0.57004788), ("tanh", 1.0, 0.0, 0.3)],
)
def test_random_networks_of_any_kind(name, weight_var, bias_var, q, orthogonal) -> None:
    """Variance of ln energy of signal and of a tangent through the same random network."""
    width, depth, draws = 50, 5, 500
    weights = "orthogonal" if orthogonal else "gaussian"
    given = {"weights": weights, "weight_var": weight_var, "bias_var": bias_var, "q": q}
    of = finite_width(name, depth=depth, width=width, **given)
    phi, random = activation(name), np.random.default_rng(2)
    logs = np.empty((draws, 2))
    for draw in range(draws):
        a, t = random.standard_normal((2, width))
        a *= math.sqrt((q - bias_var) / weight_var * width) / np.linalg.norm(a)
        t -= a * (a @ t) / (a @ a)
        for _ in range(depth):
            w = random.standard_normal((width, width)) / math.sqrt(width)
            if orthogonal:
                w, upper = np.linalg.qr(w)
                w = w * np.sign(np.diag(upper))
            w = w * math.sqrt(weight_var)
            h = w @ a + math.sqrt(bias_var) * random.standard_normal(width)
            t = phi.slope(h) * (w @ t)
            a = phi.value(h)
        logs[draw] = np.log((h**2).mean()), np.log((t**2).sum() / width)
    # Four standard errors of a variance (6.3 % each), and 15 % for the next order in 1/width.
    expected = [of.forward_beta[-1], of.backward_beta[-1]]
    start = 2 / width  # The tangent starts with a norm of its own.
    measured = logs.var(axis=0) - [0, start]
    np.testing.assert_allclose(measured, expected, rtol=4 * math.sqrt(2 / draws) + 0.15, atol=0.002)


def test_where_it_ends() -> None:
    of = finite_width("relu", depth=3000, width=10, weight_var=8.0)
    assert len(of.q) < 3000
    assert "nothing passes" in of.reason
    wide = finite_width("relu", depth=10, width=1000)
    assert wide.reason == "first order in 1/width is enough"
    narrow = finite_width("relu", depth=3000, width=2)
    assert narrow.forward[-1] == math.inf
    for kwargs, match in (
        ({}, "needs depth and width"),
        ({"depth": 3}, "needs depth and width"),
        ({"depth": 3, "widths": [3]}, "not both"),
        ({"widths": []}, "empty"),
        ({"widths": [3], "weights": "sparse"}, "'gaussian' or 'orthogonal'"),
        ({"widths": [0]}, "a width is a whole number"),
    ):
        with pytest.raises(InputError, match=match):
            finite_width("relu", **kwargs)
    with pytest.raises(InputError, match="sigmoid has no critical weights"):
        finite_width("sigmoid", depth=3, width=8)


@pytest.mark.parametrize(
    ("name", "weight_var", "bias_var", "q"),
    [("tanh", 1.76095464, 0.05, 0.57004788), ("gelu", 1.98305826, 0.17292239, 3.56155281)],
)
def test_gradients_feel_the_kernel_stray(name, weight_var, bias_var, q) -> None:
    """Gaussian layers draw by draw from the Gram matrix of signal and tangent alone."""
    width, depth, draws = 100, 8, 4000
    phi, random = activation(name), np.random.default_rng(0)
    kernel, cross, tangent = np.full(draws, q), np.zeros(draws), np.ones(draws)
    for _ in range(depth):
        x, y = random.standard_normal((2, draws, width))
        z = np.sqrt(kernel)[:, None] * x
        share = cross / np.sqrt(kernel)
        t = share[:, None] * x + np.sqrt(tangent - share**2)[:, None] * y
        a, t = phi.value(z), phi.slope(z) * t
        last = (z**2).mean(axis=1)
        kernel = weight_var * (a**2).mean(axis=1) + bias_var
        cross = weight_var * (a * t).mean(axis=1)
        tangent = weight_var * (t**2).mean(axis=1)
    of = finite_width(name, depth=depth, width=width, weight_var=weight_var, bias_var=bias_var, q=q)
    # Four standard errors of a variance (2.2 % each), and 6 % for the next order in 1/width.
    assert np.log(last).var() == pytest.approx(of.forward_beta[-1], rel=0.15)
    assert np.log(tangent).var() == pytest.approx(of.backward_beta[-1], rel=0.15)
