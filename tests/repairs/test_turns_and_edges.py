"""repair(): whose turn it is, and what stands at the edge of stability."""

import functools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

import isograd
from isograd.diagnosis import diagnose
from isograd.probe.measuring import measure
from isograd.remedies import FAMILIES, Case
from isograd.remedies.activation_swap import ActivationSwap
from isograd.remedies.optimizer_lr import OptimizerLr
from isograd.repairs.attempting import Attempt
from isograd.repairs.budget import Budget
from isograd.repairs.planning import candidates, settled
from isograd.repairs.supply import gather
from isograd.repairs.treatments import Treatment
from patients import data
from patients.dense import mlp


def test_the_next_of_a_family_takes_the_turn_of_who_shows_too_late() -> None:
    def one(name: str, family: str, settles: int = 0) -> Treatment:
        plan = SimpleNamespace(settles=settles, remedy=name)
        return Treatment((cast(Any, plan),), (name,), (family,))

    order = [
        one("deepnorm", "residual"),
        one("warmup", "optimizer", 200),
        one("prenorm", "residual"),
        one("lr", "optimizer"),
        one("timid", "optimizer"),
        one("slow", "init", 200),
    ]
    able, dropped = settled(order, 12)
    assert [t.name for t in able] == ["deepnorm", "lr", "prenorm", "timid"]
    assert set(dropped) == {"warmup", "slow"}


def test_what_stands_at_the_edge_goes_on_with_a_lower_rate() -> None:
    torch.manual_seed(0)
    x, y = data.digits(64)
    model = mlp(64, 100, 100, 10, act=nn.Sigmoid)
    sgd = functools.partial(torch.optim.SGD, lr=2.0, momentum=0.9)
    case = Case(model, (x, y), diagnose(measure(model, (x, y))), F.cross_entropy, sgd)
    found = replace(candidates(case, FAMILIES), treatments=())
    supply, budget = gather(None, (x, y), 1), Budget(300)
    attempt = Attempt(case, case, supply, found, allow=FAMILIES, budget=budget, seed=0)
    swap = Treatment((ActivationSwap().plan(case),), ("activation-swap",), ("activation",))
    assert attempt._slower(swap) == []  # it is calm
    attempt._edge.append(swap.name)
    attempt.dropped[swap.name] = "it may break later"
    (slower,) = attempt._slower(swap)
    assert slower.name == "activation-swap + optimizer-lr"
    rates = [t.start(case, 0).optimizer.param_groups[0]["lr"] for t in (swap, slower)]
    assert rates[0] == 2.0 > 3 * rates[1]


def test_the_last_layer_is_not_scaled_for_what_hidden_layers_have() -> None:
    torch.manual_seed(0)
    batch = data.digits(64)

    def first(hidden: float, head: float) -> Treatment:
        model = mlp(64, 100, 100, 100, 10, act=nn.Tanh)
        layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
        for layer in layers:
            size = head if layer is layers[-1] else hidden
            nn.init.normal_(layer.weight, 0, size * layer.in_features**-0.5)
        found = diagnose(measure(model, batch))
        sgd = functools.partial(torch.optim.SGD, lr=0.01)
        tried = candidates(Case(model, batch, found, F.cross_entropy, sgd), FAMILIES).treatments
        return next(t for t in tried if t.families == ("init",))

    assert first(1.4, 30.0).name == "init-head"
    assert first(10.0, 10.0).name == "init-critical"


def test_a_bold_rate_is_tried_second() -> None:
    steps = [one.step for one in OptimizerLr().variants()]  # type: ignore[attr-defined]
    assert steps == [0.03, 0.09, 0.009, 0.003]


def test_another_loss_is_tried_with_a_rate_that_fits_it() -> None:
    torch.manual_seed(0)
    labels, middles = torch.randint(6, (1280,)), torch.randn(6, 12)
    x = middles[labels] + 0.7 * torch.randn(1280, 12)
    batches = list(zip(x.split(64), labels.split(64), strict=True))
    done = isograd.repair(
        nn.Sequential(nn.Linear(12, 32), nn.Sigmoid(), nn.Linear(32, 6), nn.Sigmoid()),
        batches[0],
        lambda out, given: F.mse_loss(out, F.one_hot(given, 6).float()),
        optimizer=functools.partial(torch.optim.SGD, lr=0.02),
        data=batches,
    )
    assert done.verdict == "repaired"
    assert done.remedies == ("loss-logits", "optimizer-lr")
