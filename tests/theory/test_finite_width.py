"""The band against closed forms and many random networks."""

import math

import numpy as np
import pytest

from isograd.theory.activations import activation
from isograd.theory.finite_width import band, kappa
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
