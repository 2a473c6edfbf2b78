"""Functions of steps: what takes their place passes a gradient to every weight."""

import pytest
import torch
from torch import Tensor, nn

from isograd import remedies
from isograd.errors import RemedyError
from isograd.remedies._examples import classes


class Op(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = getattr(torch, self.name)(x)
        return out


class Weighted(Op):
    """With a weight of its own."""

    def __init__(self) -> None:
        super().__init__("sign")
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * super().forward(x)


class Through(Op):
    """Lets the gradient pass as if it was not there."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (super().forward(x) - x).detach()


class Halves(Op):
    """Gives half as many."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, ::2]


class Inline(nn.Module):
    """Takes the sign in its own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(20, 12), nn.Linear(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(torch.sign(self.first(x)))
        return out


def reached(model: nn.Module, x: Tensor, y: Tensor) -> bool:
    model.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    return all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_signs_become_tanh_and_roundings_go() -> None:
    torch.manual_seed(0)
    sign = Op("sign")  # called twice
    model = nn.Sequential(
        nn.Linear(20, 12), sign, nn.Linear(12, 13), sign, nn.Linear(13, 11), Op("round"),
        nn.Linear(11, 7),
    )  # fmt: skip
    x, y = classes()
    assert not reached(model, x, y)
    change = remedies.apply("activation-steps", model, (x, y))
    assert isinstance(model[1], nn.Tanh)
    assert isinstance(model[3], nn.Tanh)
    assert isinstance(model[5], nn.Identity)
    assert reached(model, x, y)
    change.undo()
    assert model[1] is model[3] is sign


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda: nn.Sequential(nn.Linear(20, 12), Weighted(), nn.Linear(12, 7)), "a part of what"),
        (lambda: nn.Sequential(nn.Linear(20, 12), Halves("sign"), nn.Linear(6, 7)), "a part of"),
        (lambda: Inline(), "the model's own forward"),
        (lambda: nn.Sequential(nn.Linear(20, 12), Through("sign"), nn.Linear(12, 7)), "keeps a"),
        (lambda: nn.Sequential(nn.Linear(20, 12), Op("tanh"), nn.Linear(12, 7)), "keeps a"),
    ],
)
def test_what_cannot_be_exchanged_as_a_whole_is_told(model: object, told: str) -> None:
    with pytest.raises(RemedyError, match=told):
        remedies.apply("activation-steps", model(), classes())  # type: ignore[operator]
