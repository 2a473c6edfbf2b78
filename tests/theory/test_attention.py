"""Uniform attention against reference values, matrices and random networks."""

import math

import numpy as np
import pytest

from isograd.errors import InputError
from isograd.theory.attention import (
    post_norm,
    post_norm_factor,
    rank_collapse,
    uniform_attention,
)


def test_reference_values() -> None:
    assert rank_collapse(64, 12).rho[-1] == pytest.approx(0.98461, abs=5e-6)
    of = rank_collapse(64, 12, branch_scale=12**-0.5)
    assert of.rho[-1] == pytest.approx(0.02458, abs=5e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_matrices(causal: bool) -> None:
    tokens, depth, scale = 7, 9, 0.8
    mix = np.tril(np.ones((tokens, tokens))) if causal else np.ones((tokens, tokens))
    mix /= mix.sum(axis=1, keepdims=True)
    gram = 0.1 + 0.9 * np.eye(tokens)
    of = rank_collapse(tokens, depth, branch_scale=scale, rho=0.1, causal=causal)
    for layer in range(depth + 1):
        root = np.sqrt(gram.diagonal())
        angles = gram / np.outer(root, root)
        off = (angles.sum() - tokens) / tokens / (tokens - 1)
        assert of.rho[layer] == pytest.approx(off, rel=1e-11)
        assert of.q[layer] == pytest.approx(gram.diagonal().mean(), rel=1e-11)
        gram = gram + scale**2 * mix @ gram @ mix.T


def test_random_network() -> None:
    tokens, width, depth = 16, 1500, 4
    random = np.random.default_rng(0)
    x = random.standard_normal((tokens, width))
    for _ in range(depth):
        w = random.standard_normal((width, width)) / math.sqrt(width)
        x = x + x.mean(axis=0) @ w
    gram = np.corrcoef(x)
    off = (gram.sum() - tokens) / tokens / (tokens - 1)
    assert off == pytest.approx(rank_collapse(tokens, depth).rho[-1], abs=0.03)


def test_factors() -> None:
    assert uniform_attention(64, rho=0.0, rho_g=1.0) == pytest.approx((1 / 64, 1))
    assert post_norm_factor(1.0, 1 / 64) == pytest.approx(0.5078125)
    assert post_norm_factor(1.0, 1.0) == 1
    v, chi = uniform_attention(64, rho=1.0, rho_g=0.0)
    assert post_norm_factor(v, chi) == pytest.approx(0.5, rel=0.02)


def test_post_norm_by_hand() -> None:
    """One block of 4 tokens, with the closed forms of ReLU."""
    of = post_norm(4, 1, rho=0.2, rho_g=0.3)
    v = (1 + 3 * 0.2) / 4
    c = (0.2 + v) / (1 + v)
    relu = (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / math.pi
    assert of.rho.tolist() == pytest.approx([0.2, (c + relu) / 2], rel=1e-10)
    back = 0.3 * (1 + 1 - math.acos(c) / math.pi) / 2
    chi = (1 + 3 * back) / 4
    assert of.gradient.tolist() == pytest.approx([(1 + chi) / (1 + v), 1], rel=1e-10)
    assert of.similarity.tolist() == pytest.approx([(back + chi) / (1 + chi), 0.3], rel=1e-10)
    gelu = post_norm(4, 3, act="gelu")
    assert gelu.gradient[0] > post_norm(4, 3).gradient[0]


def test_post_norm_halves_near_the_output_only() -> None:
    of = post_norm(64, 12)
    assert of.gradient[-1] == 1
    ratios = of.gradient[:-1] / of.gradient[1:]
    assert ratios[-1] == pytest.approx(0.51, abs=0.01)
    # Going back, gradients come to agree: it flattens, and near the input it rises again.
    assert of.gradient.argmin() in (3, 4)
    assert of.gradient[0] > 2 * of.gradient.min()
    assert of.rho[-1] > 0.99
    assert of.similarity[0] > 0.5


def test_post_norm_random_network() -> None:
    tokens, width, depth, draws = 24, 500, 5, 3
    of = post_norm(tokens, depth)
    random = np.random.default_rng(0)
    found = np.zeros(depth + 1)

    def normalize(x):
        mean, std = x.mean(axis=1, keepdims=True), x.std(axis=1, keepdims=True)
        z = (x - mean) / std

        def back(g):
            inner = (g * z).mean(axis=1, keepdims=True)
            return (g - g.mean(axis=1, keepdims=True) - z * inner) / std

        return z, back

    for _ in range(draws):
        x, _ = normalize(random.standard_normal((tokens, width)))
        blocks = []
        for _ in range(depth):
            v, w, u = (random.standard_normal((width, width)) / math.sqrt(width) for _ in "vwu")
            u *= math.sqrt(2)
            x, after_attention = normalize(x + x.mean(axis=0) @ v)
            h = x @ w
            x, after_net = normalize(x + np.maximum(h, 0) @ u)
            blocks.append((v, w, u, h > 0, after_attention, after_net))
        g = random.standard_normal((tokens, width))
        energies = [1.0]
        start = (g**2).mean()
        for v, w, u, on, after_attention, after_net in reversed(blocks):
            g = after_net(g)
            g = g + (g @ u.T * on) @ w.T
            g = after_attention(g)
            g = g + g.mean(axis=0) @ v.T
            energies.append((g**2).mean() / start)
        found += np.array(energies[::-1]) / draws
    # Three draws at width 500: 10 % at the input, ten layers from the output.
    np.testing.assert_allclose(found, of.gradient, rtol=0.25)


def test_long_runs_stay_finite() -> None:
    for causal in (False, True):
        of = rank_collapse(5, 1000, branch_scale=3.0, causal=causal)
        assert np.isfinite(of.q).all()
        assert of.rho[-1] > (0.1 if causal else 1 - 1e-9)
    assert rank_collapse(1, 3).rho.tolist()[-1] == pytest.approx(0, abs=1)


def test_bad_arguments() -> None:
    for call, match in (
        (lambda: rank_collapse(0, 3), "tokens"),
        (lambda: rank_collapse(4, 3, rho=-0.9), "rho is from -0.333333"),
        (lambda: rank_collapse(4, 3, branch_scale=1e60), "below 1e100"),
        (lambda: rank_collapse(5000, 3, causal=True), "tokens"),
        (lambda: post_norm(4, 3, rho=2.0), "from 0 to 1"),
        (lambda: uniform_attention(4, rho=0.0, rho_g=3.0), "rho_g is"),
    ):
        with pytest.raises(InputError, match=match):
            call()
