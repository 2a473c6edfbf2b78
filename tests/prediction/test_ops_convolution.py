"""Tests of convolutions: torch's own operation, written out over all entries and weights."""

import numpy as np
import pytest
import torch
from covariances import assert_moments, made, written_out
from hypothesis import given, settings
from hypothesis import strategies as st

from isograd.prediction.moments.known import independent
from isograd.prediction.propagation import Propagation

NAMES = {
    (1, False): torch.conv1d, (2, False): torch.conv2d, (3, False): torch.conv3d,
    (1, True): torch.conv_transpose1d, (2, True): torch.conv_transpose2d,
    (3, True): torch.conv_transpose3d,
}  # fmt: skip


def predicted(function, x, w, g, *args, **kwargs):
    """Fields of function(x, w) and, for a gradient of field `g`, of its gradients by x and w."""
    run = Propagation()
    a, b = run.abstract(x), run.abstract(w)
    with run:
        out = run.field_of(function(a, b, *args, **kwargs))
    run.backward([(out, g(out.shape))])
    return out, run.gradient_of(x), run.gradient_of(w)


def matrices(function, shape, weight, *args, **kwargs):
    """[weights, outputs, inputs]: the operation for every unit weight and unit input."""
    inputs = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
    units = torch.eye(int(np.prod(weight)), dtype=torch.float64).reshape(-1, *weight)
    found = []
    for unit in units:
        outputs = [function(x, unit, *args, **kwargs) for x in inputs]
        found.append(torch.stack([y.reshape(-1) for y in outputs], dim=1).numpy())
    return np.stack(found), outputs[0].shape


def check(rng, function, x, w, cuts_g, *args, **kwargs):
    """The rule against sums over all pairs of entries and of weights."""
    maps, shape = matrices(function, x.shape, w.shape, *args, **kwargs)
    made_g = []

    def gradient(found):
        assert found == tuple(shape)
        cuts = [cuts_g(size) for size in found if size > 1]
        one = made(rng, cuts, [int(size > 1) for size in found])
        made_g.append(one.like(one.second))
        return made_g[-1]

    out, to_x, to_w = predicted(function, x, w, gradient, *args, **kwargs)
    (cov_x, mean_x), (cov_w, mean_w) = written_out(x), written_out(w)
    cov_g, _ = written_out(made_g[0])
    both = np.einsum("aoi,ij,bpj,ab->op", maps, cov_x, maps, cov_w, optimize=True)
    mean = np.einsum("aoi,i,a->o", maps, mean_x, mean_w)
    assert_moments(out, both, mean)
    back = np.einsum("aoi,op,bpj,ab->ij", maps, cov_g, maps, cov_w, optimize=True)
    assert_moments(to_x, back, np.zeros(len(back)))
    weight = np.einsum("aoi,op,bpj,ij->ab", maps, cov_g, maps, cov_x, optimize=True)
    assert_moments(to_w, weight, np.zeros(len(weight)))


