"""A model that runs is measured, whatever it does; and the numbers are those of plain torch."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import isograd
from isograd.records import Record
from patients.odd import ODD
from patients.odd_calls import points
from patients.snapshot import changes, snapshot
from patients.witness import compare, plain, rms, witness

NO_GRADIENT = {"frozen_whole"}
"""Nothing in them asks for a gradient."""

NOT_SEEN_FORWARD = {
    "compiled_aot_eager": "the witness's hooks would change what is compiled",
    "scripted": "a scripted module is one operation from outside",
    "traced": "a traced module is one operation from outside",
    "fast_path_encoder": "the fused kernel calls no inner module; with the witness's hooks it does",
    "vmapped_ensemble": "inside vmap no tensor can be read",
}
NOT_SEEN_BACKWARD = {
    **NOT_SEEN_FORWARD,
    "checkpoint_reentrant": "the graph is built in the backward; the first forward has none",
    "checkpoint_modern": "hooks run again in the recomputation",
    "backward_in_forward": "gradients of the inner backward arrive at the same tensors",
    "gradient_penalty": "gradients of the inner backward arrive at the same tensors",
    "autocast_inside": "bfloat16",
    "bfloat16_model": "bfloat16",
}


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield


@pytest.fixture(params=ODD)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_an_odd_model_is_measured(name: str) -> None:
    patient = ODD[name]()
    before = snapshot(patient.model)
    record = isograd.measure(patient.model, patient.batch, patient.loss)
    assert changes(before, snapshot(patient.model)) == []
    assert isinstance(record, Record)
    assert record.has("forward.rms")
    assert record.has("backward.count") == (name not in NO_GRADIENT)
    assert record.has("backward.rms") == (name not in NO_GRADIENT | {"nan_inside"})
    assert record.has("weight.grad_nonfinite") == (name not in NO_GRADIENT)
    parts = 2 if name == "complex_layers" else 1
    for index in record.weight_sites():
        count = record.value("forward.count", index)
        assert count == parts * math.prod(record.sites[index].shape), record.sites[index]


def test_its_numbers_are_those_of_torch(name: str) -> None:
    if name in NOT_SEEN_FORWARD:
        pytest.skip(NOT_SEEN_FORWARD[name])
    given, other = ODD[name](), ODD[name]()
    torch.manual_seed(5)
    record = isograd.measure(given.model, given.batch, given.loss)
    torch.manual_seed(5)
    forward, backward = witness(other)
    assert forward or name == "functional_only"
    compare(record, "forward.rms", forward, 1e-4)
    if name not in NOT_SEEN_BACKWARD:
        compare(record, "backward.rms", backward, 1e-3)


def test_its_weight_gradients_are_those_of_torch(name: str) -> None:
    given, other = ODD[name](), ODD[name]()
    torch.manual_seed(5)
    record = isograd.measure(given.model, given.batch, given.loss)
    torch.manual_seed(5)
    loss = other.objective()
    if loss.requires_grad:
        other.model.zero_grad()  # some come back from the forward with gradients of their own
        loss.backward()
    named = {plain(name): parameter for name, parameter in other.model.named_parameters()}
    assert [plain(parameter.name) for parameter in record.parameters] == list(named)
    for index, parameter in enumerate(record.parameters):
        gradient = named[plain(parameter.name)].grad
        seen = record.value("weight.grad_rms", index)
        if gradient is None:
            assert seen is None, parameter.name
        elif math.isfinite(expected := rms(gradient.to_dense())):
            assert seen == pytest.approx(expected, rel=1e-2, abs=1e-12), parameter.name


def test_an_odd_model_is_checked_with_a_rehearsal(name: str) -> None:
    patient = ODD[name]()
    optimizer = None
    if name not in NO_GRADIENT | {"sparse_gradient"}:
        optimizer = patient.optimizer(p for p in patient.model.parameters() if p.requires_grad)
    before = snapshot(patient.model, optimizer)
    diagnosis = isograd.check(
        patient.model, patient.batch, patient.loss, optimizer=optimizer, steps=2 * bool(optimizer)
    )
    assert changes(before, snapshot(patient.model, optimizer)) == []
    assert not [verdict for verdict in diagnosis.verdicts if verdict.state == "failed"]


@pytest.mark.parametrize("targets", [False, True])
def test_an_empty_batch_is_measured_and_has_no_numbers(targets: bool) -> None:
    x, y = points()
    model = nn.Sequential(nn.Linear(7, 11), nn.ReLU(), nn.Linear(11, 5))
    before = snapshot(model)
    record = isograd.measure(model, (x[:0], y[:0]) if targets else x[:0])
    assert changes(before, snapshot(model)) == []
    assert [site.shape for site in record.sites if site.kind == "linear"] == [(0, 11), (0, 5)]
    assert not record.has("forward.rms")


def test_a_lazy_model_is_asked_to_run_once() -> None:
    x, y = points()
    model = nn.Sequential(nn.LazyLinear(11), nn.ReLU(), nn.LazyLinear(5))
    before = snapshot(model)
    with pytest.raises(isograd.ModelError, match="lazy"):
        isograd.measure(model, (x, y))
    assert changes(before, snapshot(model)) == []
    model(x)
    assert isograd.measure(model, (x, y)).has("backward.rms")


@pytest.mark.parametrize("answer", [None, "words", 3])
def test_an_answer_without_tensors_is_refused(answer: Any) -> None:
    class Silent(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            super().forward(x)
            return answer

    model, batch = Silent(7, 5), points()
    before = snapshot(model)
    with pytest.raises(isograd.InputError):
        isograd.measure(model, batch)
    assert changes(before, snapshot(model)) == []


@pytest.mark.parametrize("targets", [None, "probe"])
def test_without_targets_random_probes_give_gradients(targets: str | None) -> None:
    x, _ = points()
    model = nn.Sequential(nn.Linear(7, 11), nn.Tanh(), nn.Linear(11, 5))
    record = isograd.measure(model, x if targets is None else (x, None))
    assert record.has("backward.rms")
    assert any("probe" in note for note in record.notes)


def test_two_measurements_agree() -> None:
    """The second look sees what the first saw: nothing was left behind, nothing was drawn."""
    for name in ("moving_buffers", "remembering", "carrying", "growing", "random_depth"):
        patient = ODD[name]()
        first = isograd.measure(patient.model, patient.batch, patient.loss)
        second = isograd.measure(patient.model, patient.batch, patient.loss)
        assert first.series["forward.rms"] == second.series["forward.rms"], name
        assert [site.name for site in first.sites] == [site.name for site in second.sites]
