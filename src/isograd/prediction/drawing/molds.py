"""Molds: layers of torch.nn that a recorded model has many of, made once and then cast.

Making and drawing one `Linear` takes a dozen torch functions, each of them intercepted. The next
one of the same class and arguments has the same settings and laws, and other random numbers; what
its construction depends on beside its arguments has to be as it was, and torch's own.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, wraps
from operator import itemgetter
from types import BuiltinFunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

from isograd.prediction.drawing import draws
from isograd.prediction.drawing.draws import Draw, Values
from isograd.prediction.drawing.recorded import HELD, parameter, recorded
from isograd.prediction.drawing.rulebook import session

_KINDS: frozenset[Any] = frozenset(
    kind
    for kind in vars(nn).values()
    if isinstance(kind, type) and issubclass(kind, nn.Module) and hasattr(kind, "reset_parameters")
)
"""Classes that draw parameters of their own."""
_OWNERS = {next(one for one in kind.__mro__ if "__init__" in vars(one)) for kind in _KINDS}
_PLAIN = frozenset((bool, int, float, str, type(None), torch.dtype))
_ARGUMENTS = _PLAIN | {tuple, torch.Size, torch.device}
_CONTAINERS = frozenset((dict, OrderedDict, set))
_inits = itemgetter(*(n for n in vars(nn.init) if n.endswith("_") and not n.endswith("__")))
_methods = itemgetter("__init__", "__setattr__", "register_parameter", "register_buffer")


class _Parameter(NamedTuple):
    """How a parameter is made."""

    shape: torch.Size
    dtype: torch.dtype
    trained: bool
    values: Values

    def cast(self) -> nn.Parameter:
        """Another one, of the same law."""
        return parameter(self.shape, self.dtype, self.trained, draws.renamed(self.values))


class _Mold(NamedTuple):
    """A layer as its construction leaves it."""

    around: tuple[Any, ...]
    """What that depended on."""
    settings: dict[str, Any]
    """Attributes in their order, None in the place of containers."""
    containers: list[tuple[str, type]]
    parameters: list[tuple[str, _Parameter | None]]
    buffers: list[tuple[str, Tensor | None]]

    def cast(self, own: dict[str, Any]) -> None:
        """Fills the attributes of a module that has none yet."""
        own.update(self.settings)
        for name, kind in self.containers:
            own[name] = kind()
        with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
            for name, one in self.parameters:
                own["_parameters"][name] = one and one.cast()
            for name, buffer in self.buffers:
                own["_buffers"][name] = None if buffer is None else buffer.clone()


def _modes() -> tuple[int, int]:
    return torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()


def _around(kind: Any) -> tuple[Any, ...]:
    """What construction depends on beside its arguments; functions come last."""
    return (
        _modes(),
        len(registration._global_parameter_registration_hooks),
        len(registration._global_buffer_registration_hooks),
        torch.get_default_dtype(),
        torch.empty,
        kind.reset_parameters,
        *_methods(vars(nn.Module)),
        *_inits(vars(nn.init)),
    )


def _is_torchs(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename.startswith(torch.__path__[0])


def _mold(around: tuple[Any, ...], own: dict[str, Any]) -> _Mold:
    """What makes another layer with such attributes.

    Raises:
        LookupError: that might come out differently.
    """
    if around[:3] != (session.modes, 1, 1) or type(torch.empty) is not BuiltinFunctionType:
        raise LookupError
    if not all(map(_is_torchs, around[5:])):
        raise LookupError
    settings: dict[str, Any] = {}
    containers: list[tuple[str, type]] = []
    for name, value in own.items():
        settings[name] = value
        if type(value) in _CONTAINERS and (not value or name in ("_parameters", "_buffers")):
            settings[name] = None
            containers.append((name, type(value)))
        elif not all(type(one) in _PLAIN for one in (value if type(value) is tuple else (value,))):
            raise LookupError
    with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
        parameters = [(name, _parameter(one)) for name, one in own["_parameters"].items()]
        buffers = [(name, _buffer(one)) for name, one in own["_buffers"].items()]
    drawn = [one.values for _, one in parameters if one and isinstance(one.values, Draw)]
    roots = [values.root for values in drawn if not values.is_constant]
    if len(set(roots)) < len(roots):
        raise LookupError  # one is made of another
    return _Mold(around, settings, containers, parameters, buffers)


def _parameter(one: Tensor | None) -> _Parameter | None:
    if one is None:
        return None
    kept = recorded(one)
    if kept is None or type(one) is not nn.Parameter or not one.is_contiguous():
        raise LookupError
    if kept.writes or kept.derived or kept.shared or one.__dict__.keys() != HELD:
        raise LookupError
    return _Parameter(one.shape, one.dtype, one.requires_grad, kept.values)


def _buffer(one: Tensor | None) -> Tensor | None:
    if one is not None and (type(one) is not Tensor or one.is_meta):
        raise LookupError
    return None if one is None else one.clone()


_replaced: dict[Any, Any] = {}
"""`__init__` of classes of torch, while somebody records."""
_lock = threading.Lock()
_recordings = 0


@contextmanager
def casting() -> Iterator[None]:
    """Lets layers of torch.nn be cast, in threads whose recording is active."""
    global _recordings
    session.modes = _modes()
    with _lock:
        if not _recordings:
            for owner in _OWNERS:
                if _is_torchs(owner.__init__):
                    _replaced[owner] = owner.__init__
                    owner.__init__ = _made(owner.__init__)
        _recordings += 1
    try:
        yield
    finally:
        with _lock:
            _recordings -= 1
            if not _recordings:
                for owner, before in _replaced.items():
                    if getattr(owner.__init__, "__wrapped__", None) is before:
                        owner.__init__ = before
                _replaced.clear()


@cache
def _made(before: Callable[..., None]) -> Callable[..., None]:
    """An `__init__` that casts where it can."""

    @wraps(before)
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        kind, own = type(self), vars(self)
        types = *map(type, args), *map(type, kwargs.values())
        plain = session.active and not own and kind in _KINDS and _ARGUMENTS.issuperset(types)
        if not plain or kind.__init__ is not made:
            before(self, *args, **kwargs)
            return
        key, around = (kind, args, *kwargs.items(), types), _around(kind)
        mold = session.molds.get(key)
        if mold is not None and mold.around == around:
            mold.cast(own)
            return
        before(self, *args, **kwargs)
        with suppress(LookupError):
            session.molds[key] = _mold(around, own)

    return made
