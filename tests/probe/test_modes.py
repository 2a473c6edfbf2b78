"""The gap between train mode and eval mode, worked out by hand."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isograd.probe.measuring import measure
from isograd.probe.modes import eval_gap, running
from isograd.sites.batches import as_batch

X = 3 + 2 * torch.randn(29, 7, generator=torch.Generator().manual_seed(5))


def trained(*layers: nn.Module) -> nn.Sequential:
    """A network whose batch norms have seen two batches like X, shifted."""
    torch.manual_seed(0)
    model = nn.Sequential(*layers)
    for _ in range(2):
        model(0.5 * X + 1)
    return model


def rms(x: Tensor) -> float:
    return float(x.detach().double().square().mean().sqrt())


def test_one_batch_norm() -> None:
    model = trained(nn.BatchNorm1d(7))
    norm = model[0]
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    there = (X - mean) / (var + 1e-5).sqrt()
    here = (X - X.mean(0)) / (X.var(0, correction=0) + 1e-5).sqrt()
    found = measure(model, X).fact("norm.eval_gap")
    assert found == pytest.approx(rms(here - there) / rms(here), rel=1e-5)


def test_dropout_makes_no_difference() -> None:
    model = trained(nn.BatchNorm1d(7, momentum=1.0), nn.Dropout(0.5))
    model(X)
    model[0].running_var.copy_(X.var(0, correction=0))  # now both modes compute the same
    assert measure(model, X).fact("norm.eval_gap") == pytest.approx(0, abs=1e-5)


def test_everything_is_as_before() -> None:
    model = trained(nn.BatchNorm1d(7), nn.Dropout(0.5), nn.BatchNorm1d(7))
    model[2].eval()
    modes = [m.training for m in model.modules()]
    measure(model, X)
    assert [m.training for m in model.modules()] == modes
    assert int(model[0].num_batches_tracked) == 2


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(7, 5),
        nn.BatchNorm1d(7),  # has seen nothing yet
        trained(nn.BatchNorm1d(7)).eval(),
        trained(nn.BatchNorm1d(7, track_running_stats=False)),
        trained(nn.LayerNorm(7)),
    ],
    ids=["none", "fresh", "eval", "untracked", "layer norm"],
)
def test_where_there_is_none(model: nn.Module) -> None:
    assert measure(model, X).fact("norm.eval_gap") is None


class InTraining(nn.Module):
    """Answers otherwise in eval mode."""

    def __init__(self, otherwise: Any) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(7)
        self.otherwise = otherwise

    def forward(self, x: Tensor) -> Any:
        out = self.norm(x)
        return out if self.norm.training else self.otherwise(out)


def fails(out: Tensor) -> Tensor:
    raise ValueError("only in train mode")


@pytest.mark.parametrize("otherwise", [fails, lambda out: out[:3], lambda out: (out, out)])
def test_a_model_of_one_mode_has_none(otherwise: Any) -> None:
    model = InTraining(otherwise)
    model(X)
    model(X)
    outputs = model(X)
    assert eval_gap(model, as_batch(X), outputs, running(model)) is None
    assert model.norm.training


def test_outputs_of_zero_have_none() -> None:
    model = InTraining(lambda out: out * 0)
    model(X)
    model(X)
    assert eval_gap(model, as_batch(X), 0 * model(X), running(model)) is None


def test_all_outputs_count() -> None:
    class Two(InTraining):
        def forward(self, x: Tensor) -> Any:
            out = self.norm(x)
            return {"a": out, "b": (2 * out[:, :3], torch.arange(2))}

    model = Two(None)
    model(X)
    model(0.5 * X)
    before = running(model)
    outputs = model(X)
    found = eval_gap(model, as_batch(X), outputs, before)
    model.eval()
    there = model(X)
    here, there = (torch.cat([o["a"].flatten(), o["b"][0].flatten()]) for o in (outputs, there))
    assert found == pytest.approx(rms(here - there) / rms(here), rel=1e-4)


def test_a_larger_shift_is_a_larger_gap() -> None:
    model = trained(nn.Linear(7, 11), nn.BatchNorm1d(11), nn.ReLU())
    near = measure(model, 0.5 * X + 1).fact("norm.eval_gap")
    far = measure(model, 9 * X).fact("norm.eval_gap")
    assert near < far
    assert F.relu(torch.tensor(near)) == near
