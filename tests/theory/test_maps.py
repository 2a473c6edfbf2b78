"""Trajectories against closed forms, published numbers and a wide random network."""

import math
from itertools import pairwise

import numpy as np
import pytest

from isograd.errors import InputError
from isograd.theory import activation, gradient_similarity, trajectory


def test_relu_angles_by_depth() -> None:
    along = trajectory("relu", 1000, weight_var=2.0, c0=0.0)
    for layer, c in [
        (10, 0.87153551602151762),
        (50, 0.98786194493734540),
        (100, 0.99642314668394763),
    ]:
        assert along.c[layer] == pytest.approx(c, rel=1e-12)
    np.testing.assert_allclose(along.q, 1.0, rtol=1e-12)
    np.testing.assert_allclose(along.gradient, 1.0, rtol=1e-12)
    # Hayou et al. 2019: 1 - c ~ 9 pi^2 / (2 l^2).
    assert (1 - along.c[-1]) * 1000**2 == pytest.approx(43.13, abs=0.01)


def test_gradient_energy_has_the_widths() -> None:
    widths = (7, 100, 30, 11)
    along = trajectory("relu", 3, weight_var=1.2, widths=widths)
    for layer in range(4):
        assert along.gradient[layer] == pytest.approx(0.6 ** (3 - layer) * 11 / widths[layer])


def test_shattering() -> None:
    # Product of C'(c) / chi_1 with c from the arc-cosine map, by hand.
    c, product = 0.0, 1.0
    for _ in range(5):
        product *= (math.pi - math.acos(c)) / math.pi
        c = (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / math.pi
    assert gradient_similarity("relu", 5, weight_var=2.0) == pytest.approx(product, rel=1e-12)
    # The same from after the first activation, where orthogonal inputs have c = 1/pi.
    after = {"weight_var": 2.0, "c0": 1 / math.pi}
    assert gradient_similarity("relu", 4, **after) == pytest.approx(2 * product, rel=1e-12)
    assert gradient_similarity("linear", 9, weight_var=1.3) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["tanh", "hardtanh", "silu"])
def test_wide_random_network(name: str) -> None:
    """Forward and backward through one network with three widths, by hand."""
    widths, weight_var, bias_var, c0 = (1500, 2000, 1200, 1700, 1300), 1.8, 0.1, 0.3
    act, random, draws = activation(name), np.random.default_rng(3), 4
    q, c, g, s = (np.zeros((draws, len(widths))) for _ in range(4))
    for draw in range(draws):
        one = random.standard_normal((2, widths[0]))
        h = [np.stack([one[0], c0 * one[0] + math.sqrt(1 - c0**2) * one[1]])]
        layers = []
        for inside, outside in pairwise(widths):
            layers.append(
                random.standard_normal((outside, inside)) * math.sqrt(weight_var / inside)
            )
            bias = random.standard_normal(outside) * math.sqrt(bias_var)
            h.append(act.value(h[-1]) @ layers[-1].T + bias)
        back = np.tile(random.standard_normal(widths[-1]), (2, 1))
        first = (back**2).mean()
        for layer in reversed(range(len(widths))):
            energy = (back**2).mean(axis=1)
            g[draw, layer] = energy.mean() / first
            s[draw, layer] = (back[0] * back[1]).mean() / math.sqrt(energy.prod())
            squares = (h[layer] ** 2).mean(axis=1)
            q[draw, layer] = squares.mean()
            c[draw, layer] = (h[layer][0] * h[layer][1]).mean() / math.sqrt(squares.prod())
            if layer:
                back = (back @ layers[layer - 1]) * act.slope(h[layer - 1])
    along = trajectory(
        name, len(widths) - 1, weight_var=weight_var, bias_var=bias_var, c0=c0, widths=widths
    )
    # Each layer adds a relative error of some sqrt(5/n) = 6 %, halved by the draws.
    np.testing.assert_allclose(q.mean(axis=0), along.q, rtol=0.12)
    np.testing.assert_allclose(g.mean(axis=0), along.gradient, rtol=0.15)
    np.testing.assert_allclose(c.mean(axis=0), along.c, atol=0.06)
    np.testing.assert_allclose(s.mean(axis=0), along.similarity, atol=0.06)


def test_one_input_has_no_angle() -> None:
    along = trajectory("tanh", 4, weight_var=1.5)
    assert along.c is None
    assert along.similarity is None
    assert along.q.shape == along.gradient.shape == (5,)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="weight_var is -1"):
        trajectory("tanh", 4, weight_var=-1)
    with pytest.raises(InputError, match="depth 2 needs 3 positive widths"):
        trajectory("tanh", 2, weight_var=1.0, widths=(3, 4))
    with pytest.raises(InputError, match="c0 is 2"):
        trajectory("tanh", 2, weight_var=1.0, c0=2)
    with pytest.raises(InputError, match="exp: E phi"):
        trajectory("exp", 9, weight_var=1.0)
