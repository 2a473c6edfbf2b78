"""Tests of recurrent layers: torch's own, run in float64 over draws of weights and inputs."""

import math

import numpy as np
import pytest
import torch
from covariances import averaging
from torch import nn

import isograd
from isograd.errors import PredictionError
from isograd.prediction.moments.known import independent
from isograd.prediction.predicting import predict
from isograd.prediction.propagation import Propagation
from isograd.prediction.recurrent.gated import CELLS
from isograd.prediction.recurrent.recurrence import Laws, Start

CELL = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN, "rnn_relu": nn.RNN}
BATCH, STEPS, FEATURES, UNITS, DRAWS = 6, 9, 64, 192, 24


def drawn_inputs(common, size=2.0):
    """Inputs whose entries at two steps have a correlation `common`."""
    still, moving = torch.randn(BATCH, 1, FEATURES), torch.randn(BATCH, STEPS, FEATURES)
    return size * (math.sqrt(common) * still + math.sqrt(1 - common) * moving).double()


def input_field(common, size=2.0):
    f = independent((BATCH, STEPS, FEATURES), 0.0, size**2)
    second = f.second.copy()
    second[0, 1, 0] = common * size**2
    return f.like(second)


def layer(kind, **settings):
    if kind.startswith("rnn_"):
        settings["nonlinearity"] = kind.removeprefix("rnn_")
    return CELL[kind](FEATURES, UNITS, batch_first=True, **settings).double()


def pairs_of_steps(x):
    """(2, T, T): E x_t x_s of a tensor (batch, time, units), of one sample and of two."""
    n = x.shape[0]
    same = torch.einsum("btu,bsu->ts", x, x) / (n * x.shape[2])
    every = torch.einsum("btu,asu->ts", x, x) / x.shape[2]
    return torch.stack([same, (every - n * same) / (n * (n - 1))]).numpy()


def measured(kind, common, probe, starts, **settings):
    """Averages over draws of pairs of steps and of gradients' energies."""
    outs, slopes, weights, first = [], [], [], []
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        net = layer(kind, **settings)
        x = drawn_inputs(common).requires_grad_()
        hx = starts(kind, net)
        out, _ = net(x, hx)
        given = list(hx) if isinstance(hx, tuple) else [] if hx is None else [hx]
        found = torch.autograd.grad((out * probe(out.shape)).sum(), [x, *given, *net.parameters()])
        outs.append(pairs_of_steps(out.detach()))
        slopes.append(pairs_of_steps(found[0]))
        first.append([float(g.square().mean()) for g in found[1 : 1 + len(given)]])
        weights.append([float(g.square().mean()) for g in found[1 + len(given) :]])
    return [np.mean(one, axis=0) for one in (outs, slopes, weights, first)]


def last_step(shape):
    probe = torch.zeros(shape, dtype=torch.float64)
    probe[:, -1] = torch.randn(probe[:, -1].shape)
    return probe


def every_step(shape):
    return torch.randn(shape, dtype=torch.float64)


def probe_field(probe, shape):
    if probe is every_step:
        return independent(shape, 0.0, 1.0)
    f = independent(shape, 0.0, 0.0).recut(((BATCH,), (STEPS - 1, 1), (shape[2],)))
    second = f.second.copy()
    second[0, 1, 0] = 1.0
    return f.like(second)


def no_start(kind, net):
    return None


def random_start(kind, net):
    shape = (net.num_layers * (2 if net.bidirectional else 1), BATCH, UNITS)
    h, c = (torch.randn(shape, dtype=torch.float64).requires_grad_() for _ in range(2))
    return (h, c) if kind == "lstm" else h


