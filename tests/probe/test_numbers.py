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
