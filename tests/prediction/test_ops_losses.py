"""Tests of losses: softmax over classes, equal targets, where a prediction's backward starts."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import isograd
from isograd.errors import LossError, PredictionError
from isograd.prediction.functions.classes import agreement, log_of_sum, participation
from isograd.prediction.predicting import predict
from isograd.prediction.tracing import trace


def softmax(x):
    return np.exp(x - x.max(-1, keepdims=True)) / np.exp(x - x.max(-1, keepdims=True)).sum(
        -1, keepdims=True
    )


@pytest.mark.parametrize(("number", "variance"), [(2, 1.0), (10, 0.04), (10, 9.0), (1000, 4.0)])
def test_sums_over_classes_agree_with_draws(number, variance):
    x = np.random.default_rng(0).normal(size=(4000, number)) * math.sqrt(variance)
    square = np.square(softmax(x)).sum(-1)
    level = np.log(np.exp(x).sum(-1))
    found = float(participation(np.array(variance), np.array(variance), number))
    assert abs(found - square.mean()) < 5 * square.std() / math.sqrt(len(x)) + 1e-6
    assert abs(log_of_sum(variance, number) - level.mean()) < 5 * level.std() / math.sqrt(len(x))


@pytest.mark.parametrize("number", [3, 10, 1000])
@pytest.mark.parametrize("deviation", [15.0, 17.0, 120.0, 1e4])
def test_huge_logits_leave_one_class_but_for_ties(number, deviation):
    x = np.random.default_rng(3).normal(size=(20_000 if number < 100 else 3_000, number))
    x *= deviation
    most = x.max(-1, keepdims=True)
    rare = 1 - np.square(softmax(x - most)).sum(-1)
    level = np.log(np.exp(x - most).sum(-1)) + most[:, 0]
    found = 1 - float(participation(np.array(deviation**2), np.array(deviation**2), number))
    assert abs(found - rare.mean()) < 5 * rare.std() / math.sqrt(len(x))
    assert log_of_sum(deviation**2, number) == pytest.approx(level.mean(), rel=0.02)


def test_equal_logits_are_uniform():
    assert participation(np.zeros(()), np.zeros(()), 7) == pytest.approx(1 / 7, abs=1e-12)
    assert log_of_sum(0.0, 7) == pytest.approx(math.log(7), abs=1e-6)


@pytest.mark.parametrize("variance", [0.1, 2.0, 9.0])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_two_rows_share_what_their_logits_share(share, variance):
    rng, number = np.random.default_rng(1), 10
    common = rng.normal(size=(20_000, number)) * math.sqrt(variance * share)
    a, b = (
        softmax(common + rng.normal(size=common.shape) * math.sqrt(variance * (1 - share)))
        for _ in range(2)
    )
    found = float(participation(np.array(variance * share), np.array(variance), number))
    assert found == pytest.approx((a * b).sum(-1).mean(), rel=0.04)


@pytest.mark.parametrize("cuts", [((4,), (6,)), ((4,), (2, 4)), ((1, 3), (6,))])
def test_agreement_counts_pairs(cuts):
    rng = np.random.default_rng(2)
    ids, weights = rng.integers(0, 3, (4, 6)), rng.integers(0, 3, (4, 6)).astype(float)
    found = agreement(ids, weights, cuts)
    ways = [len(cut) + len(cut) ** 2 for cut in cuts]
    assert found.shape == tuple(ways)
    both = np.zeros((2, 2, 2))
    for i in np.ndindex(4, 6):
        for j in np.ndindex(4, 6):
            pair = int(i[0] != j[0]), int(i[1] != j[1])
            both[pair] += np.array([ids[i] == ids[j], 1.0]) * weights[i] * weights[j]
    expected = both[..., 0] / both[..., 1]
    last = len(cuts[0]) + len(cuts[0]) ** 2 - 1, ways[1] - 1
    assert found[0, 0] == pytest.approx(expected[0, 0])
    assert found[last] == pytest.approx(expected[1, 1])
    assert found[last[0], 0] == pytest.approx(expected[1, 0])
    assert found[-1, -1] == pytest.approx(expected[1, 1])


def network(classes=10, *tail):
    return nn.Sequential(nn.Linear(32, 96), nn.Tanh(), nn.Linear(96, classes), *tail)


def measured(build, batch, loss=None, seeds=20):
    """Root mean energies of backward.rms at the last site, and of the last weight's gradient."""
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        record = isograd.measure(build(), batch(), loss, seed=seed)
        weights = [
            grad
            for grad, one in zip(record.series["weight.grad_rms"], record.parameters, strict=True)
            if one.name.endswith("weight")
        ]
        found.append((record.series["backward.rms"][0], weights[0], weights[-1]))
    return np.sqrt(np.square(found).mean(axis=0))


