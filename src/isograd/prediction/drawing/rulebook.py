"""Rules: torch functions by name, and what becomes of recorded values in functions without one.

Rules are found by the function's name, so that `torch.mul`, `Tensor.mul` and another library's
wrapper of `init.normal_` come out at the same one. They run with interception switched off.

A function without a rule keeps views what they are; on tensors that are mere numbers it runs for
real; of any other result nothing is known, which is an error as soon as a parameter is to hold it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isograd.prediction.drawing import draws
from isograd.prediction.drawing.draws import EMPTY, Draw, Unknown, Values
from isograd.prediction.drawing.recorded import (
    Recorded,
    attach,
    become,
    can_be_real,
    on_meta,
    read,
    real,
    record,
    recorded,
    write,
)
from isograd.prediction.drawing.refusals import refusal, where

Rule = Callable[["Call"], Any]
RULES: dict[str, Rule] = {}
"""Rule by name of the torch function."""


class Session(threading.local):
    """What the recording of this thread knows."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Back to where no recording is going on."""
        self.active = False
        self.registered: set[int] = set()
        """Ids of real parameters that were registered in it; those made before are left alone."""
        self.modes = (0, 0)
        """How many modes of torch functions and of dispatch there are."""
        self.molds: dict[Any, Any] = {}
        """Layers of torch.nn that were made in it, by class and arguments."""


session = Session()

MOST_REAL = 2**26
"""Entries up to which a tensor that is a mere number becomes a real one when it has to."""


class Call(NamedTuple):
    """One intercepted call of a torch function."""

    name: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def argument(self, place: int, names: str, default: Any = None) -> Any:
        """One argument, by its place or by one of its names (separated by spaces)."""
        if len(self.args) > place:
            return self.args[place]
        if names in self.kwargs:
            return self.kwargs[names]
        if self.kwargs:
            for name in names.split():
                if name in self.kwargs:
                    return self.kwargs[name]
        return default

    def target(self) -> tuple[Any, Recorded | None]:
        """The first argument, and what is recorded of it."""
        tensor = self.args[0] if self.args else self.argument(0, "tensor input self")
        return tensor, recorded(tensor) if isinstance(tensor, Tensor) else None

    def others(self) -> list[Tensor]:
        """The other tensors among the arguments."""
        return tensors(*self.args[1:], *self.kwargs.values())

    @property
    def is_in_place(self) -> bool:
        """Whether the first argument is changed."""
        name = self.name
        if self.kwargs.get("inplace"):
            return True
        return name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))

    def plainly(self) -> Any:
        """The result for tensors that are real."""
        return self.func(*self.args, **self.kwargs)

    def run(self, change: Callable[[Tensor], Tensor] = on_meta) -> Any:
        """The result with every tensor changed; on the meta device, if not told otherwise."""
        with torch.no_grad():
            kwargs = {key: mapped(value, change) for key, value in self.kwargs.items()}
            return self.func(*(mapped(one, change) for one in self.args), **kwargs)


_MOST_DRAWN = 1_000_000
"""Entries up to which random numbers that are no weights are drawn after all if they have to."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule for the functions of these names."""

    def add(one: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, one))
        return one

    return add


def note(name: str, tensor: Tensor, kept: Recorded, values: Values) -> Tensor:
    """Notes new values of a tensor; of what a module holds they have to be known."""
    if isinstance(values, Unknown) and values is not EMPTY and kept.registered:
        raise refusal(name, values.cause)
    write(tensor, kept, values)
    if type(tensor) is torch.nn.Parameter:
        attach(tensor, kept)
    return tensor


def combine(function: Callable[[Draw, Draw], Values], x: Values, y: Values) -> Values:
    """A function of two draws; what is not known stays so."""
    if isinstance(x, Unknown):
        return x
    return y if isinstance(y, Unknown) else function(x, y)


