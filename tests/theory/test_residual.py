"""Residual nets against their laws and against wide random networks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isograd.errors import InputError
from isograd.theory.activations import activation
from isograd.theory.residual import residual


@pytest.mark.parametrize("depth", [1, 7, 30])
def test_laws(depth: int) -> None:
    plain = residual("relu", depth)
    assert plain.q[-1] == pytest.approx(2.0**depth, rel=1e-12)
    assert plain.gradient[0] == pytest.approx(2.0**depth, rel=1e-12)
    scaled = residual("relu", depth, branch_scale=depth**-0.5)
    assert scaled.q[-1] == pytest.approx((1 + 1 / depth) ** depth, rel=1e-12)
    normed = residual("relu", depth, norm="layer")
    np.testing.assert_allclose(normed.q, np.arange(depth + 1) + 1, rtol=1e-12)
    np.testing.assert_allclose(normed.block_growth, 1 + 1 / normed.q[:-1], rtol=1e-12)
    assert normed.gradient[0] == pytest.approx(depth + 1, rel=1e-12)
    post = residual("relu", depth, norm="layer", placement="post")
    np.testing.assert_allclose(post.gradient, 1, rtol=1e-12)
    assert post.q[-1] == 1
    linear = residual("linear", depth, norm="batch")
    assert linear.gradient[0] == pytest.approx(depth + 1, rel=1e-12)


def test_one_over_root_depth_comes_to_e() -> None:
    assert residual("relu", 3000, branch_scale=3000**-0.5).q[-1] == pytest.approx(math.e, rel=1e-3)


def test_batch_norm_of_relu_grows_faster_than_depth() -> None:
    """The norm takes off what inputs share: 1 - 1/pi of each branch's energy is left."""
    of = residual("relu", 400, norm="batch")
    own = of.q * (1 - of.c)
    np.testing.assert_allclose(own, 1 + np.arange(401) * (1 - 1 / math.pi), rtol=1e-10)
    grown = math.log(of.gradient[40] / of.gradient[400]) / math.log(own[400] / own[40])
    assert grown == pytest.approx(math.pi / (math.pi - 1), rel=0.005)


def test_tanh_grows_linearly_and_its_gradient_as_exp_root_depth() -> None:
    of = residual("tanh", 400, weight_var=1.0)
    steps = np.diff(of.q[[100, 200, 400]]) / [100, 200]
    assert np.all((steps > 0.8) & (steps < 1))
    logs = of.log_gradient[0] - of.log_gradient[[100, 400]]
    assert logs[1] / logs[0] == pytest.approx(2, rel=0.1)


def test_angles_of_relu() -> None:
    of = residual("relu", 2)
    # Half of the stream keeps c = 0, half gets C(0) = 1/pi.
    assert of.c[1] == pytest.approx(1 / (2 * math.pi), rel=1e-10)
    same = residual("relu", 5, c0=1.0)
    np.testing.assert_allclose(same.c, 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "norm", "placement", "layers"),
    [
        ("relu", None, "pre", 2),
        ("tanh", None, "pre", 1),
        ("relu", "layer", "pre", 1),
        ("gelu", "layer", "post", 1),
        ("relu", "batch", "pre", 1),
        ("tanh", "batch", "post", 1),
    ],
)
def test_random_networks(name, norm, placement, layers) -> None:
    """Lengths, angles and gradient energy of one wide network on a batch."""
    width, batch, depth = 900, 48, 5
    phi, random = activation(name), np.random.default_rng(0)
    of = residual(
        name, depth, norm=norm, placement=placement, layers_per_branch=layers, branch_scale=0.6
    )
    gain = 1 / math.sqrt(np.mean(phi.value(random.standard_normal(2_000_000)) ** 2))

    def normalize(x):
        if norm == "layer":
            mean, std = x.mean(axis=1, keepdims=True), x.std(axis=1, keepdims=True)
        else:
            mean, std = x.mean(axis=0), x.std(axis=0)
        z = (x - mean) / std
        axis = 1 if norm == "layer" else 0

        def back(g):
            m = g.mean(axis=axis, keepdims=True)
            return (g - m - z * (g * z).mean(axis=axis, keepdims=True)) / std

        return z, back

    def same(x):
        return x, lambda g: g

    x = random.standard_normal((batch, width))
    backs, lengths, angles = [], [], []
    for _ in range(depth):
        h, before = normalize(x) if norm and placement == "pre" else same(x)
        steps = []
        for _ in range(layers):
            w = random.standard_normal((width, width)) * gain / math.sqrt(width)
            steps.append((phi.slope(h), w))
            h = phi.value(h) @ w
        x, after = (normalize if norm and placement == "post" else same)(x + 0.6 * h)
        backs.append((before, steps, after))
        gram = x @ x.T / width
        lengths.append(np.trace(gram) / batch)
        angles.append((gram.sum() - np.trace(gram)) / (batch - 1) / np.trace(gram))
    g = random.standard_normal((batch, width))
    energies = [1.0]
    start = (g**2).mean()
    for before, steps, after in reversed(backs):
        g = after(g)
        branch = 0.6 * g
        for slope, w in reversed(steps):
            branch = branch @ w.T * slope
        g = g + before(branch)
        energies.append((g**2).mean() / start)
    # Width 900 and 48 examples: about 4 % for energies at this depth.
    np.testing.assert_allclose(lengths, of.q[1:], rtol=0.08)
    np.testing.assert_allclose(angles, of.c[1:], atol=0.05)
    np.testing.assert_allclose(energies[::-1], of.gradient, rtol=0.16)


def test_out_of_range_ends_early() -> None:
    of = residual("relu", 5000)
    assert len(of.q) < 5001
    assert "leaves the range" in of.reason
    assert np.isfinite(of.log_gradient).all()
    assert residual("relu", 10).reason == ""
    flat = residual("tanh", 10, branch_scale=0.0, norm="batch", placement="post", q0=1e-300)
    assert len(flat.q) == 1
    assert residual("tanh", 0).gradient.tolist() == [1.0]


def test_bad_arguments() -> None:
    for kwargs, match in (
        ({"norm": "group"}, "norm is"),
        ({"placement": "mid"}, "placement is"),
        ({"c0": 1.5}, "c0 is"),
        ({"norm": "batch", "c0": 1.0}, "c0 is"),
        ({"q0": 0.0}, "q0 is a finite number above 0"),
        ({"weight_var": -1.0}, "weight_var"),
        ({"layers_per_branch": 0}, "layers_per_branch"),
    ):
        with pytest.raises(InputError, match=match):
            residual("relu", 3, **kwargs)
    with pytest.raises(InputError, match="passes nothing"):
        residual(activation("hardshrink", lambd=60.0), 3)


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["relu", "tanh", "gelu", "softplus", "hardtanh", "sigmoid"]),
    norm=st.sampled_from([None, "batch", "layer"]),
    placement=st.sampled_from(["pre", "post"]),
    scale=st.floats(0, 100),
    q0=st.floats(1e-9, 1e9),
    c0=st.floats(0, 0.99),
)
def test_no_nan(name, norm, placement, scale, q0, c0) -> None:
    of = residual(name, 6, norm=norm, placement=placement, branch_scale=scale, q0=q0, c0=c0)
    for array in (of.q, of.c, of.block_growth, of.log_gradient):
        assert np.isfinite(array).all()
    assert len(of.q) == 7 or of.reason
