"""Watched trainings of real networks: the bits of unwatched ones, and the numbers of measure()."""

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import isograd
from isograd.records import Record
from isograd.statistics import LARGE
from patients.odd import ODD
from patients.patient import Build, Patient
from patients.snapshot import changes, content, snapshot, tensors
from patients.zoo import HEALTHY

STEPS, MEASURED = 4, 2

EVERYBODY = {**HEALTHY, **ODD}


@pytest.fixture(autouse=True)
def _seeds() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002  # the generator that users' code shares
        random.seed(0)
        yield


def train(patient: Patient, measured: list[Record] | None = None) -> list[Any]:
    """A short training; every bit of what came out of it."""
    model = patient.model
    held = [p for p in model.parameters() if p.requires_grad]
    optimizer = patient.optimizer(held)
    trace: list[Any] = []
    for step in range(STEPS):
        optimizer.zero_grad()
        if measured is not None and step == MEASURED:
            measured.append(isograd.measure(model, patient.batch, patient.loss))
        loss = patient.objective()
        loss.backward()
        optimizer.step()
        trace.append(content(loss))
    for tensor in (*model.parameters(), *model.buffers()):
        trace += [content(tensor), None if tensor.grad is None else content(tensor.grad)]
    for state in optimizer.state.values():
        trace += [content(value) for value in tensors(state)]
    return [*trace, content(torch.get_rng_state())]


def build_of(name: str) -> Build:
    return EVERYBODY[name]


def trains(patient: Patient) -> bool:
    """Whether a plain loop runs on it: some odd ones fail by themselves."""
    try:
        train(patient)
    except Exception:
        return False
    return True


@pytest.mark.filterwarnings("ignore")  # of torch.compile
@pytest.mark.parametrize("name", EVERYBODY)
def test_the_same_bits_and_no_trace(name: str) -> None:
    build = build_of(name)
    state = torch.get_rng_state()
    bare = build()
    if not trains(bare):
        pytest.skip("does not train")
    bare, watched = build(), build()
    torch.set_rng_state(state)
    expected = train(bare)
    torch.set_rng_state(state)
    before = snapshot(watched.model)
    with isograd.watch(watched.model, every=1, sinks=(), on_finding=None) as watch:
        found = train(watched)
    assert watch.failure is None
    assert found == expected
    after = snapshot(watched.model)
    left = changes(before, {key: value for key, value in after.items() if key in before})
    assert [line for line in left if "hook" in line] == []


SAME = "mean rms abs_mean min max zero positive nonfinite".split()


def apart(record: Record, other: Record) -> list[str]:
    """Numbers in which a look differs from a measurement of the same step."""
    found = []
    for side in ("forward", "backward"):
        for index, site in enumerate(record.sites):
            large = math.prod(site.shape) >= LARGE
            scale = other.value(f"{side}.rms", index) or 0.0
            for key in ["rms"] if large else SAME:
                one, two = (r.value(f"{side}.{key}", index) for r in (record, other))
                if one is None or two is None:
                    continue  # a later look has fewer numbers, never others
                if abs(one - two) > (0.3 if large else 1e-4) * max(abs(two), scale):
                    found.append(f"{side}.{key} of {site.name}: {one} for {two}")
    for index, parameter in enumerate(record.parameters):
        one, two = (r.value("weight.grad_rms", index) for r in (record, other))
        if one is None or two is None:
            found += [f"no gradient of {parameter.name}"] if two else []
        elif abs(one - two) > (0.3 if math.prod(parameter.shape) >= LARGE else 1e-4) * two:
            found.append(f"gradient of {parameter.name}: {one} for {two}")
    return found


@pytest.mark.parametrize("name", HEALTHY)
def test_a_later_look_has_the_numbers_of_a_measurement(name: str) -> None:
    patient = build_of(name)()
    measured: list[Record] = []
    with isograd.watch(patient.model, every=1, sinks=(), on_finding=None) as watch:
        train(patient, measured)
    assert watch.failure is None
    reading = watch.reading
    assert reading is not None
    look = next(record for record in reading.history if record.step == MEASURED)
    assert [s.name for s in look.sites] == [s.name for s in measured[0].sites]
    read = [n for n in look.series["forward.rms"] if n is not None]
    assert len(read) >= 0.95 * len(look.sites)
    assert apart(look, measured[0]) == []
