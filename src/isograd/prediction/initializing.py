"""Initializing: what each torch function that fills or reshapes a parameter does to its draw.

Rules are found by the function's name, so that `torch.mul`, `Tensor.mul` and another library's
wrapper of `init.normal_` come out at the same one. Called with the intercepting mode switched off.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from isograd.prediction import draws
from isograd.prediction.draws import EMPTY, Draw, Unknown, Values
from isograd.prediction.places import refusal, where
from isograd.prediction.recorded import (
    Recorded,
    become,
    can_be_real,
    is_whole,
    picked,
    read,
    real,
    record,
    recorded,
    write,
    write_region,
)

Function = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Rule = Callable[[str, Function, Args, Kwargs], Any]

RULES: dict[str, Rule] = {}
"""Rule by name of the torch function."""

_LARGEST_REAL = 2**24
"""Entries up to which zeros and ones are made for real: masks of 4096 x 4096 are."""


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return add


def _argument(args: Args, kwargs: Kwargs, place: int, names: str, default: Any = None) -> Any:
    if len(args) > place:
        return args[place]
    return next((kwargs[name] for name in names.split() if name in kwargs), default)


def _target(args: Args, kwargs: Kwargs) -> tuple[Any, Recorded | None]:
    tensor = _argument(args, kwargs, 0, "tensor input self")
    return tensor, recorded(tensor) if isinstance(tensor, Tensor) else None


def _is_in_place(name: str) -> bool:
    return name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))


def _set(name: str, tensor: Tensor, kept: Recorded, values: Values) -> Tensor:
    """Notes new values; of what a module holds they have to be known."""
    if isinstance(values, Unknown) and values is not EMPTY and kept.registered:
        raise refusal(name, values.cause)
    write(tensor, kept, values)
    return tensor


# -- drawing ------------------------------------------------------------------------------------


def _normal(args: Args, kwargs: Kwargs) -> Draw | None:
    mean = float(_argument(args, kwargs, 1, "mean", 0.0))
    std = float(_argument(args, kwargs, 2, "std", 1.0))
    return draws.normal(mean, std) if std >= 0 else None


def _uniform(args: Args, kwargs: Kwargs) -> Draw | None:
    low = float(_argument(args, kwargs, 1, "a from", 0.0))
    high = float(_argument(args, kwargs, 2, "b to", 1.0))
    return draws.uniform(low, high) if low <= high else None


def _kaiming(args: Args, kwargs: Kwargs) -> Draw | None:
    init = torch.nn.init
    tensor = _argument(args, kwargs, 0, "tensor")
    slope = _argument(args, kwargs, 1, "a", 0)
    fan = init._calculate_correct_fan(tensor, _argument(args, kwargs, 2, "mode", "fan_in"))
    gain = init.calculate_gain(_argument(args, kwargs, 3, "nonlinearity", "leaky_relu"), slope)
    bound = math.sqrt(3.0) * gain / math.sqrt(fan) if tensor.numel() else 0.0
    return draws.uniform(-bound, bound)


def _fill(args: Args, kwargs: Kwargs) -> Draw:
    return draws.constant(float(_argument(args, kwargs, 1, "val value")))


def _exponential(args: Args, kwargs: Kwargs) -> Draw:
    rate = float(_argument(args, kwargs, 1, "lambd", 1.0))
    return draws.opaque("exponential", mean=1 / rate, variance=1 / rate**2)


def _log_normal(args: Args, kwargs: Kwargs) -> Draw:
    mean = float(_argument(args, kwargs, 1, "mean", 1.0))
    variance = float(_argument(args, kwargs, 2, "std", 2.0)) ** 2
    middle = math.exp(mean + variance / 2)
    return draws.opaque("log_normal", mean=middle, variance=middle**2 * math.expm1(variance))


def _bernoulli(args: Args, kwargs: Kwargs) -> Draw:
    return draws.two_valued("bernoulli", float(_argument(args, kwargs, 1, "p", 0.5)))


_FILLS: dict[str, Callable[[Args, Kwargs], Draw | None]] = {
    "normal_": _normal,
    "uniform_": _uniform,
    "kaiming_uniform_": _kaiming,
    "fill_": _fill,
    "constant_": _fill,
    "zero_": lambda *_: draws.constant(0.0),
    "exponential_": _exponential,
    "log_normal_": _log_normal,
    "bernoulli_": _bernoulli,
}
"""What a filling function draws; None where its arguments are no good (torch says so then)."""


@_rule(*_FILLS)
def fill(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """A tensor filled at random or with a number."""
    tensor, kept = _target(args, kwargs)
    if kept is None:
        return func(*args, **kwargs)
    drawn = _FILLS[name](args, kwargs)
    return func(*args, **kwargs) if drawn is None else _set(name, tensor, kept, drawn)


# -- making -------------------------------------------------------------------------------------

_MADE: dict[str, Callable[[], Values]] = {
    "empty": lambda: EMPTY,
    "rand": lambda: draws.uniform(0.0, 1.0),
    "randn": lambda: draws.normal(0.0, 1.0),
    "zeros": lambda: draws.constant(0.0),
    "ones": lambda: draws.constant(1.0),
}


def _holds(args: Args, kwargs: Kwargs) -> torch.dtype:
    """The dtype of what a factory makes."""
    first = args[0] if args else kwargs.get("input")
    given = kwargs.get("dtype")
    if given is None and isinstance(first, Tensor):
        given = first.dtype
    return given if isinstance(given, torch.dtype) else torch.get_default_dtype()


@_rule(*"empty empty_like empty_strided empty_permuted new_empty new_empty_strided".split())
@_rule(*"rand rand_like randn randn_like".split())
def make(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """A new tensor, unfilled or random: on the meta device."""
    dtype = _holds(args, kwargs)
    if not (dtype.is_floating_point or dtype.is_complex):
        return _on_cpu(func, args, kwargs)
    if (out := kwargs.get("out")) is not None:
        kept = recorded(out)
        if kept is None:
            return func(*args, **kwargs)
        return _set(name, out, kept, _MADE[name]())
    kwargs = {**kwargs, "device": "meta"}
    kwargs.pop("generator", None)
    kwargs.pop("pin_memory", None)
    values = _MADE[name.removeprefix("new_").split("_")[0]]()
    return record(func(*args, **kwargs), values if not dtype.is_complex else _COMPLEX)


_COMPLEX = Unknown("complex numbers are not recorded")


def _on_cpu(func: Function, args: Args, kwargs: Kwargs) -> Any:
    """A factory run for real, though the tensor it copies from may be recorded."""
    like = args[0] if args else kwargs.get("input")
    if isinstance(like, Tensor) and recorded(like) is not None:
        kwargs = {"device": "cpu", **kwargs}
    return func(*args, **kwargs)


@_rule(*"zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full".split())
@_rule("new_tensor")
def make_constant(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """A new tensor of one number: for real, if it is not very large."""
    kind = name.removeprefix("new_").removesuffix("_like")
    if kind == "tensor" or not _is_large(name, args, kwargs):
        return _on_cpu(func, args, kwargs)
    made = func(*args, **{**kwargs, "device": "meta"})
    if not made.is_floating_point():
        return _on_cpu(func, args, kwargs)
    if kind != "full":
        return record(made, _MADE[kind]())
    value = kwargs["fill_value"] if "fill_value" in kwargs else args[-1]
    return record(made, draws.constant(float(value)))


def _is_large(name: str, args: Args, kwargs: Kwargs) -> bool:
    if name.endswith("_like"):
        like = args[0] if args else kwargs["input"]
        return bool(like.numel() > _LARGEST_REAL)
    sizes = args[1:] if name.startswith("new_") else args
    if not sizes or isinstance(sizes[0], (tuple, list, torch.Size)):
        sizes = sizes[0] if sizes else kwargs.get("size", ())
    return math.prod(int(size) for size in sizes) > _LARGEST_REAL


@_rule("normal")
def make_normal(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """`torch.normal` with numbers or tensors for mean and deviation."""
    mean, std = _argument(args, kwargs, 0, "mean", 0.0), _argument(args, kwargs, 1, "std", 1.0)
    kwargs = {**kwargs, "generator": None}
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        centre, spread = operand(mean), operand(std)
        made = func(*(on_meta(one) for one in args), **kwargs)
        return record(made, _spread(centre, spread))
    if (out := kwargs.get("out")) is None:
        made = func(*args, **{**kwargs, "device": "meta"})
        return record(made, draws.normal(float(mean), float(std)))
    kept = recorded(out)
    if kept is None:
        return func(*args, **kwargs)
    return _set(name, out, kept, draws.normal(float(mean), float(std)))


def _spread(centre: Values, spread: Values) -> Values:
    if isinstance(spread, Unknown):
        return spread
    if spread.is_constant:
        noise: Values = draws.normal(0.0, spread.shift)
    else:
        noise = draws.times(draws.normal(0.0, 1.0), spread)
    return combine(draws.plus, centre, noise)


@_rule("eye")
def make_eye(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """The identity matrix, into a parameter (`init.eye_`)."""
    out = kwargs.get("out")
    kept = None if out is None else recorded(out)
    if kept is None:
        return func(*args, **kwargs)
    return _set(name, out, kept, draws.two_valued("eye", 1 / max(*out.shape, 1)))


# -- bodies of torch.nn.init --------------------------------------------------------------------


def _init_trunc_normal(seen: Kwargs) -> Values:
    return draws.trunc_normal(*(float(seen[key]) for key in ("mean", "std", "a", "b")))


def _init_orthogonal(seen: Kwargs) -> Values:
    shape = seen["tensor"].shape
    rows, columns = shape[0], math.prod(shape[1:])
    if not rows * columns:
        return draws.constant(0.0)
    variance = float(seen["gain"]) ** 2 / max(rows, columns)
    return draws.opaque("orthogonal", mean=0.0, variance=variance)


def _init_dirac(seen: Kwargs) -> Values:
    shape, groups = seen["tensor"].shape, seen["groups"]
    ones = groups * min(shape[0] // groups, shape[1])
    return draws.two_valued("dirac", ones / max(math.prod(shape), 1))


def _init_sparse(seen: Kwargs) -> Values:
    rows = seen["tensor"].shape[0]
    kept = 1 - math.ceil(seen["sparsity"] * rows) / rows
    return draws.opaque("sparse", mean=0.0, variance=max(kept, 0.0) * float(seen["std"]) ** 2)


_BODIES: dict[str, Callable[[Kwargs], Values]] = {
    "_no_grad_trunc_normal_": _init_trunc_normal,
    "orthogonal_": _init_orthogonal,
    "dirac_": _init_dirac,
    "sparse_": _init_sparse,
}
"""Functions of torch.nn.init that look at values, by what their arguments mean."""


def asked_by_init(tensor: Tensor, kept: Recorded) -> bool:
    """Whether one of them asks if there is anything to fill; if so, notes what it would draw.

    All of them begin with `tensor.numel() == 0` or `tensor.is_meta` and return at once if so.
    """
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__", "").startswith("isograd.prediction"):
        if frame.f_back is None:
            return False
        frame = frame.f_back
    drawn = _BODIES.get(frame.f_code.co_name)
    if drawn is None or frame.f_globals.get("__name__") != "torch.nn.init":
        return False
    if frame.f_locals.get("tensor") is not tensor:
        return False
    _set(frame.f_code.co_name, tensor, kept, drawn(frame.f_locals))
    return True


@_rule("numel", "nelement")
def numel(name: str, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """Number of entries."""
    tensor, kept = _target(args, kwargs)
    if kept is not None and asked_by_init(tensor, kept):
        return 0
    return func(*args, **kwargs)
