"""What a change leaves as it was is not measured again, and says the same."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from isograd.diagnosis import diagnose
from isograd.probe.measuring import measure
from isograd.probe.rehearsal import rehearse
from isograd.records import Reading
from isograd.remedies import Case, Plan
from isograd.repairs import untouched as under_test
from isograd.repairs.repairing import _look
from isograd.repairs.treatments import Treatment
from isograd.repairs.untouched import look_after, untouched


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh())
        self.head = nn.Linear(8, 3)
        self.parts = [self.body, self.head]
        self.scale, self.how = 2.0, {"act": torch.tanh, "sizes": (6, 8)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.body(x)) * self.scale
        return out


def case(make: Callable[[Any], Any]) -> Case:
    torch.manual_seed(0)
    model = Net()
    batch = torch.randn(32, 6), torch.randint(3, (32,))
    seen = measure(model, batch, nn.CrossEntropyLoss())
    loss = nn.CrossEntropyLoss()
    reading = rehearse(model, batch, loss, seen, optimizer=make, data=None, steps=0, seed=0)
    return Case(model, batch, diagnose(reading), loss, make)


def sgd(rate: float) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=rate)


def plan(code: str = "", rate: float | None = None) -> Treatment:
    optimizer = None if rate is None else sgd(rate)
    return Treatment((Plan("any", "", code, optimizer=optimizer),), ("any",), ("optimizer",), 0)


def by_measure(one: Case, change: Treatment, *, curvature: bool) -> Reading:
    done = change.start(one, 0)
    seen = measure(done.model, one.batch, done.loss)
    return rehearse(
        done.model,
        one.batch,
        done.loss,
        seen,
        optimizer=done.optimizer,
        data=None,
        steps=0,
        seed=0,
        sharpness=curvature,
    )


@pytest.mark.parametrize("curvature", [False, True])
@pytest.mark.parametrize(
    "change",
    [plan(rate=0.5), plan("model.body[1].momentum = 0.3"), plan(), plan("model.scale = 3")],
)
def test_the_look_says_what_one_of_all_says(change: Treatment, *, curvature: bool) -> None:
    one = case(sgd(0.1))
    found = look_after(one, change, change.start(one, 0), curvature=curvature, seed=0)
    whole = by_measure(one, change, curvature=curvature)
    assert found.seen.notes == whole.seen.notes
    assert found.seen.sites == whole.seen.sites
    assert found.seen.series.keys() == whole.seen.series.keys()
    for key, column in whole.seen.series.items():
        assert [n is None for n in found.seen.series[key]] == [n is None for n in column]
        numbers = [n for n in column if n is not None]
        own = [n for n in found.seen.series[key] if n is not None]
        assert own == pytest.approx(numbers, rel=1e-6)
    told, wanted = dict(found.seen.facts), dict(whole.seen.facts)
    if not curvature:  # what is known already is told all the same
        told.pop("sharpness.lambda_max", None)
    assert told.pop("sharpness.lambda_max", 0) == pytest.approx(
        wanted.pop("sharpness.lambda_max", 0), rel=1e-4
    )
    assert told == wanted
    assert not found.history


def test_nothing_is_measured_where_nothing_was_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    one = case(sgd(0.1))

    def measured(*_: Any, **__: Any) -> Any:
        raise AssertionError("it was measured")

    monkeypatch.setattr(under_test, "measure", measured)
    for change in (plan(rate=0.5), plan("model.body[1].momentum = 0.3")):
        look_after(one, change, change.start(one, 0), curvature=True, seed=0)
    loud = plan("loss = lambda x, y: 2 * x.square().mean()")
    for other in (loud, plan("model.head.weight.data[0, 0] = 1.0")):
        with pytest.raises(AssertionError, match="it was measured"):
            look_after(one, other, other.start(one, 0), curvature=True, seed=0)


def test_another_optimizer_is_asked_for_its_own_step() -> None:
    one = case(sgd(0.1))
    change = plan(rate=0.5)
    found = look_after(one, change, change.start(one, 0), curvature=False, seed=0)
    ratios = [r for r in found.seen.series["weight.update_ratio"] if r and r > 1e-6]
    before = [r for r in one.record.series["weight.update_ratio"] if r and r > 1e-6]
    assert ratios == pytest.approx([5 * r for r in before], rel=1e-3)
    # An optimizer in use remembers steps, which one that is refitted does not.
    used = torch.optim.SGD(one.model.parameters(), lr=0.1, momentum=0.9)
    one.model(one.batch[0]).sum().backward()
    used.step()
    one = replace(one, optimizer=used)
    same = plan("model.body[1].momentum = 0.3")
    now = look_after(one, same, same.start(one, 0), curvature=False, seed=0)
    assert now.seen.fact("optimizer.momentum") == 0.9


@pytest.mark.parametrize(
    "touch",
    [
        lambda m: m.head.weight.data.mul_(1.0001),
        lambda m: m.body[1].running_mean.add_(1),
        lambda m: m.body[1].eval(),
        lambda m: m.body.append(nn.ReLU()),
        lambda m: m.body.__setitem__(2, nn.Sigmoid()),
        lambda m: setattr(m, "scale", 3.0),
        lambda m: m.how.update(sizes=(6, 9)),
        lambda m: m.how.update(act=torch.relu),
        lambda m: m.parts.reverse(),
        lambda m: m.head.register_forward_hook(lambda *_: None),
        lambda m: m.head.weight.requires_grad_(False),
        lambda m: setattr(m, "strange", object()),
        lambda m: setattr(m.body[1], "eps", 1e-3),
    ],
)
def test_whatever_was_touched_is_seen(touch: Callable[[Any], Any]) -> None:
    model = Net()
    other = copy.deepcopy(model)
    assert untouched(model, other)
    touch(other)
    assert not untouched(model, other)


class Root(nn.Module):
    def __init__(self, least: float) -> None:
        super().__init__()
        self.least = least

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x.clamp(min=self.least).sqrt(), torch.zeros_like(x))


@pytest.mark.parametrize(("least", "asked"), [(1e-6, 1), (-torch.inf, 0)])
def test_where_a_gradient_is_no_number_nobody_asks_for_the_curvature(
    monkeypatch: pytest.MonkeyPatch, least: float, asked: int
) -> None:
    times: list[object] = []
    monkeypatch.setattr("isograd.probe.rehearsal.lambda_max", lambda *_, **__: times.append(0))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), Root(least), nn.Linear(8, 3))
    batch = torch.randn(32, 6), torch.randint(3, (32,))
    _look(model, batch, nn.CrossEntropyLoss(), sgd(0.1), 0)
    assert len(times) == asked