@st.composite
def geometries(draw, transposed):
    d = draw(st.sampled_from((1, 1, 2, 2, 3)))
    most = {1: 9, 2: 5, 3: 3}[d]
    groups, inner, outer = draw(
        st.sampled_from(((1, 1, 1), (1, 2, 3), (2, 2, 1), (3, 1, 2), (4, 1, 1)))
    )
    taps = [draw(st.integers(1, {1: 4, 2: 3, 3: 2}[d])) for _ in range(d)]
    stride = [draw(st.integers(1, 3)) for _ in range(d)]
    dilation = [draw(st.integers(1, 2)) for _ in range(d)]
    padding = [
        draw(st.integers(0, k * s - 1 if not transposed else 1))
        for k, s in zip(taps, dilation, strict=True)
    ]
    reach = [s * (k - 1) + 1 for k, s in zip(taps, dilation, strict=True)]
    if transposed:
        sizes = [draw(st.integers(1, 3)) for _ in range(d)]
        sizes = [
            max(n, 1 + -(-(2 * p + 1 - r) // s))
            for n, p, r, s in zip(sizes, padding, reach, stride, strict=True)
        ]
    else:
        sizes = [
            draw(st.integers(max(1, r - 2 * p), max(most, r)))
            for r, p in zip(reach, padding, strict=True)
        ]
    more = [draw(st.integers(0, max(s, a) - 1)) for s, a in zip(stride, dilation, strict=True)]
    return d, groups, inner, outer, taps, stride, padding, dilation, sizes, more


@pytest.mark.parametrize("transposed", [False, True])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_moments_of_output_and_gradients(transposed, data):
    d, groups, inner, outer, taps, stride, padding, dilation, sizes, more = data.draw(
        geometries(transposed)
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**20)))
    samples = data.draw(st.integers(1, 2))
    shape = (samples, groups * inner, *sizes)
    x = made(rng, [(n,) for n in shape if n > 1], [int(n > 1) for n in shape])
    weight = (groups * inner, outer, *taps) if transposed else (groups * outer, inner, *taps)
    w = independent(weight, data.draw(st.sampled_from((0.0, 0.7))), 0.4)
    args = (None, stride, padding)
    args = (*args, more, groups, dilation) if transposed else (*args, dilation, groups)
    check(rng, NAMES[d, transposed], x, w, whole, *args)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_classes_of_channels_and_positions(transposed, groups):
    rng = np.random.default_rng(3)
    channels = (3, 3) if groups == 2 else (2, 4)  # a class does not reach over groups
    x = made(rng, [(2,), channels, (1, 2, 2)], [1, 1, 1])
    weight = (6, 12 // groups, 3) if transposed else (12, 6 // groups, 3)
    w = independent(weight, 0.3, 0.8)
    args = (None, 2, 1, 0, groups) if transposed else (None, 1, 1, 1, groups)
    check(rng, NAMES[1, transposed], x, w, halves, *args)


def whole(size):
    return (size,)


def halves(size):
    return (size // 2, size - size // 2)


def test_channels_of_several_factors():
    rng = np.random.default_rng(4)
    x = made(rng, [(2,), (3,), (2,), (3,)], [1, 2, 1])
    check(rng, torch.conv1d, x, independent((2, 6, 2), 0.0, 0.8), halves)
    check(rng, torch.conv1d, x, independent((6, 2, 2), 0.1, 0.8), whole, None, 1, 0, 1, 3)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_named_padding(padding):
    rng = np.random.default_rng(5)
    x = made(rng, [(2,), (7,)], [0, 1, 1])
    args = (None, 1, padding, 2)
    check(rng, torch.conv1d, x, independent((3, 2, 2), 0.0, 0.8), halves, *args)


def test_no_axis_of_samples():
    rng = np.random.default_rng(6)
    x = made(rng, [(3,), (4,), (2,)], [1, 1, 1])
    check(rng, torch.conv2d, x, independent((2, 3, 2, 2), 0.5, 0.8), halves, None, 2, (1, 0))


def test_time_first():
    rng = np.random.default_rng(7)
    x = made(rng, [(5,), (2,), (3,)], [1, 1, 1])
    bias = torch.zeros(4)
    check(rng, torch.conv_tbc, x, independent((3, 3, 4), 0.5, 0.8), halves, bias, 1)


def test_bias():
    """Its moments are added, those of its gradient are sums over samples and positions."""
    rng = np.random.default_rng(8)
    x, w = made(rng, [(2,), (3,), (5,)], [1, 1, 1]), independent((4, 3, 3), 0.0, 0.5)
    bias = independent((4,), 0.2, 0.3)
    run = Propagation()
    with run:
        bare = run.field_of(torch.conv1d(run.abstract(x), run.abstract(w)))
        out = run.field_of(torch.conv1d(run.abstract(x), run.abstract(w), run.abstract(bias)))
    extra = bias.second[None, :, None]
    np.testing.assert_allclose(out.second, np.broadcast_to(bare.second + extra, out.second.shape))
    g = made(rng, [(2,), (4,), (3,)], [1, 1, 1])
    run.backward([(out, g.like(g.second))])
    second, _ = written_out(g)
    sums = np.kron(np.ones(2), np.kron(np.eye(4), np.ones(3)))
    assert_moments(run.gradient_of(bias), sums @ second @ sums.T, np.zeros(4))


def test_padding_put_around_is_padding():
    """An axis whose border is zero: the same as the operation's own padding, in one class."""
    run = Propagation()
    x, w = independent((2, 3, 6), 0.5, 0.8), independent((4, 3, 3), 0.0, 0.5)
    with run:
        a, b = run.abstract(x), run.abstract(w)
        own = run.field_of(torch.conv1d(a, b, None, 1, 1))
        around = run.field_of(torch.conv1d(torch.nn.functional.pad(a, (1, 1)), b))
    assert tuple(around.cuts[2]) == (6,)
    np.testing.assert_allclose(around.second, own.recut(around.cuts).second)