def predicted(kind, common, probe, starts, **settings):
    torch.manual_seed(0)
    net, run = layer(kind, **settings), Propagation()
    source = input_field(common)
    x = run.abstract(source, torch.float64)
    hx, given = None, []
    if starts is random_start:
        shape = (net.num_layers * (2 if net.bidirectional else 1), BATCH, UNITS)
        given = [independent(shape, 0.0, 1.0) for _ in range(2 if kind == "lstm" else 1)]
        made = [run.abstract(f, torch.float64) for f in given]
        hx = tuple(made) if kind == "lstm" else made[0]
    with torch.no_grad(), run:
        out, _ = net(x, hx)
        field = run.field_of(out)
    run.backward([(field, probe_field(probe, field.shape))])
    weights = [run.gradient_of(run.parameter_field(p)).energy for p in net.parameters()]
    first = [run.gradient_of(f).energy for f in given]
    return field, run.gradient_of(source), weights, first


def per_kind(field, pairs):
    """(2, T, T) averaged over the kinds of pairs that a field tells apart."""
    cut = field.cuts[1]
    return np.tensordot(pairs, averaging(cut), ([1, 2], [1, 2]))


SCENES = [
    ("lstm", 0.0, last_step, no_start, {}),
    ("lstm", 0.6, every_step, random_start, {}),
    ("lstm", 0.9, last_step, no_start, {"num_layers": 2}),
    ("lstm", 0.3, every_step, no_start, {"bidirectional": True}),
    ("gru", 0.0, last_step, no_start, {}),
    ("gru", 0.6, every_step, random_start, {}),
    ("gru", 0.9, last_step, no_start, {"num_layers": 2}),
    ("gru", 0.3, every_step, no_start, {"bias": False}),
    ("rnn_tanh", 0.5, last_step, random_start, {"num_layers": 2, "bidirectional": True}),
    ("rnn_tanh", 0.9, every_step, no_start, {"num_layers": 2, "dropout": 0.3}),
    ("rnn_relu", 0.5, every_step, no_start, {}),
]


@pytest.mark.parametrize(("kind", "common", "probe", "starts", "settings"), SCENES)
def test_layers_agree_with_draws(kind, common, probe, starts, settings):
    found = measured(kind, common, probe, starts, **settings)
    given = predicted(kind, common, probe, starts, **settings)
    energy = np.diagonal(found[0][0]).mean()
    second = given[0].second[..., : len(given[0].cuts[2])].mean(axis=-1)  # of both directions
    np.testing.assert_allclose(second, per_kind(given[0], found[0]), atol=0.05 * energy)
    slope = per_kind(given[1], found[1])
    most = np.abs(slope).max()
    np.testing.assert_allclose(given[1].second[..., 0], slope, rtol=0.05, atol=0.08 * most)
    np.testing.assert_allclose(given[2], found[2], rtol=0.25)  # biases: few entries, many draws
    np.testing.assert_allclose(given[3], found[3], rtol=0.12)


# -- the limit of many units -------------------------------------------------------------------


def limit(kind, inputs):
    laws = Laws(100, 0.0, 0.01, np.zeros((2, CELLS[kind].gates)), np.zeros((2, CELLS[kind].gates)))
    nothing = Start(np.zeros(2))
    cell = CELLS[kind](laws, inputs, np.zeros(inputs.shape[-1]), nothing, nothing)
    cell.walk()
    return cell


def test_relu_agrees_with_the_arc_cosine_kernel():
    """Cho & Saul 2009: E relu(u) relu(v) = s (sin t + (pi - t) cos t) / (2 pi)."""
    steps, inputs = 6, np.zeros((2, 6, 6))
    inputs[0], inputs[1] = 0.4 + 0.8 * np.eye(steps), 0.3
    found, _ = limit("rnn_relu", inputs).outputs()
    state = np.zeros((2, steps + 1, steps + 1))
    for t in range(1, steps + 1):
        for s in range(1, t + 1):
            for kind in (0, 1):
                # E h h' of a hundred units times the weights' variance 0.01: one
                a, b = (inputs[0, k - 1, k - 1] + state[0, k - 1, k - 1] for k in (t, s))
                c = inputs[kind, t - 1, s - 1] + state[kind, t - 1, s - 1]
                angle = math.acos(min(1.0, c / math.sqrt(a * b)))
                value = math.sin(angle) + (math.pi - angle) * math.cos(angle)
                value *= math.sqrt(a * b) / (2 * math.pi)
                state[kind, t, s] = state[kind, s, t] = value
    np.testing.assert_allclose(found, state[:, 1:, 1:], rtol=2e-3)


