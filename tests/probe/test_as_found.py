"""A look leaves no trace: training with looks between the steps is bit-identical to without."""

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import isograd
from patients.patient import Build, Patient
from patients.snapshot import changes, content, snapshot, tensors
from patients.zoo import HEALTHY

STEPS = 3


@pytest.fixture(autouse=True)
def _seeds() -> Iterator[None]:
    """Every generator starts from the same state, so that two courses can be compared."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002  # the generator that users' code shares
        random.seed(0)
        yield


@pytest.fixture(params=HEALTHY)
def build(request: pytest.FixtureRequest) -> Build:
    return HEALTHY[request.param]


Looks = Callable[[int, str, torch.optim.Optimizer], None]


def course(patient: Patient, looks: Looks) -> list[Any]:
    """A short training run; returns every bit of what came out of it."""
    model = patient.model
    optimizer = patient.optimizer(model.parameters())
    torch.manual_seed(1)
    trace: list[Any] = []
    for step in range(STEPS):
        looks(step, "before", optimizer)
        optimizer.zero_grad(set_to_none=False)
        loss = patient.objective()
        loss.backward()
        looks(step, "gradients", optimizer)
        optimizer.step()
        trace.append(content(loss))
    trace += [content(out) for out in tensors(patient.forward())]
    for tensor in (*model.parameters(), *model.buffers()):
        trace += [content(tensor), None if tensor.grad is None else content(tensor.grad)]
    for state in optimizer.state.values():
        trace += [content(value) for value in tensors(state)]
    return [*trace, content(torch.get_rng_state())]


def test_training_is_the_same_bit_for_bit(build: Build) -> None:
    patient = build()
    given = (patient.model, patient.batch, patient.loss)

    def look(step: int, moment: str, optimizer: torch.optim.Optimizer) -> None:
        before = snapshot(patient.model, optimizer)
        if (step, moment) in ((0, "before"), (1, "gradients")):
            isograd.measure(*given)
        elif (step, moment) == (2, "gradients"):
            isograd.check(*given, optimizer=optimizer, steps=2)
        assert changes(before, snapshot(patient.model, optimizer)) == []

    assert course(patient, look) == course(build(), lambda *_: None)


class Boom(RuntimeError):
    """What the broken parts of these tests raise."""


def _raise(*_args: Any, **_kwargs: Any) -> Any:
    raise Boom("on purpose")


class Bomb(torch.autograd.Function):
    """The identity, with a backward that raises."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise Boom("on purpose")


def a_step_was_done(patient: Patient) -> torch.optim.Optimizer:
    """Brings the patient to the middle of training: gradients, moments, moving averages."""
    optimizer = patient.optimizer(patient.model.parameters())
    patient.objective().backward()
    optimizer.step()
    return optimizer


def leaves_called(patient: Patient) -> list[str]:
    """Names of the innermost modules that a forward calls, in order."""
    names: list[str] = []
    for name, module in patient.model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(
                functools.partial(lambda name, *_: names.append(name), name)
            )
    patient.forward()
    return names