def tensors(*values: Any) -> list[Tensor]:
    """All tensors among values, in lists too."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += tensors(*value)
    return found


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same arguments with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(mapped(one, change) for one in value)
    return value


def number(tensor: Tensor) -> Tensor:
    """The real tensor, if a recorded one is a mere number."""
    kept = recorded(tensor)
    return tensor if kept is None else real(tensor, kept)


def are_numbers(among: list[Tensor]) -> bool:
    """Whether all recorded ones among them are one known number each."""
    held = [(one.numel(), read(one, kept)) for one in among if (kept := recorded(one))]
    return all(isinstance(x, Draw) and x.is_constant and size <= MOST_REAL for size, x in held)


def drawn(tensor: Tensor) -> Tensor:
    """Real values of a recorded tensor's law; the tensor itself if it is real."""
    kept = recorded(tensor)
    if kept is None:
        return tensor
    values = read(tensor, kept)
    if isinstance(values, Unknown):
        raise refusal("a copy into a real tensor", values.cause)
    return draws.realised(values, tensor.shape).to(tensor.dtype)


def can_be_drawn(among: list[Tensor]) -> bool:
    """Whether all recorded ones among them are small random numbers, and no weights."""
    held = [(one, kept) for one in among if (kept := recorded(one))]
    if any(kept.registered or kept.derived or one.numel() > _MOST_DRAWN for one, kept in held):
        return False
    return all(isinstance(read(one, kept), Draw) for one, kept in held)


def make_real(tensor: Tensor, kept: Recorded) -> bool:
    """Turns a tensor that is a mere number so far into a real one, if that can be done."""
    if not can_be_real(tensor, kept) or tensor.numel() > MOST_REAL:
        return False
    become(tensor, real(tensor, kept))
    return True


def make_recorded(tensor: Tensor, values: Values = EMPTY) -> Recorded | None:
    """Turns a real parameter of a new module into a recorded one, if that can be done."""
    if id(tensor) not in session.registered or not tensor.is_floating_point():
        return None
    try:
        become(tensor, record(torch.empty_like(tensor.data, device="meta"), values))
    except RuntimeError:  # somebody holds on to it
        return None
    kept = recorded(tensor)
    if kept is not None:
        attach(tensor, kept)
    return kept


# -- functions without a rule -------------------------------------------------------------------

_STRUCTURAL = frozenset(
    "requires_grad_ detach_ squeeze_ unsqueeze_ t_ transpose_ swapaxes_ swapdims_ as_strided_ "
    "share_memory_ rename_ set_".split()
)
"""In-place functions that leave the values alone."""
_NO_VALUES = (RuntimeError, NotImplementedError, TypeError, ValueError)
"""What torch raises where a meta tensor is asked for its values."""


def untold(call: Call) -> Any:
    """Any function without a rule."""
    touched = tensors(*call.args, *call.kwargs.values())
    held = [(one, kept) for one in touched if (kept := recorded(one)) is not None]
    if not held:
        return call.plainly()
    if call.is_in_place and call.name not in _STRUCTURAL:
        return _in_place(call)
    change = number if are_numbers(touched) else drawn if can_be_drawn(touched) else None
    try:
        result = call.run()
    except _NO_VALUES as error:
        if change is not None:
            return call.run(change)
        if call.name == "view" and "stride" in str(error):  # strides on meta are not always those
            return untold(Call("reshape", Tensor.reshape, call.args, call.kwargs))
        if "meta" not in str(error).lower():
            raise
        raise refusal(call.name, _cause(held) or "its argument is only recorded") from error
    made = [one for one in tensors(result) if one.is_meta]
    new = [one for one in made if recorded(one) is None]
    if new and change is not None:
        return call.run(change)
    for one in new:
        record(one, Unknown(_cause(held) or f"the result of {call.name} in {where()}"))
    for one in made:
        if (seen := recorded(one)) is not None:
            seen.shared = seen.shared or all(one is not other for other in touched)
    return result


def _cause(held: list[tuple[Tensor, Recorded]]) -> str:
    """Why the first argument of unknown values has them."""
    values = (read(one, kept) for one, kept in held)
    return next((x.cause for x in values if isinstance(x, Unknown)), "")


def _in_place(call: Call) -> Any:
    tensor, kept = call.target()
    if kept is None:
        raise refusal(call.name, "a real tensor is to be changed by values only recorded")
    if make_real(tensor, kept):
        return call.plainly()
    if can_be_drawn([tensor, *call.others()]) and not (kept.shared or tensor._is_view()):
        become(tensor, drawn(tensor))
        return call.run(drawn)
    return note(call.name, tensor, kept, Unknown(f"the result of {call.name} in {where()}"))