@pytest.mark.parametrize("kind", CELLS)
def test_the_limit_is_one_unit_by_monte_carlo(kind):
    """Units drawn from the Gaussian process itself, step by step, for two samples."""
    steps, units = 7, 40_000
    inputs = np.zeros((2, steps, steps))
    inputs[0], inputs[1] = 1.0 + 1.5 * np.eye(steps), 0.7
    found, _ = limit(kind, inputs).outputs()
    torch.manual_seed(3)
    cov = np.block([[inputs[0], inputs[1]], [inputs[1], inputs[0]]])
    root = torch.from_numpy(np.linalg.cholesky(cov + 1e-12 * np.eye(2 * steps)))
    gates = CELLS[kind].gates
    x = (torch.randn(gates, units, 2 * steps, dtype=torch.float64) @ root.T).unflatten(-1, (2, -1))
    h = simulated(kind, x)
    same = torch.einsum("uat,uas->ts", h, h) / (2 * units)
    other = torch.einsum("ut,us->ts", h[:, 0], h[:, 1]) / units
    other = (other + other.T) / 2
    wanted = torch.stack([same, other]).numpy()
    np.testing.assert_allclose(found, wanted, atol=0.04 * np.diagonal(wanted[0]).mean())


def simulated(kind, x):
    """States (units, 2, steps): recurrent arguments are Gaussian with the units' own covariance."""
    gates, units, _, steps = x.shape
    h, memory = torch.zeros(units, 2, 0, dtype=x.dtype), torch.zeros(units, 2, dtype=x.dtype)
    fed = torch.zeros(gates, units, 2, 0, dtype=x.dtype)
    for t in range(steps):
        fed = torch.cat([fed, _next(h, fed)[..., None]], dim=-1)
        a = x[..., t] + fed[..., t]
        before = h[..., -1] if t else torch.zeros_like(memory)
        if kind == "lstm":
            i, f, g, o = a.sigmoid()[0], a.sigmoid()[1], a[2].tanh(), a.sigmoid()[3]
            memory = f * memory + i * g
            new = o * memory.tanh()
        elif kind == "gru":
            r, z = a.sigmoid()[:2]
            new = (1 - z) * (x[2, ..., t] + r * fed[2, ..., t]).tanh() + z * before
        else:
            new = a[0].tanh() if kind == "rnn_tanh" else a[0].relu()
        h = torch.cat([h, new[..., None]], dim=-1)
    return h


def _next(h, fed):
    """Arguments of the next step from the state so far, given those of the steps before."""
    gates, units, _, steps = fed.shape
    if not steps:
        return torch.zeros(gates, units, 2, dtype=fed.dtype)
    # The state that entered step k is h of step k - 1; that of step 0 is nothing.
    states = torch.cat([torch.zeros_like(h[..., :1]), h], dim=-1).flatten(1)  # (units, 2 (T + 1))
    cov = states.T @ states / units
    at = torch.arange(2 * (steps + 1)).reshape(2, -1)
    new, old = at[:, -1], at[:, :-1].flatten()
    inner = torch.linalg.pinv(cov[old][:, old])
    map_ = cov[new][:, old] @ inner
    left = cov[new][:, new] - map_ @ cov[old][:, new]
    values, vectors = torch.linalg.eigh(left)
    root = vectors * values.clamp(min=0).sqrt()
    fresh = torch.randn(gates, units, 2, dtype=fed.dtype) @ root.T
    return fed.flatten(2) @ map_.T + fresh


