"""Faults of the training itself: non-finite values, stretched targets, a wrong optimizer."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isograd
from isograd.errors import IsogradWarning
from test_watching import data, healthy, train

NAN = float("nan")


def test_a_bad_input_is_found() -> None:
    model = healthy()
    x, y = data()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with isograd.watch(model, optimizer, sinks=(), on_finding=None) as watch:
        for step in range(12):
            batch = x.clone()
            if step == 9:
                batch[3, 4] = NAN
            optimizer.zero_grad()
            F.cross_entropy(model(batch), y).backward()
            optimizer.step()
    said = watch.explain_nan()
    assert said is not None
    assert "Step 9: the first non-finite value came out of linear in 0" in said
    assert "1 non-finite" in said
    assert "The loss is non-finite since step 9" in said
    assert "in the looks before" in said
    assert "on rank" not in watch.diagnosis.findings[0].message  # there is one process


class Root(nn.Module):
    """A square root in the middle, whose slope at zero is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(20, 16), nn.Linear(16, 3)
        self.low = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.b((self.a(x).abs() * self.low).sqrt())


def test_a_backward_that_divides_by_zero_is_found() -> None:
    model = Root()

    def each(step: int) -> None:
        model.low = 0.0 if step == 4 else 1.0

    with isograd.watch(model, sinks=(), every=1, on_finding=None) as watch:
        train(model, steps=5, each=each)
    said = watch.explain_nan()
    assert said is not None
    assert "Step 4: the first non-finite gradient came out of sqrt" in said


def test_a_loss_that_takes_the_logarithm_of_zero_is_found() -> None:
    model = nn.Sequential(nn.Linear(20, 3), nn.ReLU())
    torch.manual_seed(0)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return -(out.gather(1, y[:, None])).log().mean()

    with isograd.watch(model, sinks=(), on_finding=None) as watch:
        train(model, steps=2, loss=loss)
    said = watch.explain_nan()
    assert said is not None
    assert "came out of log in the loss" in said


def test_weights_that_a_masked_gradient_poisoned_are_named() -> None:
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3))
    spare = nn.Parameter(torch.ones(3))
    model.register_parameter("spare", spare)

    def each(step: int) -> None:
        if step == 5:
            spare.data.fill_(NAN)

    with isograd.watch(model, sinks=(), every=1, on_finding=None) as watch:
        train(model, steps=8, each=each)
    said = watch.explain_nan()
    assert said is not None
    assert "spare" in said
    assert "while the loss is finite" in said


def by_hand(out: Tensor, y: Tensor) -> Tensor:
    return ((y - out) ** 2).mean()


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("loss", [F.mse_loss, by_hand])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_targets_that_stretch_the_outputs_are_found(loss: Any, axes: int) -> None:
    """Of (64, 1) and (64,) every output meets every target; with (64, 1, 1) it is on purpose."""
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 1))
    _, y = data()
    targets = y.float().reshape(*(1,) * (axes == 3), -1, *(1,) * (axes > 1))

    def each(out: Tensor, _: Tensor) -> Tensor:
        return loss(out[:, None] if axes == 3 else out, targets)

    with isograd.watch(model, sinks=(), on_finding=None) as watch:
        train(model, steps=2, loss=each)
    assert watch.failure is None
    assert ("IG607" in {finding.code for finding in watch.diagnosis.findings}) == (axes == 1)


def test_targets_of_one_call_are_not_those_of_the_step() -> None:
    model, (x, y) = healthy(), data()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with isograd.watch(model, sinks=(), on_finding=None) as watch:
        for _ in range(2):
            optimizer.zero_grad()
            for one in range(8):
                F.cross_entropy(model(x[one : one + 1]), y[one : one + 1]).backward()
            optimizer.step()
    assert watch.reading.seen.fact("batch.size") == 8
    assert "IG608" not in {finding.code for finding in watch.diagnosis.findings}


def test_an_optimizer_of_another_model_is_told() -> None:
    model = healthy()
    other = torch.optim.SGD(healthy().parameters(), 0.1)
    watch = isograd.watch(model, other, sinks=())
    with pytest.warns(IsogradWarning, match="the optimizer holds no parameter of") as told:
        watch.open()
    other.step()
    watch.close()
    assert told[0].filename == __file__  # the line of the loop, none of isograd's
    assert repr(watch) == "<Watch: 0 steps, 0 alarms stand>"


def test_finite_runs_have_nothing_to_explain() -> None:
    model = healthy()
    with isograd.watch(model, sinks=(), on_finding=None) as watch:
        assert watch.explain_nan() is None
        assert watch.record is None
        train(model, steps=3)
    assert watch.explain_nan() is None


class Once(nn.Module):
    """Divides by zero in its third call, and never again."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(4, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        out = self.layer(x)
        return out / 0 if self.calls == 3 else out


def test_what_does_not_happen_again_is_not_blamed_on_the_loss() -> None:
    torch.manual_seed(0)
    model = Once()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with isograd.watch(model, optimizer, every=1, sinks=(), on_finding=None) as watch:
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(8, 4)), torch.zeros(8, dtype=torch.long)).backward()
            optimizer.step()
    text = watch.explain_nan()
    assert text is not None
    assert "an operation that was finite when it was run again in the model" in text
