"""Gradients that pass the same matrix several times, against draws of such matrices."""

from math import comb

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import isograd
from isograd.prediction.backward.passages import Passages, growth, orders


def powers(
    units: int, most: int, draws: int, slopes: float = 0.0
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(draws, most): mean energy of unit gradients after 1 … `most` passages of one matrix each.

    `slopes`: standard deviation of the factors of each unit between passages, drawn each time.
    """
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        matrix = rng.standard_normal((units, units)) / np.sqrt(units)
        turned, row = np.eye(units), []
        for _ in range(most):
            factors = rng.normal(1.0, slopes, units) / np.sqrt(1 + slopes**2)
            turned = (turned * factors) @ matrix
            row.append((turned**2).sum() / units)
        found.append(row)
    return np.array(found)


@pytest.mark.parametrize("slopes", [0.0, 0.5])
def test_one_matrix_met_again_is_not_many(slopes: float) -> None:
    units, most = 32, 10
    found = powers(units, most, 2000, slopes)
    error = found.std(axis=0) / np.sqrt(len(found))
    overlap = 1 / (1 + slopes**2)
    expected = [growth(units, n, overlap**k) for k, n in enumerate(orders(most, overlap))]
    assert found[:, -1].mean() - 1 > 4 * error[-1]
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - expected[1:]), 4 * error)
    if not slopes:
        variance = np.log(found[:, -1]).var()
        assert np.log(expected[-1]) == pytest.approx(variance, rel=0.5)


def test_orders_without_loss_are_counted() -> None:
    assert orders(12, 1.0).tolist() == [comb(k + 2, 4) for k in range(13)]


def test_orders_with_loss_are_counted() -> None:
    """One by one: b and d steps change places, the c between them stay where they are if b = d."""
    overlap, most = 0.7, 9
    total = 0.0
    for b in range(1, most):
        for d in range(1, most):
            for c in range(most - b - d + 1):
                moved = b + c + d - 1 if b != d else 2 * (b - 1)
                total += (most - b - d - c + 1) * overlap**moved
    assert orders(most, overlap)[-1] == pytest.approx(total, rel=1e-12)


def test_gradients_that_arrive_later_have_met_it_less() -> None:
    passages = Passages(32, 10, 1.0)
    after = [growth(32, n, 1.0) for n in orders(10, 1.0)]
    passages.arrive(3.0)
    factor = np.prod([passages.meet() for _ in range(6)])
    assert factor == pytest.approx(after[6], rel=1e-12)
    passages.arrive(2.0)
    for _ in range(4):
        passages.meet()
    assert passages.energies.sum() == pytest.approx(3 * after[10] + 2 * after[4], rel=1e-12)
    assert np.log(after[4]) < passages.variance < np.log(after[10])


class Loop(nn.Module):
    """A plain recurrent network, written by hand."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.read, self.again = nn.Linear(units, units), nn.Linear(units, units)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], x.shape[2])
        for step in x.unbind(1):
            h = torch.tanh(self.read(step) + self.again(h))
        return h


class Cells(nn.Module):
    """The same as torch has it."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.cell = nn.RNNCell(units, units)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], x.shape[2])
        for step in x.unbind(1):
            h = self.cell(step, h)
        return h


@pytest.mark.parametrize("net", [Loop, Cells])
def test_gradients_far_back_of_a_loop(net: type[nn.Module]) -> None:
    units, steps, draws = 32, 12, 150
    record = isograd.predict(lambda: net(units), torch.randn(8, steps, units))
    name = "again#2" if net is Loop else "cell"
    at = next(i for i, site in enumerate(record.sites) if site.name == name)
    found = []
    for seed in range(draws):
        torch.manual_seed(seed)
        model, x = net(units), torch.randn(8, steps, units)
        value = isograd.measure(model, x, seed=seed).value("backward.rms", at)
        assert value
        found.append(np.log(value))
    band, predicted = record.value("backward.band", at), record.value("backward.rms", at)
    assert band
    assert predicted
    measured = np.log(np.mean(np.exp(2 * np.array(found)))) / 2
    error = 0.05 + 3 * np.std(found) / draws**0.5
    assert np.log(predicted) == pytest.approx(measured, abs=error)
    assert 0.7 < np.std(found) / band < 1.4
