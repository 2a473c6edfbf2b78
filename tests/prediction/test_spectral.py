"""Spectral and weight normalization: what weights are divided by, against torch's own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import isograd
from isograd.errors import PredictionError
from isograd.prediction.functions.spectral import largest
from patients.snapshot import changes, snapshot

IN, WIDTH, OUT, SAMPLES = 47, 90, 61, 33
X = torch.randn(SAMPLES, IN, generator=torch.Generator().manual_seed(3))
WAYS = [
    nn.utils.spectral_norm,
    parametrizations.spectral_norm,
    parametrizations.weight_norm,
]


@pytest.mark.parametrize("rounds", [1, 2, 17])
@pytest.mark.parametrize(("rows", "columns"), [(80, 200), (200, 80), (90, 90)])
def test_the_estimate_after_some_rounds(rows: int, columns: int, rounds: int) -> None:
    generator = torch.Generator().manual_seed(rounds)
    found = []
    for _ in range(8):
        w = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
        u = torch.randn(rows, generator=generator, dtype=torch.float64)
        for _ in range(rounds):
            v = nn.functional.normalize(w.t() @ u, dim=0)
            u = nn.functional.normalize(w @ v, dim=0)
        found.append(float(u @ w @ v))
    # Single estimates differ by 2 to 3 %, and largest values lie n^(-2/3) away from the edge.
    assert largest(rows, columns, rounds) == pytest.approx(sum(found) / 8, rel=0.03)


def net(way: Callable[..., nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, IN)),
        way(nn.Conv1d(1, 40, 5)),
        nn.ReLU(),
        nn.Flatten(),
        way(nn.Linear(40 * (IN - 4), WIDTH)),
        nn.ReLU(),
        nn.Linear(WIDTH, OUT),
    )


@pytest.mark.parametrize("way", WAYS, ids=lambda one: f"{one.__module__}.{one.__name__}")
def test_networks_with_normalized_weights(way: Any) -> None:
    predicted = isograd.predict(lambda: net(way), X)
    assert predicted.fact("prediction.sampled") == []
    measured = []
    for seed in range(4):
        torch.manual_seed(seed)
        measured.append(isograd.measure(net(way), X))
    for key, wide in (("forward.rms", 0.08), ("backward.rms", 0.08)):
        for index, site in enumerate(predicted.sites):
            if measured[0].value(key, index) is None:
                continue  # no gradient asked for at the inputs
            values = [record.value(key, index) or 0.0 for record in measured]
            mean = (sum(value**2 for value in values) / len(values)) ** 0.5
            assert predicted.value(key, index) == pytest.approx(mean, rel=wide), (key, site.name)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("way", WAYS[:2], ids=["old", "new"])
def test_a_real_model_divides_by_its_own_value(way: Any, training: bool) -> None:
    torch.manual_seed(5)
    model = nn.Sequential(way(nn.Linear(IN, 400)), nn.Linear(400, 3)).train(training)
    model(X)
    before = snapshot(model)
    predicted = isograd.predict(model, X)
    assert changes(before, snapshot(model)) == []
    seen = isograd.measure(model, X).value("forward.rms", 0)
    assert predicted.value("forward.rms", 0) == pytest.approx(seen, rel=0.03)


def test_vectors_that_were_never_iterated_are_refused() -> None:
    with pytest.raises(PredictionError, match="spectral_norm of '0' divides in eval mode by"):
        isograd.predict(lambda: nn.Sequential(WAYS[0](nn.Linear(IN, OUT))).eval(), X)
