"""The printed code and `done.optimizer` are the same optimizer, of whatever class and groups."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

import isograd
from isograd.remedies import REMEDIES, Case, Plan, case_of
from isograd.remedies._code import together
from isograd.remedies._examples import classes, plain
from isograd.remedies._optimizers import Scaled, constructor, factory_of, with_rate
from isograd.repairs.repairing import _code
from isograd.repairs.treatments import Treatment


def in_groups(model: nn.Module) -> torch.optim.Optimizer:
    weights = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": weights[:10], "lr": 1e-3, "weight_decay": 0.0},
        {"params": weights[10:]},
    ]
    return torch.optim.AdamW(groups, lr=1e-2)


def groups_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[Any]:
    """Rate and decay of each group, and the names of what it holds."""
    names = {id(p): name for name, p in model.named_parameters()}
    return [
        (g["lr"], g["weight_decay"], sorted(names[id(p)] for p in g["params"]))
        for g in optimizer.param_groups
    ]


@pytest.mark.parametrize("trained", [False, True])
def test_code_for_several_groups_makes_the_optimizer_of_the_repair(trained: bool) -> None:
    torch.manual_seed(0)
    model, batch = plain(12, nn.Sigmoid), classes(64)
    twin = copy.deepcopy(model)
    own, theirs = in_groups(model), in_groups(twin)
    if trained:
        for net, optimizer in ((model, own), (twin, theirs)):
            nn.functional.cross_entropy(net(batch[0]), batch[1]).backward()
            optimizer.step()
    done = isograd.repair(model, batch, optimizer=own, budget=100, allow=["normalization"])
    assert done.verdict == "repaired"
    assert done.optimizer is not None
    names: dict[str, Any] = {"model": twin, "optimizer": theirs, "batch": batch}
    exec(done.code, names)
    expected = groups_of(done.optimizer, done.model)
    assert len(expected) == 2
    assert groups_of(names["optimizer"], twin) == expected
    held = {name for _, _, group in expected for name in group}
    assert held == {name for name, _ in twin.named_parameters()}
    assert len(names["optimizer"].state) == len(done.optimizer.state) == 0


def test_a_rate_that_changes_beside_new_norms_changes_in_every_group() -> None:
    model, batch = plain(12), classes(64)
    twin = copy.deepcopy(model)
    own, theirs = in_groups(model), in_groups(twin)
    case = case_of(model, batch, optimizer=own)
    norms = REMEDIES["normalization-insert"].plan(case)
    assert isinstance(norms, Plan)
    rates = Plan("optimizer-lr", "", training=with_rate(case, 0.5), optimizer=scaled(case, 0.5))
    change = Treatment((norms, rates))
    trainee = change.start(case, 0)
    names: dict[str, Any] = {"model": twin, "optimizer": theirs}
    exec(_code(change, case, new=trainee.new), names)
    expected = groups_of(trainee.optimizer, trainee.model)
    assert [rate for rate, _, _ in expected] == [5e-4, 5e-3]
    assert groups_of(theirs, twin) == expected


def scaled(case: Case, factor: float) -> Scaled:
    make = factory_of(case)
    assert not isinstance(make, str)
    return Scaled(make, factor)


class Mine(torch.optim.SGD):
    """An optimizer that hands its settings on."""

    def __init__(self, params: Any, **settings: Any) -> None:
        super().__init__(params, **settings)


def test_an_optimizer_of_ones_own_is_made_by_the_printed_code() -> None:
    class Local(Mine):
        pass

    torch.manual_seed(0)
    model, batch = plain(12, nn.Sigmoid), classes(64)
    for kind in (Local, Mine):
        own = kind(model.parameters(), lr=0.25, momentum=0.5)
        done = isograd.repair(model, batch, optimizer=own, budget=100, allow=["normalization"])
        assert done.verdict == "repaired"
        assert done.code.endswith(f"{kind.__name__}(model.parameters(), lr=0.25, momentum=0.5)")
        names: dict[str, Any] = {"model": copy.deepcopy(model), "batch": batch}
        exec(done.code, {"Local": Local} | names if kind is Local else names)


@pytest.mark.parametrize(
    ("home", "name", "code"),
    [
        ("__main__", "Lion", "optimizer = Lion(model.parameters(), lr=0.5)"),
        ("lions", "make.<locals>.Lion", "optimizer = Lion(model.parameters(), lr=0.5)"),
        (
            "lions.core",
            "Lion",
            "from lions.core import Lion\n\noptimizer = Lion(model.parameters(), lr=0.5)",
        ),
        ("torch.optim.sgd", "SGD", "optimizer = torch.optim.SGD(model.parameters(), lr=0.5)"),
    ],
)
def test_where_a_class_of_optimizers_is_known_from(home: str, name: str, code: str) -> None:
    short = name.rpartition(".")[2]
    kind = type(short, (torch.optim.SGD,), {"__module__": home, "__qualname__": name})
    assert together([constructor(kind, {"lr": 0.5, "momentum": 0})]) == code