def numbers(record):
    return [
        record.series["forward.rms"][0],
        record.series["backward.rms"][0],
        *record.series["weight.grad_rms"],
    ]


# -- calls -------------------------------------------------------------------------------------


def test_two_layers_are_two_modules():
    class Apart(nn.Module):
        def __init__(self, both):
            super().__init__()
            self.first, self.second = nn.LSTM(16, 40), nn.LSTM(40, 40)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                setattr(self.first, f"{name}_l0", getattr(both, f"{name}_l0"))
                setattr(self.second, f"{name}_l0", getattr(both, f"{name}_l1"))

        def forward(self, x):
            return self.second(self.first(x)[0])[0]

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.LSTM(16, 40, 2)

        def forward(self, x):
            return self.inner(x)[0]

    torch.manual_seed(0)
    both, x = Both(), torch.randn(12, 3, 16)
    one, two = predict(both, x), predict(Apart(both.inner), x)
    assert one.series["forward.rms"][-1] == pytest.approx(two.series["forward.rms"][-1], rel=1e-9)
    given = dict(zip([p.name for p in one.parameters], one.series["weight.grad_rms"], strict=True))
    found = dict(zip([p.name for p in two.parameters], two.series["weight.grad_rms"], strict=True))
    assert found["first.weight_hh_l0"] == pytest.approx(given["inner.weight_hh_l0"], rel=1e-9)
    assert found["second.weight_ih_l0"] == pytest.approx(given["inner.weight_ih_l1"], rel=1e-9)


@pytest.mark.parametrize(
    ("cell", "layer_of"), [(nn.LSTMCell, nn.LSTM), (nn.GRUCell, nn.GRU), (nn.RNNCell, nn.RNN)]
)
def test_a_cell_is_a_layer_of_one_step(cell, layer_of):
    torch.manual_seed(0)
    one = cell(16, 40)
    many = layer_of(16, 40, batch_first=True)
    many.load_state_dict({f"{key}_l0": value for key, value in one.state_dict().items()})
    x = torch.randn(5, 16)
    a, b = predict(one, x), predict(many, x[:, None])
    assert a.series["forward.rms"][0] == pytest.approx(b.series["forward.rms"][0], rel=1e-9)


@pytest.mark.parametrize("shape", [(1, 7, 16), (5, 1, 16), (1, 1, 16), (7, 16)])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_axes_of_length_one(cell, shape):
    torch.manual_seed(0)
    net = cell(16, 24, bidirectional=True, batch_first=True)
    record = predict(net, torch.randn(shape))
    assert all(math.isfinite(value) and value > 0 for value in numbers(record)[:2])


def test_one_unit_and_one_feature():
    record = predict(nn.GRU(1, 1), torch.randn(6, 3, 1))
    assert all(math.isfinite(value) for value in numbers(record))


def test_gates_that_start_differently_are_told_apart():
    torch.manual_seed(0)
    plain, remembering = nn.LSTM(32, 128, batch_first=True), nn.LSTM(32, 128, batch_first=True)
    with torch.no_grad():
        remembering.bias_ih_l0[128:256] += 2.0
    x = torch.randn(8, 40, 32)
    for net in (plain, remembering):
        found = predict(net, x).series["forward.rms"][0]
        assert found == pytest.approx(isograd.measure(net, x).series["forward.rms"][0], rel=0.04)


def test_packed_sequences_are_refused():
    class Packing(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.LSTM(16, 24, batch_first=True)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
            return self.inner(packed)[1][0]

    with pytest.raises(PredictionError, match="sequences of different lengths"):
        predict(Packing(), torch.randn(2, 5, 16))


def test_projected_states_are_refused():
    with pytest.raises(PredictionError, match="proj_size"):
        predict(nn.LSTM(16, 24, proj_size=8), torch.randn(5, 2, 16))
