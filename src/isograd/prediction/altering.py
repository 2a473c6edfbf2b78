"""Altering: what torch functions do to values that are recorded already.

Arithmetic, elementwise functions, reductions, copies, writes into parts, other layouts; and what
happens to everything else: views stay what they are, mere numbers are computed for real, and of
the rest nothing is known, which is an error as soon as a parameter is to hold it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from isograd.prediction import draws
from isograd.prediction.draws import EMPTY, REDUCTIONS, Draw, Unknown, Values
from isograd.prediction.initializing import (
    Args,
    Function,
    Kwargs,
    argument,
    combine,
    is_in_place,
    note,
    rule,
    target,
)
from isograd.prediction.places import refusal, where
from isograd.prediction.recorded import (
    Recorded,
    become,
    can_be_real,
    is_whole,
    on_meta,
    operand,
    picked,
    read,
    real,
    record,
    recorded,
    region,
    write_region,
)

_MOST_REAL = 2**26
"""Entries up to which a tensor that is a mere number becomes a real one when it has to."""


def _tensors(*values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(*value)
    return found


def _mapped(value: Any, change: Any) -> Any:
    """The same arguments with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(_mapped(one, change) for one in value)
    return value


def _run(func: Function, args: Args, kwargs: Kwargs, change: Any = on_meta) -> Any:
    with torch.no_grad():
        changed = {key: _mapped(value, change) for key, value in kwargs.items()}
        return func(*(_mapped(one, change) for one in args), **changed)


def _drawn(tensor: Tensor) -> Tensor:
    """Values of a recorded tensor's law, to be put into a real one."""
    kept = recorded(tensor)
    if kept is None:
        return tensor
    values = read(tensor, kept)
    if isinstance(values, Unknown):
        raise refusal("a copy into a real tensor", values.cause)
    return draws.realised(values, tensor.shape).to(tensor.dtype)


def _number(tensor: Tensor) -> Tensor:
    """The real tensor, if a recorded one is a mere number."""
    kept = recorded(tensor)
    return tensor if kept is None else real(tensor, kept)


def _are_numbers(tensors: list[Tensor]) -> bool:
    """Whether all recorded ones among them are one known number each."""
    held = [(one.numel(), read(one, kept)) for one in tensors if (kept := recorded(one))]
    return all(
        isinstance(x, Draw) and x.is_constant and size <= _MOST_REAL for size, x in held
    )


# -- arithmetic ---------------------------------------------------------------------------------


def _sum(x: Draw, y: Draw) -> Values:
    return draws.plus(x, y)


def _difference(x: Draw, y: Draw) -> Values:
    return draws.plus(x, y, -1.0)


_BINARY = {
    "add": _sum,
    "sub": _difference,
    "subtract": _difference,
    "rsub": lambda x, y: draws.plus(y, x, -1.0),
    "mul": draws.times,
    "multiply": draws.times,
    "div": draws.over,
    "divide": draws.over,
    "true_divide": draws.over,
    "rdiv": lambda x, y: draws.over(y, x),
    "truediv": draws.over,
    "rtruediv": lambda x, y: draws.over(y, x),
    "radd": _sum,
    "rmul": draws.times,
}
_BINARY_NAMES = {
    spelling: key
    for key in _BINARY
    for spelling in (key, f"{key}_", f"__{key}__", f"__i{key}__")
}