def test_a_forward_that_raises_in_the_middle(build: Build) -> None:
    patient = build()
    optimizer = a_step_was_done(patient)
    names = leaves_called(build())
    patient.model.get_submodule(names[len(names) // 2]).forward = _raise
    before = snapshot(patient.model, optimizer)
    with pytest.raises(isograd.ModelError) as caught:
        isograd.measure(patient.model, patient.batch, patient.loss)
    assert isinstance(caught.value.__cause__, Boom)
    with pytest.raises(isograd.ModelError):
        isograd.check(patient.model, patient.batch, patient.loss, optimizer=optimizer, steps=1)
    assert changes(before, snapshot(patient.model, optimizer)) == []


def test_a_loss_that_raises(build: Build) -> None:
    patient = build()
    optimizer = a_step_was_done(patient)
    before = snapshot(patient.model, optimizer)
    with pytest.raises(isograd.LossError) as caught:
        isograd.measure(patient.model, patient.batch, _raise)
    assert isinstance(caught.value.__cause__, Boom)
    assert changes(before, snapshot(patient.model, optimizer)) == []


def test_a_backward_that_raises(build: Build) -> None:
    patient = build()
    optimizer = a_step_was_done(patient)
    before = snapshot(patient.model, optimizer)

    def loss(outputs: Any, targets: Any) -> Tensor:
        first = next(tensors(outputs))
        return Bomb.apply(first).square().mean()

    with pytest.raises(isograd.ModelError):
        isograd.measure(patient.model, patient.batch, loss)
    assert changes(before, snapshot(patient.model, optimizer)) == []


def test_an_interrupt_passes_through_and_leaves_no_trace() -> None:
    patient = HEALTHY["resnet18"]()
    optimizer = a_step_was_done(patient)

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    patient.model[4].conv2.forward = interrupt
    before = snapshot(patient.model, optimizer)
    with pytest.raises(KeyboardInterrupt):
        isograd.check(patient.model, patient.batch, optimizer=optimizer, steps=1)
    assert changes(before, snapshot(patient.model, optimizer)) == []


def test_data_that_ends_in_an_error_leaves_no_trace() -> None:
    patient = HEALTHY["conv_batch_norm"]()
    optimizer = a_step_was_done(patient)
    before = snapshot(patient.model, optimizer)

    def batches() -> Iterator[Any]:
        yield patient.batch
        raise Boom("on purpose")

    with pytest.raises((isograd.IsogradError, Boom)):
        isograd.check(patient.model, patient.batch, optimizer=optimizer, data=batches(), steps=3)
    assert changes(before, snapshot(patient.model, optimizer)) == []


@pytest.mark.parametrize("switch", ["no_grad", "eval", "autocast", "float64"])
def test_the_surroundings_stay_as_they_are(switch: str) -> None:
    patient = HEALTHY["mlp_silu_batch_norm"]()
    x, y = patient.batch
    default = torch.get_default_dtype()
    try:
        with (
            torch.set_grad_enabled(switch != "no_grad"),
            torch.autocast("cpu", torch.bfloat16, enabled=switch == "autocast"),
        ):
            if switch == "eval":
                patient.model.eval()
                patient.model[1].train()  # a mode of its own
            if switch == "float64":
                torch.set_default_dtype(torch.float64)
                patient.model.double()
                x = x.double()
            before = snapshot(patient.model)
            record = isograd.measure(patient.model, (x, y))
            assert changes(before, snapshot(patient.model)) == []
    finally:
        torch.set_default_dtype(default)
    assert record.has("forward.rms")
    assert record.has("backward.rms")


TRACES: dict[str, Callable[[nn.Module], Any]] = {
    "buffers": lambda model: model(torch.ones(7, 3)),
    "gradients": lambda model: model[0].weight.sum().backward(),
    "other gradients": lambda model: setattr(model[0].weight, "grad", torch.zeros(5, 3)),
    "mode": lambda model: model[1].eval(),
    "hooks": lambda model: model[0].register_forward_hook(_raise),
    "tensor hooks": lambda model: model[0].bias.register_hook(_raise),
    "attributes": lambda model: setattr(model[0], "note", 1),
    "requires_grad": lambda model: model[0].weight.requires_grad_(False),
    "torch": lambda _: torch.rand(1),
    "python": lambda _: random.random(),
    "numpy": lambda _: np.random.rand(),  # noqa: NPY002
    "weights": lambda model: model[0].weight.data.mul_(1.0000001),
}


@pytest.mark.parametrize("trace", TRACES)
def test_the_witness_sees_a_trace(trace: str) -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    before = snapshot(model)
    assert changes(before, snapshot(model)) == []
    TRACES[trace](model)
    assert changes(before, snapshot(model)) != []


class Stateful(nn.Module):
    """A loss with a count, a moving average and a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.register_buffer("average", torch.zeros(()))
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, out: Tensor, labels: Tensor) -> Tensor:
        self.calls += 1
        value = nn.functional.cross_entropy(out, labels)
        self.average.mul_(0.9).add_(0.1 * value.detach())
        return value * self.weight


@pytest.mark.parametrize("what", ["check", "repair"])
def test_a_loss_with_a_state_is_as_it_was(what: str) -> None:
    torch.manual_seed(0)
    layers = [layer for _ in range(12) for layer in (nn.Linear(8, 8), nn.Sigmoid())]
    batch = torch.randn(16, 8), torch.randint(3, (16,))
    loss = Stateful()
    loss.weight.grad = torch.tensor(7.0)
    more = {"budget": 40} if what == "repair" else {}
    done = getattr(isograd, what)(nn.Sequential(*layers, nn.Linear(8, 3)), batch, loss, **more)
    assert what == "check" or done.verdict != "healthy"  # it was tried
    assert (loss.calls, float(loss.average), float(loss.weight.grad)) == (0, 0.0, 7.0)
