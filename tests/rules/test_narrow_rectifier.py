"""Layers of one or two rectifiers: who is told, and what is done about them."""

import functools
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import isograd
from isograd.diagnosis import diagnose
from isograd.findings import Finding, Severity
from isograd.probe.measuring import measure
from isograd.records import Reading
from isograd.remedies import FAMILIES, Case
from isograd.repairs.planning import candidates
from isograd.rules import RULES, NotApplicable, Outcome, Passed
from isograd.rules.narrow_rectifier import NarrowRectifier
from patients.dense import mlp

LINE = torch.arange(-1.0, 6.0)[:, None]
BATCH = LINE, 2 * LINE - 1


def told(model: nn.Module) -> Outcome:
    return RULES["IG213"].judge(Reading(measure(model, BATCH, F.mse_loss)))


def test_the_share_that_is_named_is_that_of_random_layers() -> None:
    torch.manual_seed(0)
    layers = torch.randn(2000, 30, 2)
    off = (torch.randn(2000, 10, 30) @ layers <= 0).all(2).float().mean()
    found = told(mlp(1, 4, 2, 1))
    assert isinstance(found, Finding)
    assert float(off) == pytest.approx(found.evidence["lost"], abs=0.02)


def test_one_or_two_units_are_remarked_upon() -> None:
    found = told(mlp(1, 4, 2, 1))
    assert isinstance(found, Finding)
    assert found.severity is Severity.INFO
    assert found.sites == ("3",)
    assert isinstance(told(mlp(1, 3, 3, 1)), Passed)
    assert isinstance(
        told(nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1))), NotApplicable
    )
    assert isinstance(told(nn.Sequential(nn.Linear(1, 2), nn.ReLU())), NotApplicable)  # an output


@pytest.mark.parametrize(
    ("spread", "dead", "severity"),
    [(0.5, 0.0, Severity.INFO), (1e-6, 0.0, Severity.WARNING), (0.5, 0.5, Severity.WARNING)],
)
def test_a_slow_start_is_a_remark_as_long_as_inputs_reach_the_output(
    spread: float, dead: float, severity: Severity
) -> None:
    sick = NarrowRectifier().sick()
    (last,) = sick.history
    series = {**last.series, "forward.dead": tuple(dead for _ in last.sites)}
    last = replace(last, facts={**last.facts, "output.spread": spread}, series=series)
    found = NarrowRectifier().judge(replace(sick, history=(last,)))
    assert isinstance(found, Finding)
    assert found.severity is severity


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_two_units_that_learn_slowly_are_not_ill(seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(1500, 8)
    batches = list(zip(x.split(64), x[:, :1].abs().split(64), strict=True))
    done = isograd.repair(mlp(8, 2, 1), batches[0], F.mse_loss, data=batches)
    assert done.verdict == "healthy"  # it explains 0.2 to all of the variance after 2000 steps


def test_a_path_around_the_layer_lets_everything_through() -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start, self.end, self.body = nn.Linear(1, 2), nn.Linear(2, 1), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.start(x)
            out: torch.Tensor = self.end(x + F.relu(self.body(x)))
            return out

    assert isinstance(told(Around()), NotApplicable)


def test_what_leaks_keeps_the_weights_where_only_the_width_is_wrong() -> None:
    torch.manual_seed(0)
    model = mlp(1, 4, 2, 1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    diagnosis = diagnose(measure(model, BATCH, F.mse_loss))
    case = Case(model, BATCH, diagnosis, F.mse_loss)
    found = candidates(case, FAMILIES).treatments
    swaps = [t for t in found if t.plans[0].remedy == "activation-swap"]
    assert [t.name for t in swaps] == ["activation-swap (to=leaky_relu)"]
    assert swaps[0].pressing
    swaps[0].plans[0].apply(model)
    assert isinstance(model[3], nn.LeakyReLU)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_dead_output_before_a_narrow_layer_is_not_mended_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*mlp(1, 4, 2, 1), nn.ReLU())
    with torch.no_grad():
        for layer in (model[0], model[2], model[4]):
            layer.bias.zero_()
        model[4].weight.copy_(-model[4].weight.abs())
    make = functools.partial(torch.optim.Adam, lr=1e-3)
    done = isograd.repair(model, BATCH, F.mse_loss, optimizer=make, budget=3000)
    assert done.changed, str(done)
    assert {"output-activation", "activation-swap"} <= set(done.remedies), str(done)