@rule(*_BINARY_NAMES)
def binary(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """Sums, products and quotients of tensors and numbers."""
    one, other = argument(args, kwargs, 0, "input self"), argument(args, kwargs, 1, "other")
    here = recorded(one) if isinstance(one, Tensor) else None
    there = recorded(other) if isinstance(other, Tensor) else None
    if here is None and there is None:
        return func(*args, **kwargs)
    in_place = is_in_place(name)
    if in_place and here is None:
        return _run(func, args, kwargs, _drawn)
    several = [x for x in (one, other) if isinstance(x, Tensor) and x.numel() > 1]
    if not in_place and len(several) == 2 and _are_numbers(several):
        return _run(func, args, kwargs, _number)
    x, y = operand(one), operand(other)
    if (alpha := kwargs.get("alpha", 1)) != 1 and isinstance(y, Draw):
        y = draws.affine(y, float(alpha), 0.0)
    if kwargs.get("rounding_mode"):
        return untold(name, func, args, kwargs)
    made = combine(_BINARY[_BINARY_NAMES[name]], x, y)
    result = _run(func, args, kwargs)
    return _alter(name, one, here, made) if in_place and here else record(result, made)


def _alter(name: str, tensor: Tensor, kept: Recorded, made: Values) -> Tensor:
    return note(name, tensor, kept, made)


_ELEMENTWISE = """
    abs absolute exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square reciprocal neg negative pow
    float_power sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc erfinv
    sigmoid logit sign sgn floor ceil round trunc frac clamp clamp_min clamp_max clip relu
    relu6 leaky_relu elu selu celu gelu silu mish softplus softsign hardtanh tanhshrink
    logsigmoid nan_to_num __neg__ __abs__ __pow__
""".split()


@rule(*_ELEMENTWISE, *(f"{name}_" for name in _ELEMENTWISE if name[0] != "_"))
def elementwise(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """A function of each entry."""
    tensor, kept = target(args, kwargs)
    others = _tensors(*args[1:], *kwargs.values())
    if kept is None or any(recorded(one) or one.numel() > 1 for one in others if one is not tensor):
        return untold(name, func, args, kwargs)
    made = read(tensor, kept)
    if isinstance(made, Draw):
        made = _elementwise(name, func, made, args[1:], kwargs)
    if is_in_place(name) or kwargs.get("inplace"):
        return note(name, tensor, kept, made)
    return record(_run(func, args, kwargs), made)


def _elementwise(name: str, func: Function, x: Draw, rest: Args, kwargs: Kwargs) -> Values:
    bare = name.strip("_")
    if bare in ("clamp", "clip", "clamp_min", "clamp_max"):
        low = -math.inf if bare == "clamp_max" else argument(rest, kwargs, 0, "min")
        high = argument(rest, kwargs, 0 if bare == "clamp_max" else 1, "max")
        low, high = -math.inf if low is None else low, math.inf if high is None else high
        if draws.is_within(x, float(low), float(high)):
            return x
    if bare in ("neg", "negative"):
        return draws.affine(x, -1.0, 0.0)
    if bare == "erfinv":
        return draws.erfinv(x)
    kwargs = {key: value for key, value in kwargs.items() if not isinstance(value, Tensor)}
    return draws.through(x, lambda nodes: func(nodes, *rest, **kwargs), name)


_REDUCTIONS = {name: name for name in REDUCTIONS} | {
    "linalg_vector_norm": "norm",
    "linalg_norm": "norm",
    "norm_except_dim": "norm",
}


@rule(*_REDUCTIONS)
def reduction(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """Mean, sum, deviation or Euclidean norm of many entries."""
    tensor, kept = target(args, kwargs)
    order = argument(args, kwargs, 1, "p ord pow") if _REDUCTIONS[name] == "norm" else 2
    if kept is None or order not in (2, None, "fro"):
        return untold(name, func, args, kwargs)
    x = read(tensor, kept)
    result = _run(func, args, kwargs)
    if isinstance(x, Draw) and result.numel():
        return record(result, REDUCTIONS[_REDUCTIONS[name]](x, tensor.numel() / result.numel()))
    return record(result, x)


@rule("normalize")
def normalize(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """`F.normalize`: vectors of n entries and length 1, so that E x^2 = 1 / n."""
    tensor, kept = target(args, kwargs)
    order, axis = argument(args, kwargs, 1, "p", 2.0), argument(args, kwargs, 2, "dim", 1)
    x = None if kept is None else read(tensor, kept)
    if not isinstance(x, Draw) or order != 2 or not isinstance(axis, int) or "out" in kwargs:
        return untold(name, func, args, kwargs)
    second = x.variance + x.mean**2
    n = tensor.shape[axis]
    mean = x.mean / math.sqrt(n * second) if second else 0.0
    made = draws.opaque("unknown", mean=mean, variance=(1 / n if second else 0.0) - mean**2)
    return record(_run(func, args, kwargs), made)


# -- copies and layouts -------------------------------------------------------------------------


@rule("copy_")
def copy(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """All values of another tensor."""
    tensor, kept = target(args, kwargs)
    source = argument(args, kwargs, 1, "src other")
    if kept is None:
        return _run(func, args, kwargs, _drawn)
    if recorded(source) is None and _make_real(tensor, kept):
        return func(*args, **kwargs)
    _run(func, args, kwargs)
    return note(name, tensor, kept, operand(source))


def _make_real(tensor: Tensor, kept: Recorded) -> bool:
    """Turns a tensor that is a mere number so far into a real one, if that can be done."""
    if not can_be_real(tensor, kept) or tensor.numel() > _MOST_REAL:
        return False
    become(tensor, real(tensor, kept))
    return True


@rule("__setitem__")
def set_item(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """Values for a part of a tensor."""
    tensor, index, value = args
    kept = recorded(tensor)
    if kept is None:
        return _run(func, args, kwargs, _drawn)
    if not _tensors(index, value) or all(recorded(one) is None for one in _tensors(index, value)):
        if _make_real(tensor, kept):
            return func(*args, **kwargs)
    values = operand(value)
    if isinstance(values, Unknown) and kept.registered:
        raise refusal(name, values.cause)
    with torch.no_grad():
        part = tensor[_mapped(index, on_meta)]
    if recorded(part) is kept:
        note(name, part, kept, values)
    else:
        write_region(kept, picked(tensor, index), values)
    return None


@rule("set_data")
def set_data(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """`parameter.data = values`."""
    tensor, source = args
    kept, given = recorded(tensor), recorded(source)
    if kept is None and given is not None and not tensor.is_meta:
        return func(tensor, _drawn(source))
    if kept is not None and given is None and not source.is_meta:
        return func(tensor, record(on_meta(source), operand(source)))
    if given is not None:
        given.registered = given.registered or (kept is not None and kept.registered)
        given.shared = True
        if given.registered and isinstance(given.values, Unknown) and given.values is not EMPTY:
            raise refusal(name, given.values.cause)
    return func(*args, **kwargs)


@rule(*"to type type_as float double half bfloat16 cpu cuda pin_memory".split())
@rule(*"clone contiguous reshape flatten ravel __deepcopy__".split())
def keep(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """The same values, in another tensor or of another precision."""
    tensor, kept = target(args, kwargs)
    rest: Args = args[1:]
    if name in ("to", "type_as"):
        rest = tuple(x.dtype if isinstance(x, Tensor) else x for x in rest)
        name, func = "to", Tensor.to
    if kept is None:
        return func(tensor, *rest, **kwargs) if args else func(**kwargs)
    if name in ("cpu", "cuda", "pin_memory"):
        return tensor
    if name == "to":
        rest = tuple(x for x in rest if isinstance(x, torch.dtype))
        kwargs = {key: kwargs[key] for key in ("dtype", "copy") if key in kwargs}
        if not rest and not kwargs:
            return tensor
    with torch.no_grad():
        result = func(tensor, *rest, **kwargs) if args else func(**kwargs)
    if result is tensor or not isinstance(result, Tensor):
        return result
    if not result.is_floating_point():
        return record(result, Unknown(f"{name} makes it {result.dtype}"))
    if (seen := recorded(result)) is not None:
        seen.shared = True
        return result
    return record(result, read(tensor, kept))


@rule(*"__getitem__ index_select gather take take_along_dim".split())
@rule(*"flip fliplr flipud roll rot90 repeat tile repeat_interleave".split())
def move(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """Entries picked, repeated or put elsewhere."""
    tensor, kept = target(args, kwargs)
    if kept is None or any(recorded(x) for x in _tensors(*args[1:], *kwargs.values())):
        return untold(name, func, args, kwargs)
    result = _run(func, args, kwargs)
    if (seen := recorded(result)) is not None:
        seen.shared = True
        return result
    return record(result, draws.renamed(read(tensor, kept)))


@rule(*"cat concat concatenate stack hstack vstack dstack".split())
def join(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """Several tensors in one."""
    parts = _tensors(argument(args, kwargs, 0, "tensors"))
    if all(recorded(part) is None for part in parts):
        return func(*args, **kwargs)
    if _are_numbers(parts):
        return _run(func, args, kwargs, _number)
    made = draws.mixture([(part.numel(), operand(part)) for part in parts])
    return record(_run(func, args, kwargs), made)


@rule("tril", "triu", "tril_", "triu_")
def triangle(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """Zeros above or below a diagonal."""
    tensor, kept = target(args, kwargs)
    if kept is None or _are_numbers([tensor]) or tensor.numel() > _MOST_REAL:
        return untold(name, func, args, kwargs)
    result = _run(func, args, kwargs)
    ones = torch.ones(tensor.shape[-2:])
    share = float(getattr(ones, name)(*args[1:], **kwargs).mean())
    made = draws.mixture([(share, read(tensor, kept)), (1 - share, draws.constant(0.0))])
    return note(name, tensor, kept, made) if name.endswith("_") else record(result, made)
