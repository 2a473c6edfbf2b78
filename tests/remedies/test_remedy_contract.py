"""Every remedy keeps the contract; what the contract says of broken ones."""

import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from isograd import remedies
from isograd.catalogue import Catalogue
from isograd.errors import CatalogueError, InputError, RemedyError
from isograd.remedies import REMEDIES, Case, Plan, Remedy
from isograd.remedies._examples import classes, example, plain
from isograd.testing import check_remedy


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda r: r.code)
def test_a_remedy_keeps_the_contract(remedy: Remedy) -> None:
    check_remedy(remedy)


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda r: r.code)
def test_every_variant_has_a_plan_or_a_reason(remedy: Remedy) -> None:
    case = remedy.sick()
    first, *others = remedy.variants()
    assert first == remedy
    assert len({first, *others}) == len(others) + 1
    for other in others:
        plan = other.plan(case)
        if isinstance(plan, Plan):
            plan.apply(case.model).undo()
        else:
            assert plan


@dataclass(frozen=True)
class Broken(Remedy):
    """Fill the first weight.

    Does: whatever its settings say it does to the model.

    Needs: nothing at all of the network.

    Source: made up for a test of the contract.
    """

    code: ClassVar[str] = "broken"
    family: ClassVar[str] = "init"
    addresses: ClassVar[tuple[str, ...]] = ("init-constant",)

    does: str = "with __import__('torch').no_grad():\n    model[0].weight.fill_(0.1)"
    """The code of its plan."""
    keys: str = ""
    """What it says of the keys."""
    leaves: bool = True
    """Whether it leaves the well one alone."""
    touches: bool = False
    """Whether planning changes the model."""

    def plan(self, case: Case) -> Plan | str:
        if len(case.model) == 3 and self.leaves:  # type: ignore[arg-type]
            return "it has one hidden layer"
        if self.touches:
            nn.init.zeros_(case.model[0].weight)  # type: ignore[index]
        return Plan(self.code, "The weight is filled.", self.does, keys=self.keys)

    @staticmethod
    def sick() -> Case:
        return example(lambda: plain(2))

    @staticmethod
    def well() -> Case:
        return example(lambda: plain(1))


def test_a_remedy_of_ones_own_can_keep_it() -> None:
    check_remedy(Broken())


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"leaves": False}, "would change its well case"),
        ({"touches": True}, "planning changed the model"),
        ({"does": "pass"}, "its code changes nothing"),
        ({"keys": "They get longer."}, "the keys do not change"),
        ({"does": "model[0] = __import__('torch').nn.Sequential(model[0])"}, "change unsaid"),
        ({"does": "model[0].weight.data.fill_(float('nan'))"}, "loss of the changed model"),
        ({"does": "model[0].weight.data.fill_(id(model) % 991)"}, "two copies changed"),
    ],
)
def test_what_breaks_it_is_named(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CatalogueError, match=complaint):
        check_remedy(replace(Broken(), **settings))


def test_undo_gives_back_what_training_took() -> None:
    model, batch = plain(12), classes()
    model.register_forward_hook(lambda *_: None)
    model[2].weight.grad = torch.ones_like(model[2].weight)  # type: ignore[union-attr]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    gradient, hooks = model[2].weight.grad, dict(model._forward_hooks)
    change = remedies.apply("init-gain", model, batch)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    model.zero_grad()
    model.eval()
    model.append(nn.ReLU())
    change.undo()
    assert len(model) == 25
    assert model.training
    assert dict(model._forward_hooks) == hooks
    assert model[2].weight.grad is gradient
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_an_error_leaves_the_model_as_found() -> None:
    model = plain(2)
    before = model[0].weight.clone()
    plan = Plan("x", "Nothing.", "model[0].weight.data.zero_()\nmodel[99]")
    with pytest.raises(RemedyError, match="x: its change does not run on this Sequential"):
        plan.apply(model)
    assert torch.equal(model[0].weight, before)  # type: ignore[arg-type]


def test_what_apply_refuses() -> None:
    batch = classes()
    with pytest.raises(CatalogueError, match="unknown code 'init-magic'"):
        remedies.apply("init-magic", plain(2), batch)
    with pytest.raises(InputError, match=r"init-gain has no setting fan; it has keep, law"):
        remedies.apply("init-gain", plain(2), batch, fan="in")
    with pytest.raises(InputError, match="keep='both'; it is one of forward, backward, compromise"):
        remedies.apply("init-gain", plain(2), batch, keep="both")
    with pytest.raises(RemedyError, match="init-gain: not applied: the typical hidden weight"):
        remedies.apply("init-gain", plain(9, gain=2**0.5), batch)


def test_the_code_that_is_shown_is_the_change() -> None:
    model, batch = plain(12), classes()
    change = remedies.apply("init-gain", model, batch, seed=4)
    twin = plain(12)
    torch.manual_seed(4)
    exec(change.code, {"model": twin})
    assert all(
        torch.equal(a, b) for a, b in zip(twin.parameters(), model.parameters(), strict=True)
    )


def test_the_example_keeps_the_contract_and_joins_the_catalogue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = Path(__file__).parents[2] / "examples" / "own_remedy.py"
    spec = importlib.util.spec_from_file_location("own_remedy_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "own_remedy_example", module)
    spec.loader.exec_module(module)
    module.test_it_keeps_the_contract()
    group = "isograd.remedies"
    assert f'{group}"]' in module.__doc__
    point = importlib.metadata.EntryPoint("x", "own_remedy_example:LessDropout", group)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [point])
    assert isinstance(Catalogue(group, Remedy)["less-dropout"], module.LessDropout)  # type: ignore[type-abstract]
