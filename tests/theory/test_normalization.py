"""Growth under norms against the published law, closed forms and random networks."""

import math

import numpy as np
import pytest

from isograd.errors import InputError
from isograd.theory.activations import activation
from isograd.theory.gains import gains
from isograd.theory.normalization import norm_growth

LARGE_BATCH = {
    "relu": math.pi / (math.pi - 1),
    "gelu": 1.31884,
    "silu": 1.21208,
    "tanh": 1.17781,
    "elu": 1.07901,
    "selu": 1.07157,
    "sigmoid": 1.03359,
    "linear": 1.0,
}


@pytest.mark.parametrize(("name", "growth"), LARGE_BATCH.items())
def test_large_batch(name: str, growth: float) -> None:
    assert norm_growth(name, "batch").growth == pytest.approx(growth, abs=5e-6)
    for norm, placement in (("batch", "after"), ("layer", "after"), ("weight", "before")):
        assert norm_growth(name, norm, placement=placement).growth == pytest.approx(
            growth, abs=5e-6
        )


@pytest.mark.parametrize("batch", [4, 5, 6, 8, 32, 1000])
def test_identity_at_a_finite_batch(batch: int) -> None:
    growth = norm_growth("linear", "batch", batch=batch).growth
    assert growth == pytest.approx((batch - 2) / (batch - 3), rel=1e-11)


def test_a_large_finite_batch_meets_the_limit() -> None:
    for name in ("relu", "tanh", "gelu", "hardshrink", "sigmoid"):
        limit, near = (norm_growth(name, "batch", batch=b).growth for b in (None, 1_000_000))
        assert near == pytest.approx(limit, rel=2e-5)
        assert near > limit
        # Hardshrink jumps, which its slope does not know.
        assert limit >= 1 or name == "hardshrink"


@pytest.mark.parametrize(("name", "batch"), [("relu", 16), ("tanh", 16), ("relu", 7)])
def test_random_networks_with_batch_norm(name: str, batch: int) -> None:
    """Mean gradient energy per layer of a wide network, over the inner layers."""
    width, depth, draws = 700, 7, 4
    phi, random = activation(name), np.random.default_rng(3)
    ratios = []
    for _ in range(draws):
        x = random.standard_normal((width, batch))
        seen = []
        for _ in range(depth):
            w = random.standard_normal((width, width)) / math.sqrt(width)
            h = w @ x
            std = h.std(axis=1, keepdims=True)
            v = (h - h.mean(axis=1, keepdims=True)) / std
            seen.append((w, v, std))
            x = phi.value(v)
        g = random.standard_normal((width, batch))
        energies = []
        for w, v, std in reversed(seen):
            d = g * phi.slope(v)
            d = (d - d.mean(axis=1, keepdims=True) - v * (d * v).mean(axis=1, keepdims=True)) / std
            g = w.T @ d
            energies.append((g**2).mean())
        # The first step back meets a gradient, and the last an input, of another kind.
        ratios.append((energies[-2] / energies[0]) ** (1 / (depth - 2)))
    # Heavy tails of 1/variance at a small batch: a standard error of about 2 %.
    assert np.mean(ratios) == pytest.approx(
        norm_growth(name, "batch", batch=batch).growth, rel=0.06
    )


@pytest.mark.parametrize(
    ("name", "growth"), [("relu", 1.0), ("gelu", 1.0720), ("tanh", 1.1778), ("selu", 1.07157)]
)
def test_layer_norm(name: str, growth: float) -> None:
    for norm, placement in (("layer", "before"), ("rms", "before"), ("rms", "after")):
        of = norm_growth(name, norm, placement=placement)
        assert of.growth == pytest.approx(growth, abs=5e-5)
        known = gains(name)
        assert of.growth == pytest.approx(known.slope_moment * known.second_moment**2, rel=1e-10)


def test_what_does_not_exist_is_none() -> None:
    assert norm_growth("relu", "batch", batch=3).growth is None
    assert "infinite below 4" in norm_growth("relu", "batch", batch=3).reason
    nothing = activation("hardshrink", lambd=60.0)
    assert norm_growth(nothing, "layer").growth is None
    assert norm_growth(nothing, "batch").growth is None
    assert norm_growth(nothing, "batch", batch=8).growth is None


def test_bad_arguments() -> None:
    for call, match in (
        (lambda: norm_growth("relu", "group"), "norm is"),
        (lambda: norm_growth("relu", "batch", placement="inside"), "placement is"),
        (lambda: norm_growth("relu", "layer", batch=8), "batch is for norm='batch' only"),
        (lambda: norm_growth("relu", "batch", batch=8, placement="after"), "leave it out"),
        (lambda: norm_growth("relu", "batch", batch=0), "batch is a whole number"),
    ):
        with pytest.raises(InputError, match=match):
            call()