def predicted(build, batch, loss=None):
    torch.manual_seed(1000)
    record = predict(build(), batch(), loss=loss)
    weights = [
        grad
        for grad, one in zip(record.series["weight.grad_rms"], record.parameters, strict=True)
        if one.name.endswith("weight")
    ]
    return record.series["backward.rms"][0], weights[0], weights[-1]


def labelled(classes=10):
    return torch.randn(64, 32), torch.randint(0, classes, (64,))


CASES = {
    "cross_entropy": (network, labelled, None),
    "log_softmax": (lambda: network(10, nn.LogSoftmax(-1)), labelled, None),
    "mse": (network, lambda: (torch.randn(64, 32), torch.randn(64, 10)), None),
    "l1": (network, lambda: (torch.randn(64, 32), torch.randn(64, 10)), F.l1_loss),
    "bits": (
        lambda: network(5),
        lambda: (torch.randn(64, 32), (torch.rand(64, 5) < 0.3).float()),
        F.binary_cross_entropy_with_logits,
    ),
    "sigmoid": (
        lambda: network(5, nn.Sigmoid()),
        lambda: (torch.randn(64, 32), (torch.rand(64, 5) < 0.5).float()),
        None,
    ),
    "own formula": (
        network,
        lambda: (torch.randn(64, 32), torch.randn(64, 10)),
        lambda out, goal: ((out - goal) ** 2).sum(-1).mean() + 0.1 * out.abs().mean(),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_a_network_agree_with_measurement(name):
    build, batch, loss = CASES[name]
    given, found = predicted(build, batch, loss), measured(build, batch, loss)
    np.testing.assert_allclose(given, found, rtol=0.1)


def test_equal_targets_pull_together():
    """All samples of one class: gradients of a weight add up instead of cancelling."""
    apart = predicted(network, labelled)[2]
    same = predicted(network, lambda: (torch.randn(64, 32), torch.zeros(64, dtype=torch.long)))[2]
    assert same > 1.5 * apart


class Labelled(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x, labels):
        logits = self.inner(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class Number(Labelled):
    def forward(self, x, labels):
        return super().forward(x, labels)["loss"]


@pytest.mark.parametrize("kind", [Labelled, Number])
def test_the_models_own_loss_is_taken(kind):
    torch.manual_seed(0)
    model, (x, labels) = kind(), labelled()
    own = predict(model, {"x": x, "labels": labels})
    other = predict(model.inner, (x, labels), loss=F.cross_entropy)
    assert own.series["backward.rms"] == pytest.approx(other.series["backward.rms"])


def test_which_loss_is_meant_is_told():
    x, labels = labelled()
    assert trace(network(), (x, labels)).loss_name == "cross_entropy"
    assert trace(network(10, nn.LogSoftmax(-1)), (x, labels)).loss_name == "nll_loss"
    assert trace(network(10, nn.Softmax(-1)), (x, labels)).loss_name == "nll_loss of the log"
    assert trace(network(1, nn.Sigmoid()), (x, labels % 2)).loss_name == "binary_cross_entropy"
    one_logit = trace(network(1), (x, labels % 2)).loss_name
    assert one_logit == "binary_cross_entropy_with_logits"
    assert trace(network(), x).loss_name == "random probes"


def test_value_of_the_loss():
    """Small logits: ln 10."""
    run = trace(network(), labelled()).run
    assert run.steps[-1].outputs[0].average == pytest.approx(math.log(10), rel=0.02)


def test_a_loss_that_raises_is_told_by_name():
    def broken(out, goal):
        raise ValueError("no such thing")

    with pytest.raises(LossError, match="broken raised ValueError: no such thing"):
        predict(network(), labelled(), loss=broken)


def test_a_loss_that_needs_values_is_refused():
    with pytest.raises(PredictionError, match=r"item\(\)"):
        predict(network(), labelled(), loss=lambda out, goal: out.mean().item())


def test_a_loss_of_several_numbers_is_refused():
    with pytest.raises(LossError, match="one real number"):
        predict(network(), labelled(), loss=lambda out, goal: out.sum(-1))


def test_a_loss_without_the_outputs_gives_no_gradient():
    record = predict(network(), labelled(), loss=lambda out, goal: goal.double().mean())
    assert all(value is None for value in record.series["backward.rms"])
    assert any("does not depend" in note for note in record.notes)


def test_ids_that_are_ignored_do_not_count():
    """Half of the targets ignored: the mean is over the other half."""
    torch.manual_seed(0)
    model, (x, labels) = network(), labelled()
    half = torch.where(torch.arange(64) < 32, labels, -100)
    whole, less = (predict(model, (x, y), loss=F.cross_entropy) for y in (labels, half))
    ratio = less.series["backward.rms"][-1] / whole.series["backward.rms"][-1]
    assert ratio == pytest.approx(math.sqrt(2), rel=0.01)
