"""Tests of many steps: long sequences, cells called in loops, loops written out by hand."""

import gc
import math
import time

import numpy as np
import pytest
import torch
from torch import nn

import isograd
from isograd.errors import PredictionError
from isograd.prediction.backward import twins
from isograd.prediction.moments.known import independent
from isograd.prediction.moments.parts import few_classes
from isograd.prediction.predicting import predict
from isograd.prediction.recurrent import timeline
from isograd.prediction.recurrent.timeline import Timeline, steps_of
from isograd.prediction.tracing import trace


def numbers(record):
    return [
        record.series["forward.rms"][0],
        record.series["backward.rms"][0],
        *record.series["weight.grad_rms"],
    ]


class Loop(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.width = width
        self.inner, self.state = nn.Linear(16, width), nn.Linear(width, width)

    def forward(self, x):
        h = x.new_zeros(x.shape[0], self.width)
        for t in range(x.shape[1]):
            h = torch.tanh(self.inner(x[:, t]) + self.state(h))
        return h


class Gated(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.width = width
        self.inner, self.state = nn.Linear(16, 4 * width), nn.Linear(width, 4 * width)

    def forward(self, x):
        h = x.new_zeros(x.shape[0], self.width)
        c = torch.zeros_like(h)
        for t in range(x.shape[1]):
            i, f, g, o = (self.inner(x[:, t]) + self.state(h)).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h


class Cells(nn.Module):
    def __init__(self, cell, width=128):
        super().__init__()
        self.cell = cell(16, width)

    def forward(self, x):
        state = None
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return state[0] if isinstance(state, tuple) else state


def averages(build, steps, seeds=12):
    """Root mean energies over draws: forward and backward by site, and of weights' gradients."""
    kept = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        record = isograd.measure(build(), torch.randn(16, steps, 16), seed=seed)
        keys = ("forward.rms", "backward.rms", "weight.grad_rms")
        kept.append([np.array(record.series[key], dtype=float) for key in keys])
    return [np.sqrt(np.square(column).mean(axis=0)) for column in zip(*kept, strict=True)]


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_loops_of_cells_are_layers(cell):
    """Twelve steps back the gradient has fallen a hundredfold; it is right all the way."""
    steps = 12
    forward, backward, weights = averages(lambda: Cells(cell), steps)
    torch.manual_seed(100)
    found = predict(Cells(cell), torch.randn(16, steps, 16))
    np.testing.assert_allclose(found.series["forward.rms"], forward, rtol=0.05)
    np.testing.assert_allclose(found.series["backward.rms"], backward, rtol=0.2)
    np.testing.assert_allclose(found.series["weight.grad_rms"][:2], weights[:2], rtol=0.1)


def test_a_cell_called_anew_begins_a_new_chain():
    """Two loops of one cell over different inputs, added: the weights gather both."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(16, 64)

        def forward(self, x, times):
            total = 0
            for part in range(times):
                h = None
                for t in range(4):
                    h = self.cell(x[:, 4 * part + t], h)
                total = total + h
            return total

    torch.manual_seed(0)
    net, x = Twice(), torch.randn(8, 8, 16)
    one, two = (numbers(predict(net, {"x": x, "times": times})) for times in (1, 2))
    assert one[0] == pytest.approx(two[0], rel=0.02)
    assert 1.2 * one[2] < two[2] < 2.1 * one[2]


@pytest.mark.parametrize(("build", "slack"), [(Loop, 0.1), (Gated, 0.35)])
def test_loops_written_by_hand(build, slack):
    """Ordinary operations: shared weights gather the gradients of all steps."""
    forward, _, weights = averages(build, 6)
    torch.manual_seed(100)
    found = predict(build(), torch.randn(16, 6, 16))
    assert found.series["forward.rms"][-1] == pytest.approx(forward[-1], rel=max(0.05, slack / 3))
    gathered = [found.series["weight.grad_rms"][place] for place in (0, 2)]
    np.testing.assert_allclose(gathered, weights[[0, 2]], rtol=slack)


def test_a_cell_goes_on_where_memory_runs_out():
    """More steps than a chain first has room for: the same as a layer of as many."""
    torch.manual_seed(0)
    cell, layer = Cells(nn.LSTMCell, 48), nn.LSTM(16, 48)
    for key, value in cell.cell.state_dict().items():
        layer.state_dict()[f"{key}_l0"].copy_(value)
    x = torch.randn(8, 21, 16)
    one, two = predict(cell, x), predict(layer, x.transpose(0, 1))
    squares = np.square(one.series["forward.rms"])
    assert math.sqrt(squares.mean()) == pytest.approx(two.series["forward.rms"][0], rel=0.02)


def test_states_that_are_worked_on_between_steps_begin_anew():
    """Nothing is carried over behind the back of an operation that changes the state."""

    class Scaled(Cells):
        def forward(self, x):
            state = None
            for t in range(x.shape[1]):
                state = self.cell(x[:, t], None if state is None else 0.5 * state)
            return state

    forward, backward, _ = averages(lambda: Scaled(nn.RNNCell), 4)
    torch.manual_seed(100)
    found = predict(Scaled(nn.RNNCell), torch.randn(16, 4, 16))
    np.testing.assert_allclose(found.series["forward.rms"], forward, rtol=0.05)
    np.testing.assert_allclose(found.series["backward.rms"], backward, rtol=0.15)


class Reader(nn.Module):
    def __init__(self, cell, *, last=True, **settings):
        super().__init__()
        self.inner = cell(16, 48, batch_first=True, **settings)
        self.head, self.last = nn.Linear(48, 4), last

    def forward(self, x):
        out = self.inner(x)[0]
        return self.head(out[:, -1] if self.last else out)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("last", [True, False])
def test_long_sequences_are_cut_short_without_harm(cell, last, monkeypatch):
    torch.manual_seed(0)
    net, x = Reader(cell, last=last), torch.randn(3, 250, 16)
    short = numbers(predict(net, x))
    monkeypatch.setattr(timeline, "WALKED", 10_000)
    np.testing.assert_allclose(short, numbers(predict(net, x)), rtol=3e-3)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_thousands_of_steps(cell):
    torch.manual_seed(0)
    net, x = Reader(cell), torch.randn(2, 5000, 16)
    began = time.process_time()
    found = numbers(predict(net, x))
    assert time.process_time() - began < 2.0
    short = numbers(predict(net, x[:, -300:]))
    assert found[0] == pytest.approx(short[0], rel=0.02)
    np.testing.assert_allclose(found[2:], short[2:], rtol=0.05)


def test_counted_pairs_are_those_of_the_whole_sequence():
    """A stationary covariance with memory: sums over all pairs."""
    whole = Timeline.of((300,), 200)
    line = Timeline.of((300,), 51)
    assert whole.exact
    assert not line.exact
    assert line.weights.sum() == 300

    def matrix(at):
        return 0.2 + 0.8 ** np.abs(np.subtract.outer(at, at))

    reduced = matrix(np.arange(len(line.at)))
    total = line.counted(reduced[None]).sum()
    assert total == pytest.approx(matrix(whole.at).sum(), rel=1e-2)


@pytest.mark.parametrize("cut", [(100, 200), (5, 290, 5), (300,)])
def test_classes_of_long_sequences_come_back(cut):
    f = independent((4, 300, 8), 0.3, 1.0).recut(((4,), cut, (8,)))
    second = f.second.copy()
    second[:, : len(cut)] *= 1.0 + np.arange(len(cut))[None, :, None]
    f = f.like(second, f.mean)
    line = Timeline.of(cut, 32)
    second, mean = steps_of(f, line)
    back = timeline.field_of([(second[0], mean[0])], line, 4, 8, (0, 1, 2))
    assert back.shape == f.shape
    assert back.energy == pytest.approx(f.energy, rel=1e-9)
    assert back.average == pytest.approx(f.average, rel=1e-9)


def smooth(batch, steps, features, share=0.8):
    x = torch.randn(batch, steps, features)
    for t in range(1, steps):
        x[:, t] = share * x[:, t - 1] + math.sqrt(1 - share**2) * x[:, t]
    return x


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_inputs_whose_neighbours_are_alike(cell):
    """Memory sums what neighbouring steps have in common: a third more than of other inputs."""
    kept = []
    for seed in range(24):
        torch.manual_seed(seed)
        net = Reader(cell)
        kept.append(numbers(isograd.measure(net, smooth(8, 40, 16), seed=seed)))
    torch.manual_seed(100)
    net, x = Reader(cell), smooth(8, 40, 16)
    found, shuffled = numbers(predict(net, x)), numbers(predict(net, x[:, torch.randperm(40)]))
    wanted = np.sqrt(np.square(kept).mean(axis=0))
    np.testing.assert_allclose(found[:2], wanted[:2], rtol=0.06)
    np.testing.assert_allclose(found[2:4], wanted[2:4], rtol=0.15)  # few samples, one read step
    assert found[0] > 1.15 * shuffled[0]


class Gated(nn.Module):
    """A GRU, written by hand."""

    def __init__(self, units):
        super().__init__()
        self.read, self.again = nn.Linear(units, 3 * units), nn.Linear(units, 3 * units)

    def forward(self, x):
        h = x.new_zeros(x.shape[0], x.shape[2])
        for step in x.unbind(1):
            (a, b, c), (p, q, r) = self.read(step).chunk(3, -1), self.again(h).chunk(3, -1)
            z = torch.sigmoid(a + p)
            h = (1 - z) * torch.tanh(c + r * torch.sigmoid(b + q)) + z * h
        return h


def test_a_long_loop_by_hand_is_followed_to_its_first_step():
    """Over 60,000 pairs, which once were the limit: the gradient was 6 times too small."""
    x = torch.randn(8, 20, 48)
    record = predict(lambda: Gated(48), x)
    at = [site.name for site in record.sites].index("again#2")
    found = []
    for seed in range(8):
        torch.manual_seed(seed)
        found.append(
            isograd.measure(Gated(48), torch.randn_like(x), seed=seed).series["backward.rms"][at]
        )
    error = math.log(record.value("backward.rms", at) / np.sqrt(np.mean(np.square(found))))
    assert abs(error) < 2 * record.value("backward.band", at)
    assert abs(error) < 0.6


def test_what_is_not_followed_has_a_wide_band_and_is_told(monkeypatch):
    x = torch.randn(4, 6, 16)
    whole = predict(lambda: Gated(16), x)
    monkeypatch.setattr(twins, "_MOST", 50)
    record = predict(lambda: Gated(16), x)
    assert min(band for band in record.series["backward.band"] if band is not None) >= 1.5
    assert any("the rest counts as independent" in note for note in record.notes)
    assert not any("the rest counts as independent" in note for note in whole.notes)
    assert max(band for band in whole.series["backward.band"] if band is not None) < 0.5


def test_gradients_of_unlike_steps_are_not_looked_for():
    """Behind another number of products nothing is in common: a pair of steps costs nothing."""
    looked = []
    for steps in (8, 24):
        found = trace(Loop(16), torch.randn(4, steps, 16))
        looked.append(twins._MOST - found.run.twins._left)
        assert found.run.twins.found
    assert looked[1] < 3.5 * looked[0]


def test_gradients_of_many_steps_take_few_moments():
    whole = independent((4, 60, 8), 0.0, 1.0).recut(((4,), (1,) * 60, (8,)))
    second = whole.second.copy()
    second[:, :60] *= 1.0 + np.arange(60)[None, :, None] ** 2
    few = few_classes(whole.like(second))
    assert few.second.size < second.size / 4
    assert few.energy == pytest.approx(whole.like(second).energy, rel=1e-12)
    small = independent((40, 8), 0.0, 1.0).recut(((1,) * 40, (8,)))
    assert few_classes(small) is small


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_found(enabled):
    states = []

    class Net(nn.Linear):
        def forward(self, x):
            states.append(gc.isenabled())
            if x.shape[0] > 4:
                raise ValueError
            return super().forward(x)

    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        predict(Net(2, 2), torch.ones(3, 2))
        assert gc.isenabled() is enabled
        with pytest.raises(PredictionError):
            predict(Net(2, 2), torch.ones(5, 2))
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was else gc.disable)()
    assert states == [False, False]


class Decaying(nn.Module):
    """A state that decays and adds up what comes in, read at all steps."""

    def __init__(self, drawn):
        super().__init__()
        self.first, self.last = nn.Linear(16, 64, bias=False), nn.Linear(64, 4, bias=False)
        self.rate = nn.Parameter(-torch.rand(64)) if drawn else None

    def forward(self, x):
        u = self.first(x)
        state, states = torch.zeros_like(u[:, 0]), []
        for step in range(x.shape[1]):
            decay = 0.6 if self.rate is None else torch.exp(self.rate)
            state = decay * state + u[:, step]
            states.append(state)
        return self.last(torch.stack(states, 1).mean(1))


def test_states_that_decay_have_their_steps_in_common():
    """As if independent, all but the first output would be half as large."""
    inputs = torch.randn(8, 20, 16, generator=torch.Generator().manual_seed(1))
    record = isograd.predict(lambda: Decaying(drawn=False), inputs)
    for column in ("forward.rms", "backward.rms", "weight.grad_rms"):
        drawn = []
        for seed in range(40):
            torch.manual_seed(seed)
            drawn.append(isograd.measure(Decaying(drawn=False), inputs, seed=seed).series[column])
        truth = np.sqrt(np.mean(np.square(np.array(drawn, dtype=float)), axis=0))
        assert np.array(record.series[column]) == pytest.approx(truth, rel=0.12), column
    assert not any("drawn anew" in note for note in record.notes)


def test_random_decays_are_told():
    record = isograd.predict(lambda: Decaying(drawn=True), torch.randn(8, 20, 16))
    assert sum("drawn anew" in note for note in record.notes) == 1
