"""repair(): says what a change leaves, trains before it calls healthy, refuses what has no copy."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isograd
from isograd.errors import InputError
from isograd.reporting import render
from patients import data
from patients.dense import mlp
from patients.ill import he, stack


class Cut(nn.Module):
    """Two layers of three get no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.relu(self.b(F.relu(self.a(x)))).detach())


def digits(count: int = 12) -> list[tuple[Tensor, Tensor]]:
    x, y = data.digits(count * 64)
    return list(zip(x.split(64), y.split(64), strict=True))


def adam(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3)


@pytest.fixture(scope="module")
def cut() -> isograd.Repair:
    torch.manual_seed(0)
    return isograd.repair(Cut(), digits()[0], optimizer=adam, data=digits())


def test_a_gain_beside_an_error_that_stands_is_no_repair(cut: isograd.Repair) -> None:
    assert cut.comparison.better
    assert cut.changed
    assert cut.verdict == "improved"
    assert [f.code for f in cut.after.findings if f.severity.value == "error"] == ["IG103"]
    assert "IG103 graph-cut stands" in cut.reason
    assert "yours to do: Remove `detach`" in cut.reason


@pytest.mark.parametrize("form", ["text", "markdown", "html", "html-fragment", "json"])
def test_every_form_says_what_stands_and_what_to_do(cut: isograd.Repair, form: str) -> None:
    told = render(cut, form)
    if form == "json":
        plain = json.loads(told)
        assert plain["verdict"] == "improved"
        told = plain["reason"]
    else:
        assert "better, but not repaired: optimizer-lr" in told
        assert "✓ repaired" not in told
    assert "IG103 graph-cut" in told
    assert "yours to do" in told.lower()


@pytest.mark.parametrize("with_data", [True, False])
def test_without_an_optimizer_a_copy_is_trained_with_adam(with_data: bool) -> None:
    torch.manual_seed(0)
    model = he(mlp(64, 100, 90, 10))
    done = isograd.repair(model, digits()[0], data=digits() if with_data else None)
    assert done.verdict == "healthy"
    assert done.optimizer is None
    assert done.cost.steps == 8
    assert "a copy learned in 8 steps" in done.reason
    assert any("trials train with Adam" in note for note in done.notes)


def test_what_adam_cannot_train_may_be_healthy() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.EmbeddingBag(50, 32, sparse=True), nn.Linear(32, 10))
    done = isograd.repair(model, (torch.randint(50, (64, 5)), torch.randint(10, (64,))))
    assert done.verdict == "healthy"
    assert "nothing was trained" in done.reason
    assert any("sparse gradients" in note for note in done.notes)


def test_data_that_does_not_fit_is_refused_without_an_optimizer_too() -> None:
    torch.manual_seed(0)
    batches = digits()
    other = [(torch.randn(64, 3), batches[0][1])] * 9
    with pytest.raises(InputError, match=r"batches of data= have to be|every batch of data"):
        isograd.repair(he(mlp(64, 100, 90, 10)), batches[0], data=other)


@pytest.mark.parametrize("budget", [300, 12])
def test_an_ill_network_that_cannot_be_copied_is_refused(budget: int) -> None:
    torch.manual_seed(0)
    model = stack(12, nn.ReLU, width=32)
    model[2].stream = (i for i in range(3))
    told = r"cannot be copied \(TypeError.*attribute 'stream' of the module '2'.*__deepcopy__"
    with pytest.raises(InputError, match=told):
        isograd.repair(model, digits()[0], optimizer=adam, data=digits(), budget=budget)


def test_a_healthy_network_that_cannot_be_copied_is_left_alone() -> None:
    torch.manual_seed(0)
    model = he(mlp(64, 100, 90, 10))
    model.stream = (i for i in range(3))
    done = isograd.repair(model, digits()[0], optimizer=adam, data=digits())
    assert done.verdict == "healthy"
    assert any("attribute 'stream' of the model" in note for note in done.notes)


class Length(nn.Module):
    """Lengths of rectified vectors, whose derivative at 0 is infinite."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, (x * 0 + F.relu(x)).pow(2).sum(1, keepdim=True).sqrt()], 1)


def test_what_breaks_on_another_batch_than_the_first_is_looked_at_there() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(64, 6), Length(), nn.Linear(7, 10))
    x, y = data.digits(768)
    with torch.no_grad():
        off = model[0](x).amax(1) <= 0  # lengths of 0
    assert bool(off.any())
    first = x[~off][:64], y[~off][:64]
    parts = zip(x[~off].split(64), y[~off].split(64), strict=True)
    batches = [(torch.cat([x[off], xs]), torch.cat([y[off], ys])) for xs, ys in parts]
    assert "local-nan" not in {f.cause for f in isograd.check(model, first).findings}
    done = isograd.repair(model, first, F.cross_entropy, optimizer=adam, data=batches, budget=100)
    assert done.before.findings[0].cause == "local-nan"
    assert "backward pass of `sqrt` in 1" in done.before.findings[0].message
    assert done.remedies == ("gradient-finite",)
