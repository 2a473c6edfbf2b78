"""Networks that do something else than their code and the size of their weights say."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patients.patient import Build, Patient, seeded

WIDTH, INPUTS, CLASSES = 97, 31, 10


class Steep(torch.autograd.Function):
    """tanh with a backward that is twenty times its derivative."""

    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return 20 * gradient * (1 - y * y)


class Exact(torch.autograd.Function):
    """tanh with its own derivative."""

    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient * (1 - y * y)


class Call(nn.Module):
    """Any function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Doubled(nn.Module):
    """A residual connection that adds the layer to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        return y + y


class Overwritten(nn.Module):
    """A residual connection whose skip path the activation overwrites."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc(F.relu(x, inplace=True))


class OneMask(nn.Module):
    """Dropout whose mask was drawn once for all."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", (torch.rand(WIDTH) > 0.5).float() * 2)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask


def through_a_view(x: Tensor) -> Tensor:
    """Scales its result by five, through a view of it."""
    y = torch.tanh(x) * 1.0
    y.view(-1).mul_(5.0)
    return y


def straight_through(x: Tensor) -> Tensor:
    """Rounds to quarters, with the gradient of the identity."""
    y = torch.tanh(x)
    return y + ((y * 4).round() / 4 - y).detach()


def network(*middle: nn.Module, change: Callable[[nn.Sequential], object] | None = None) -> Build:
    """Four tanh layers with `middle` between them, and their batch."""

    def hidden() -> Patient:
        model = nn.Sequential(
            nn.Linear(INPUTS, WIDTH),
            nn.Tanh(),
            nn.Linear(WIDTH, WIDTH),
            *(middle or (nn.Tanh(),)),
            nn.Linear(WIDTH, WIDTH),
            nn.Tanh(),
            nn.Linear(WIDTH, CLASSES),
        )
        if change is not None:
            with torch.no_grad():
                change(model)
        return Patient(model, (torch.randn(128, INPUTS), torch.randint(CLASSES, (128,))))

    return seeded(hidden)


def hook(model: nn.Sequential) -> None:
    """A hook that makes the gradient twenty times smaller."""
    model[3].register_full_backward_hook(lambda module, into, out: (0.05 * into[0],))


def rank_one(model: nn.Sequential) -> None:
    model[2].weight.copy_(torch.outer(torch.randn(WIDTH), torch.randn(WIDTH)) / WIDTH**0.5)


def equal_rows(model: nn.Sequential) -> None:
    model[2].weight.copy_(model[2].weight[:1].clone().expand(WIDTH, WIDTH))


def fitted() -> Build:
    """Inputs in three directions, and a first layer whose weights lie in them."""

    def patient() -> Patient:
        made = network()()
        basis = torch.randn(3, INPUTS) / 3**0.5
        with torch.no_grad():
            made.model[0].weight.copy_(torch.randn(WIDTH, 3) @ basis / INPUTS**0.5)
        return Patient(made.model, (torch.randn(128, 3) @ basis, made.batch[1]))

    return seeded(patient)


@dataclass(frozen=True)
class Hidden:
    """A network, and where the difference is."""

    build: Build
    site: str
    severity: str
    says: str
    """Words of the message."""


HIDDEN = {
    "wrong backward": Hidden(network(Call(Steep.apply)), "2", "warning", "dLoss/d(output) of 2"),
    "hook": Hidden(network(change=hook), "2", "warning", "less than theory predicts"),
    "through a view": Hidden(network(Call(through_a_view)), "4", "info", "output of 4"),
    "rank one": Hidden(network(change=rank_one), "2.weight", "info", "a weight of rank 1"),
    "equal rows": Hidden(network(change=equal_rows), "2.weight", "info", "nearly parallel"),
    "fitted to the data": Hidden(fitted(), "0", "info", "times what theory predicts"),
}
"""Those in which something is hidden."""

OPEN = {
    "nothing odd": network(),
    "exact backward": network(Call(Exact.apply)),
    "straight through": network(Call(straight_through)),
    "x + x": network(Doubled()),
    "overwritten skip": network(Overwritten()),
    "one mask": network(nn.Tanh(), OneMask()),
    "scaled in the open": network(Call(functools.partial(torch.mul, torch.tensor(7.0)))),
}
"""Odd, but the code says so: theory follows it."""
