"""Recording: a model built without its parameters, every initialization noted instead of done.

Inside `recording()` tensors made by `torch.empty`, `torch.randn` and the like are on the meta
device and `nn.init`, `normal_`, `mul_` … only note how their values would be distributed. What is
no random number (zeros, ranges, masks, rotary tables) is computed for real, unless it is a large
parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from isograd.errors import PredictionError
from isograd.prediction.drawing import altering, draws, filling, molds
from isograd.prediction.drawing.draws import EMPTY, Draw, Law, Unknown
from isograd.prediction.drawing.recorded import (
    MOST_VALUES,
    Recorded,
    attach,
    become,
    can_be_real,
    of_real,
    read,
    real,
    record,
    recorded,
)
from isograd.prediction.drawing.refusals import refusal
from isograd.prediction.drawing.rulebook import RULES, Call, make_recorded, session, tensors, untold
from isograd.sites.tree import modules_of, named_parameters

__all__ = ["Law", "law_of", "recording", "same_values", "values_law"]

_LARGE_PARAMETER = 1_000_000
"""Entries from which a real parameter that is all one number goes to the meta device."""
_NOISE = 4.0
"""Standard errors of the mean within which it is taken for 0: a mean that is mere sampling noise
would be multiplied by the square of the width."""
_PLAIN = frozenset(
    "size dim stride ndimension element_size requires_grad_ is_contiguous is_floating_point "
    "is_complex storage_offset __hash__ __len__ _is_view untyped_storage __repr__".split()
)
"""Methods that answer the same for a tensor on the meta device."""
_AS_THEY_ARE = frozenset(
    (Tensor.dim, Tensor.size, *(getattr(Tensor, name).__get__ for name in ("grad_fn", "shape")))
)
"""Of these the ones that construction calls most, told without their names."""
_OUT = frozenset("eye normal empty rand randn zeros ones full normalize".split())
"""Functions that take care of `out=` themselves."""
_PRETENDED = {"device": torch.device("cpu"), "is_cpu": True, "is_meta": False}
"""What a recorded tensor says of itself: code asks, to put masks and positions beside it."""
_CHANGED = frozenset((*_PRETENDED, "data"))
"""Attributes that are not read as they are."""


@contextmanager
def recording() -> Iterator[None]:
    """Builds models without parameters: `with isograd.recording(): model = Net()`.

    Nothing is drawn and no generator moves. Afterwards `law_of` tells the law of each parameter,
    also after `model.half()`, `copy.deepcopy(model)` or tying.

    Raises:
        PredictionError: where construction needs values of what was only recorded.
    """
    if session.active:
        yield
        return
    with ExitStack() as stack:
        mode = _Recorder()
        hooks: Any = registration
        stack.callback(hooks.register_module_parameter_registration_hook(mode.on_parameter).remove)
        stack.callback(hooks.register_module_buffer_registration_hook(mode.on_buffer).remove)
        stack.callback(session.reset)
        session.active = True
        stack.enter_context(_Below())  # type: ignore[no-untyped-call]  # torch leaves it so
        stack.enter_context(mode)
        stack.enter_context(molds.casting())
        yield


class _Recorder(TorchFunctionMode):
    """Sends torch functions to their rules, and watches what modules register."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _AS_THEY_ARE:
            return func(*args, **kwargs) if kwargs else func(*args)
        name = getattr(func, "__name__", "")
        if name in _PLAIN or (name == "__get__" and func.__self__.__name__ not in _CHANGED):
            return func(*args, **kwargs) if kwargs else func(*args)
        with torch._C._DisableTorchDispatch():  # a torch function may make tensors of its own
            return self._call(name, func, args, kwargs or {})

    @staticmethod
    def _call(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name in ("__get__", "__set__"):
            return _attribute(func, args, setting=name == "__set__")
        call = Call(name, func, args, kwargs)
        if call.kwargs.get("out") is not None and name not in _OUT:
            return untold(call)
        result = RULES.get(name, untold)(call)
        if isinstance(result, Tensor) and args and name not in filling.FACTORIES:
            _inherit(result, call)
        return result

    def on_parameter(self, module: nn.Module, name: str, param: Tensor | None) -> None:
        """Lets a parameter hold its record; what is unknown of it is an error now."""
        if not session.active or param is None or type(param) is not nn.Parameter:
            return
        with torch._C.DisableTorchFunction():
            kept = recorded(param)
            if kept is None and not param.is_meta:
                session.registered.add(id(param))
                if param.numel() > _LARGE_PARAMETER:
                    with torch._C._DisableTorchDispatch():
                        kept = _forget(param)
            if kept is None:
                return
            values = read(param, kept) if kept.writes else kept.values
            if isinstance(values, Unknown) and values is not EMPTY:
                call = f"the parameter {name!r} of {type(module).__name__}"
                raise refusal(call, values.cause)
            attach(param, kept)

    def on_buffer(self, module: nn.Module, name: str, buffer: Tensor | None) -> Tensor | None:
        """Makes buffers real that are mere numbers."""
        if not session.active or buffer is None:
            return None
        with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
            kept = recorded(buffer)
            if kept is None:
                return None
            values = read(buffer, kept)
            if isinstance(values, Unknown) and values is not EMPTY:
                raise refusal(f"the buffer {name!r} of {type(module).__name__}", values.cause)
            if can_be_real(buffer, kept):
                become(buffer, real(buffer, kept))
                return None
            if isinstance(values, Draw) and values.is_constant and not kept.registered:
                return torch.full(buffer.shape, values.shift, dtype=buffer.dtype)
            attach(buffer, kept)
            return None


def _inherit(result: Tensor, call: Call) -> None:
    """What is computed from weights is no number to be drawn at will."""
    made = None if result is call.args[0] else recorded(result)
    if made is not None and not made.registered:
        sources = map(recorded, tensors(*call.args))
        made.derived = any(one and (one.registered or one.derived) for one in sources)


class _Below(TorchDispatchMode):
    """Sees what function modes do not: `torch.Tensor(3, 5)` and `parameter.set_(values)`."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: marking this mode for torch's compiler would import all of that."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
            return self._call(func, args, kwargs or {})

    @staticmethod
    def _call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is torch.ops.aten.set_.source_Tensor:
            return altering.set_data(Call("set_", func, args, kwargs))
        dtype = kwargs.get("dtype") or torch.get_default_dtype()
        if func is not torch.ops.aten.empty.memory_format or not dtype.is_floating_point:
            return func(*args, **kwargs)
        return record(func(*args, **{**kwargs, "device": torch.device("meta")}), EMPTY)


def _forget(param: nn.Parameter) -> Recorded | None:
    """Lets go of the memory of a large parameter that is all one number."""
    flat = param.detach().flatten()
    if (flat[:: 1 + flat.numel() // 1000] != flat[0]).any():
        return None
    low, high = (float(end) for end in flat.aminmax())
    return make_recorded(param, draws.constant(low)) if low == high else None


def _attribute(func: Any, args: tuple[Any, ...], *, setting: bool) -> Any:
    """An attribute of a tensor, such as `weight.data` or `weight.device`."""
    name = func.__self__.__name__
    if setting and name == "data":
        return altering.set_data(Call("data", func, args, {}))
    if setting:
        return func(*args)
    if name == "is_meta" and filling.asked_by_init(args[0]):
        return True
    kept = recorded(args[0])
    if kept is None:
        return func(*args)
    if name == "data":
        kept.shared = True
        return func(*args)
    return _PRETENDED[name]


def law_of(tensor: Tensor) -> Law | None:
    """How the values of a tensor made under `recording()` are distributed.

    None for a real tensor, and where nothing filled it or its values are not finite.
    """
    with torch._C.DisableTorchFunction():
        kept = recorded(tensor)
        values = None if kept is None else read(tensor, kept)
        if not isinstance(values, Draw) or not math.isfinite(values.mean + values.variance):
            return None
    law = values.law
    return _without_noise(law, tensor.numel()) if law.kind == "values" else law


def values_law(tensor: Tensor) -> Law:
    """Mean and variance of the values of a real tensor, of a large one from a sample.

    A mean within four standard errors of 0 is taken for 0.
    """
    with torch._C.DisableTorchFunction():
        if tensor.is_meta:
            raise PredictionError(
                "values_law: a tensor on the meta device has no values; build the model inside "
                "isograd.recording(), so that law_of() knows them"
            )
        values = of_real(tensor)
        if isinstance(values, Unknown):
            raise PredictionError(
                f"values_law: a tensor of shape {list(tensor.shape)} has no mean and variance: "
                f"{values.cause}; predict from a model of finite real numbers"
            )
    return _without_noise(values.law, tensor.numel())


def _without_noise(law: Law, n: int) -> Law:
    """The law of n values, with a mean that may be mere sampling noise taken for 0."""
    if law.mean**2 * min(n, MOST_VALUES) < _NOISE**2 * law.variance:
        return Law(0.0, law.variance + law.mean**2, law.kind)
    return law


def same_values(model: nn.Module) -> list[list[str]]:
    """Names of different parameters that hold the same initial values, group by group.

    `nn.TransformerEncoder` copies one layer, and so does `copy.deepcopy`. Parameters that are all
    one number (biases, norms) are left out.
    """
    named = named_parameters(modules_of(model))
    return [[name for name, _ in group] for group in sharing(named)]


def sharing(named: Sequence[tuple[str, Tensor]]) -> list[list[tuple[str, Tensor]]]:
    """Groups of parameters that hold the same initial values."""
    with torch._C.DisableTorchFunction():
        likely = _grouped(named, _storage)
        several = [part for group in likely for part in _grouped(group, _fingerprint)]
        return [part for group in several for part in _equal(group)]


def _grouped(
    named: Sequence[tuple[str, Tensor]], key_of: Callable[[Tensor], Any]
) -> list[list[tuple[str, Tensor]]]:
    """Those that have a key in common with others."""
    groups: dict[Any, list[tuple[str, Tensor]]] = {}
    for one in named:
        if (key := key_of(one[1])) is not None:
            groups.setdefault(key, []).append(one)
    return [group for group in groups.values() if len(group) > 1]


def _storage(param: Tensor) -> Any:
    """What `_fingerprint` tells of a whole storage, in half the time."""
    kept = recorded(param)
    if kept is None:
        return _fingerprint(param)
    values = read(param, kept) if kept.writes else kept.values
    return None if isinstance(values, Unknown) or values.is_constant else values.identity


def _fingerprint(param: Tensor) -> Any:
    """Different for most parameters of different values; None where values are no draws."""
    kept = recorded(param)
    if kept is not None:
        values = read(param, kept)
        if isinstance(values, Unknown) or values.is_constant:
            return None
        return tuple(param.shape), values.identity
    if param.is_meta or not param.numel():
        return None
    flat = param.detach().flatten()
    return tuple(param.shape), tuple(flat[:: 1 + flat.numel() // 16].tolist())


def _equal(group: list[tuple[str, Tensor]]) -> Iterable[list[tuple[str, Tensor]]]:
    """The parts of a group whose values are the same, each of more than one."""
    while group:
        first = group[0][1]
        if first.is_meta:
            yield group
            return
        same = [one for one in group if torch.equal(one[1], first)]
        group = group[1:] if not same else [x for x in group if not torch.equal(x[1], first)]
        if len(same) > 1 and first.min() != first.max():
            yield same
