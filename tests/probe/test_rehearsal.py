"""The rehearsal trains as a plain loop would, on copies, and tells why it ended."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from isograd.errors import DataError, InputError, LossError, ModelError
from isograd.probe.measuring import measure
from isograd.probe.rehearsal import rehearse
from isograd.records import Reading
from patients.snapshot import changes, snapshot

GENERATOR = torch.Generator().manual_seed(5)
X = torch.randn(13, 7, generator=GENERATOR)
Y = torch.randint(5, (13,), generator=GENERATOR)
MORE = [
    (torch.randn(k, 7, generator=GENERATOR), torch.randint(5, (k,), generator=GENERATOR))
    for k in (3, 4, 6)
]

Optimizer = torch.optim.Optimizer


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 11), nn.Tanh(), nn.Linear(11, 5))


def sgd(parameters: Any) -> Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def rehearsed(
    model: nn.Module,
    optimizer: Any = sgd,
    *,
    steps: int = 3,
    data: Any = None,
    batch: Any = (X, Y),
    **options: Any,
) -> Reading:
    seen = measure(model, batch)
    return rehearse(
        model, batch, None, seen, optimizer=optimizer, data=data, steps=steps, seed=0, **options
    )


def trained(model: nn.Module, make: Callable[[Any], Optimizer], batches: list[Any]) -> list[float]:
    """A plain loop over the batches; returns its losses."""
    optimizer = make(model.parameters())
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def rms(tensor: Tensor) -> float:
    return float(tensor.detach().double().square().mean().sqrt())


@pytest.mark.parametrize(
    "make",
    [
        sgd,
        lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, lr=1e-2),
        lambda p: torch.optim.RMSprop(p, lr=1e-3),
    ],
)
def test_it_is_the_plain_loop(make: Callable[[Any], Optimizer]) -> None:
    reading = rehearsed(network(), make, steps=5, data=MORE)
    twin = network()
    losses = trained(twin, make, [*MORE, *MORE[:2]])  # a list begins again
    (last,) = reading.history
    assert last.fact("rehearsal.losses") == pytest.approx(losses, rel=1e-6)
    assert last.step == 5
    assert last.fact("rehearsal.stopped") is None
    again = measure(twin, (X, Y))  # the last look is at the first batch
    assert last.series["forward.rms"] == pytest.approx(again.series["forward.rms"], rel=1e-5)
    assert last.fact("loss.value") == pytest.approx(again.fact("loss.value"), rel=1e-5)


def test_update_ratios_of_sgd_are_those_of_the_gradient() -> None:
    model = network()
    ratios = rehearsed(model, lambda p: torch.optim.SGD(p, lr=0.3), steps=0).seen.series[
        "weight.update_ratio"
    ]
    F.cross_entropy(model(X), Y).backward()
    expected = [0.3 * rms(p.grad) / rms(p) for p in model.parameters()]
    assert ratios == pytest.approx(expected, rel=1e-4)


def test_update_ratios_of_adam_are_the_rate_over_the_weight() -> None:
    """The first step of Adam is lr times the sign of the gradient."""
    model = network()
    reading = rehearsed(model, lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-30), steps=2)
    expected = [1e-3 / rms(p) for p in model.parameters()]
    assert reading.seen.series["weight.update_ratio"] == pytest.approx(expected, rel=1e-3)


def test_the_first_update_counts_not_the_last() -> None:
    once = rehearsed(network(), steps=1).seen.series["weight.update_ratio"]
    assert rehearsed(network(), steps=9).seen.series["weight.update_ratio"] == once


def test_a_weight_of_zero_and_a_frozen_one() -> None:
    model = network()
    nn.init.zeros_(model[2].bias)
    model[0].requires_grad_(False)
    ratios = rehearsed(model, lambda p: torch.optim.SGD(p, lr=0.1)).seen.series[
        "weight.update_ratio"
    ]
    assert ratios[:2] == (0.0, 0.0)
    assert ratios[2] > 0
    assert ratios[3] is None


def test_without_steps_there_is_no_history() -> None:
    reading = rehearsed(network(), steps=0)
    assert reading.history == ()
    assert reading.seen.has("weight.update_ratio")
    assert reading.seen.fact("optimizer.name") == "SGD"


def test_the_optimizer_in_use_is_copied_with_its_state() -> None:
    """Momentum gathered before goes into the first step of the copy."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    for x, y in MORE:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    twin, its = copy.deepcopy((model, optimizer))
    reading = rehearsed(model, optimizer, steps=1)
    before = [p.detach().clone() for p in twin.parameters()]
    its.zero_grad()
    F.cross_entropy(twin(X), Y).backward()
    its.step()
    expected = [
        rms(p.detach() - old) / rms(old) for p, old in zip(twin.parameters(), before, strict=True)
    ]
    assert reading.seen.series["weight.update_ratio"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("instance", [False, True])
def test_the_users_own_are_not_touched(instance: bool) -> None:
    model = nn.Sequential(network(), nn.BatchNorm1d(5), nn.Dropout(0.3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    trained_once = F.cross_entropy(model(X), Y)
    trained_once.backward()
    optimizer.step()
    before = snapshot(model, optimizer)
    state = torch.get_rng_state()
    given: Any = optimizer if instance else lambda p: torch.optim.Adam(p, lr=0.5)
    reading = rehearsed(model, given, data=MORE)
    assert changes(before, snapshot(model, optimizer)) == []
    assert torch.equal(state, torch.get_rng_state())
    assert len(reading.last.fact("rehearsal.losses")) == 3


def test_a_seed_makes_it_repeatable() -> None:
    model = nn.Sequential(network(), nn.Dropout(0.5))

    def losses(seed: int) -> list[float]:
        seen = measure(model, (X, Y))
        options: dict[str, Any] = {"optimizer": torch.optim.Adam, "data": None, "steps": 4}
        found = rehearse(model, (X, Y), None, seen, seed=seed, **options)
        return found.last.fact("rehearsal.losses")

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def forever() -> Iterator[Any]:
    while True:
        yield from MORE


@pytest.mark.parametrize(
    ("data", "steps", "done"),
    [
        (None, 4, 4),
        (MORE, 7, 7),
        (forever(), 7, 7),
        (iter(MORE), 3, 3),
        (iter(MORE), 7, 3),
        ((b for b in MORE[:1]), 2, 1),
        ([], 2, 0),
        (iter([]), 2, 0),
        (DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True), 8, 8),
    ],
)
def test_data_of_any_length(data: Any, steps: int, done: int) -> None:
    told: list[tuple[int, int]] = []
    reading = rehearsed(network(), data=data, steps=steps, progress=lambda *at: told.append(at))
    assert len(reading.last.fact("rehearsal.losses")) == done
    assert reading.last.step == done
    assert told == [(k + 1, steps) for k in range(done)]
    notes = [note for note in reading.seen.notes if "ended" in note]
    short = [f"rehearsal: the data ended after {done} of {steps} steps"]
    assert notes == (short if done < steps else [])


def test_a_loss_that_is_not_finite_stops_it() -> None:
    class Fails(nn.Linear):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            return out * math.nan if len(x) == 4 else out

    reading = rehearsed(Fails(7, 5), steps=9, data=MORE)
    last = reading.last
    assert last.fact("rehearsal.stopped") == "non-finite at step 1"
    assert len(last.fact("rehearsal.losses")) == 2
    assert last.fact("batch.size") == 4  # looked at again is the batch on which it broke
    assert last.fact("event.forward")["op"] == "mul"


def test_weights_that_are_not_finite_stop_it() -> None:
    """One step of 1e38 each: the second one is beyond float32."""
    reading = rehearsed(network(), lambda p: torch.optim.SGD(p, lr=1e38), steps=9)
    assert reading.last.fact("rehearsal.stopped") in (
        "non-finite at step 1",
        "non-finite at step 2",
    )
    assert len(reading.last.fact("rehearsal.losses")) <= 2
    reading = rehearsed(network(), lambda p: torch.optim.SGD(p, lr=math.inf), steps=9)
    assert reading.last.fact("rehearsal.stopped") == "non-finite at step 1"
    assert len(reading.last.fact("rehearsal.losses")) == 1


def test_a_model_that_cannot_be_copied_is_left_alone() -> None:
    class Unique(nn.Linear):
        def __deepcopy__(self, memo: Any) -> Any:
            raise ValueError("only one of me")

    model = Unique(7, 5)
    reading = rehearsed(model)
    assert reading.history == ()
    assert not reading.seen.has("weight.update_ratio")
    assert reading.seen.notes[-1] == (
        "rehearsal: left out, the model cannot be copied (ValueError: only one of me)"
    )


def test_sharpness_is_measured_where_steps_scale_with_the_gradient() -> None:
    assert rehearsed(network()).seen.fact("sharpness.lambda_max") > 0
    adaptive = rehearsed(network(), lambda p: torch.optim.Adam(p))
    assert adaptive.seen.fact("sharpness.lambda_max") is None
    assert adaptive.last.fact("optimizer.name") == "Adam"


def test_parameters_that_the_optimizer_does_not_hold() -> None:
    model = network()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    reading = rehearsed(model, optimizer)
    assert reading.seen.fact("optimizer.missing") == ["2.weight", "2.bias"]
    ratios = reading.seen.series["weight.update_ratio"]
    assert ratios[2:] == (0.0, 0.0)
    assert min(ratios[:2]) > 0


def test_nothing_asks_for_a_gradient() -> None:
    model = network().requires_grad_(False)
    reading = rehearsed(model, steps=2)
    assert reading.seen.series["weight.update_ratio"] == (0.0,) * 4
    assert len(set(reading.last.fact("rehearsal.losses"))) == 1


def test_buffers_that_the_forward_makes() -> None:
    class Caching(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if not hasattr(self, "table"):
                self.register_buffer("table", torch.linspace(0, 1, 5), persistent=False)
            return super().forward(x) + self.table

    model = Caching(7, 5)
    reading = rehearsed(model)
    assert len(reading.last.fact("rehearsal.losses")) == 3
    assert "table" not in dict(model.named_buffers())


def bad_input() -> Any:
    bad = X.clone()
    bad[2, 1] = math.nan
    return [(X, Y), (bad, Y)]


@pytest.mark.parametrize(
    ("options", "error", "found"),
    [
        ({"optimizer": "adam"}, InputError, r"^optimizer: expected .*lambda p: .*found a str"),
        ({"optimizer": lambda p: list(p)}, InputError, "the factory returned a list, not a torch"),
        ({"optimizer": lambda p: 1 / 0}, InputError, "the factory raised ZeroDivisionError"),
        ({"optimizer": torch.optim.LBFGS}, InputError, r"LBFGS.step\(\) raised TypeError.*closure"),
        ({"data": 3}, DataError, "^data: expected an iterable of batches.* found an int"),
        ({"data": ["x"]}, DataError, "^data: the batch of step 0: expected a tensor.*found a str"),
        ({"data": {"x": X}}, DataError, "^data: the batch of step 0: .*found a str"),
        ({"data": bad_input()}, DataError, r"step 1: input 0 holds 1 NaN .*\(2, 1\)"),
        (
            {"data": [(X, Y), (X[:, :3], Y)]},
            ModelError,
            "^rehearsal: step 1 raised RuntimeError: mat1.*every batch of data",
        ),
        ({"data": [(X, ["cat"])]}, LossError, "^loss: the targets are a list"),
    ],
)
def test_errors(options: dict[str, Any], error: type[Exception], found: str) -> None:
    model = network()
    before = snapshot(model)
    with pytest.raises(error, match=found) as caught:
        rehearsed(model, **options)
    assert "\n" not in str(caught.value)
    assert changes(before, snapshot(model)) == []


def test_a_backward_that_raises() -> None:
    class Bomb(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            raise RuntimeError("on purpose")

    class Late(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            return Bomb.apply(out) if len(x) == 4 else out

    with pytest.raises(ModelError, match="the backward of step 1 raised on purpose"):
        rehearsed(Late(7, 5), data=MORE)
