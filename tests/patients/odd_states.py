"""Odd patients: those that keep, change or create things while they run."""

import threading
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patients.odd_calls import points
from patients.patient import Patient, seeded


class Moving(nn.Module):
    """Buffers change at every forward: one in place, one replaced, one counted."""

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(7, 11), nn.Linear(11, 5)
        self.register_buffer("mean", torch.zeros(11))
        self.register_buffer("last", torch.zeros(11), persistent=False)
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x) - self.mean)
        self.mean.lerp_(x.detach().mean(0), 0.1)
        self.last = x.detach().amax(0)
        self.calls += 1
        return self.c(x)


@seeded
def moving_buffers() -> Patient:
    return Patient(Moving(), points())


class Remembering(nn.Module):
    """Keeps tensors, lists and numbers as plain attributes."""

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(7, 11), nn.Linear(11, 5)
        self.state, self.log, self.calls = torch.zeros(11), [], 0
        self.cache: dict[str, Any] = {"old": torch.ones(2)}

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x) + self.state)
        self.state.add_(0.1)
        self.log.append(x.detach())
        self.cache["new"], self.calls = x, self.calls + 1
        self.output = x
        return self.c(x)


@seeded
def remembering() -> Patient:
    return Patient(Remembering(), points())


class Carrying(nn.Module):
    """Hands its hidden state, graph cut, to the next call; answers differently the second time."""

    def __init__(self):
        super().__init__()
        self.cell, self.head, self.hidden = nn.GRUCell(7, 11), nn.Linear(11, 5), None

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.new_zeros(len(x), 11) if self.hidden is None else self.hidden
        hidden = self.cell(x, hidden)
        self.hidden = hidden.detach()
        return self.head(hidden)


@seeded
def carrying() -> Patient:
    return Patient(Carrying(), points())


class Growing(nn.Module):
    """Creates a layer at its first forward, and a throw-away one at every forward."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(7, 11)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        if not hasattr(self, "head"):
            self.head = nn.Linear(11, 5)
        return self.head(nn.LayerNorm(11)(x))


@seeded
def growing() -> Patient:
    return Patient(Growing(), points())


class Hidden(nn.Module):
    """Layers in a plain list, which torch does not know of."""

    def __init__(self):
        super().__init__()
        self.a, self.c, self.plain = nn.Linear(7, 11), nn.Linear(11, 5), [nn.Linear(11, 11)]

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.tanh(self.plain[0](torch.tanh(self.a(x)))))


@seeded
def layers_in_a_list() -> Patient:
    return Patient(Hidden(), points())


class Weird(nn.Module):
    """Slots, a property that raises, things that cannot be copied or compared."""

    __slots__ = ("slotted",)

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(7, 11), nn.Linear(11, 5)
        self.slotted, self.lock, self.stream = 3, threading.Lock(), (i for i in range(3))
        self.array = torch.arange(6).numpy()
        self.itself = [self]

    @property
    def forbidden(self) -> int:
        raise RuntimeError("this property raises")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = nn.Module.__hash__

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return self.c(torch.tanh(self.a(x)))


@seeded
def weird_attributes() -> Patient:
    return Patient(Weird(), points())


class Called(nn.Linear):
    """Overrides `__call__`, as wrappers do."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return 1.0 * super().__call__(*args, **kwargs)


class Bypassed(nn.Module):
    """Calls `forward` of its layers, past their hooks."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = Called(7, 11), nn.Linear(11, 11), nn.Linear(11, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.tanh(self.b.forward(torch.tanh(self.a(x)))))


@seeded
def call_overridden() -> Patient:
    return Patient(Bypassed(), points())


class Wrapper(nn.Module):
    """Hands unknown attributes to the wrapped model, and is called through `__call__` alone."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def __call__(self, x: Tensor) -> Tensor:
        return self.inner(x)


@seeded
def wrapper() -> Patient:
    return Patient(Wrapper(nn.Sequential(nn.Linear(7, 11), nn.ELU(), nn.Linear(11, 5))), points())


@seeded
def eval_mode() -> Patient:
    model = nn.Sequential(
        nn.Linear(7, 11), nn.BatchNorm1d(11), nn.ReLU(), nn.Dropout(0.5), nn.Linear(11, 5)
    )
    return Patient(model.eval(), points())


class Quantizer(nn.Module):
    """A code book that moves by averages inside the forward, as frozen parameters."""

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(7, 6), nn.Linear(6, 5)
        self.codes = nn.Parameter(torch.randn(13, 6), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        nearest = torch.cdist(x, self.codes).argmin(1)
        chosen = self.codes[nearest]
        with torch.no_grad():
            self.codes.index_add_(0, nearest, 0.1 * (x - chosen))
        return self.c(x + (chosen - x).detach())


@seeded
def code_book() -> Patient:
    return Patient(Quantizer(), points())


class Drawing(nn.Module):
    """Random depth, random noise: every call takes its own way."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(7, 11), nn.Linear(11, 11), nn.Linear(11, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x + 0.1 * torch.randn_like(x)))
        if torch.rand(()) < 0.5:
            x = torch.tanh(self.b(x))
        return self.c(F.dropout(x, 0.2))


@seeded
def random_depth() -> Patient:
    return Patient(Drawing(), points())
