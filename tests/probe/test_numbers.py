"""The probe's numbers on real networks are those that torch's own hooks see."""

from collections.abc import Iterator

import pytest
import torch

import isograd
from patients.patient import Build
from patients.witness import compare, rms, witness
from patients.zoo import HEALTHY


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize("build", HEALTHY.values(), ids=HEALTHY)
def test_numbers_of_layers_and_weights(build: Build) -> None:
    given, other = build(), build()
    torch.manual_seed(5)  # dropout draws the same masks
    record = isograd.measure(given.model, given.batch, given.loss)
    torch.manual_seed(5)
    forward, backward = witness(other)
    compare(record, "forward.rms", forward, 1e-4)
    compare(record, "backward.rms", backward, 1e-3)
    for index, parameter in enumerate(other.model.parameters()):
        if parameter.grad is not None:
            seen = record.value("weight.grad_rms", index)
            assert seen == pytest.approx(rms(parameter.grad), rel=1e-3, abs=1e-12)
            assert record.value("weight.rms", index) == pytest.approx(rms(parameter), rel=1e-4)


def test_units_are_features_or_channels() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(80, 7)
    )
    record = isograd.measure(model, torch.randn(2, 3, 6, 6))
    found = {site.name: record.value("forward.units", i) for i, site in enumerate(record.sites)}
    assert (found["0"], found["1"], found["3"]) == (5, 5, 7)
