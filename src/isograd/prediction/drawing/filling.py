"""Filling: what each torch function that makes or fills a tensor draws."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from isograd.prediction.drawing import draws
from isograd.prediction.drawing.draws import EMPTY, Draw, Values
from isograd.prediction.drawing.recorded import (
    COMPLEX,
    operand,
    record,
    recorded,
)
from isograd.prediction.drawing.rulebook import (
    Call,
    combine,
    make_recorded,
    note,
    rule,
    untold,
)

_META = torch.device("meta")
_LARGEST_REAL = 2**24
"""Entries up to which zeros and ones are made for real: masks of 4096 x 4096 are."""


# -- drawing ------------------------------------------------------------------------------------


def _normal(call: Call) -> Draw | None:
    mean = float(call.argument(1, "mean", 0.0))
    std = float(call.argument(2, "std", 1.0))
    return draws.normal(mean, std) if std >= 0 else None


def _uniform(call: Call) -> Draw | None:
    low = float(call.argument(1, "a from", 0.0))
    high = float(call.argument(2, "b to", 1.0))
    return draws.uniform(low, high) if low <= high else None


def _kaiming(call: Call) -> Draw | None:
    bound = _kaiming_bound(
        call.argument(0, "tensor").shape,
        call.argument(1, "a", 0),
        call.argument(2, "mode", "fan_in"),
        call.argument(3, "nonlinearity", "leaky_relu"),
    )
    return draws.uniform(-bound, bound)


@lru_cache(maxsize=256)
def _kaiming_bound(shape: torch.Size, slope: float, mode: Any, nonlinearity: Any) -> float:
    init, tensor = torch.nn.init, torch.empty(shape, device="meta")
    fan = init._calculate_correct_fan(tensor, mode)
    gain = init.calculate_gain(nonlinearity, slope)
    return math.sqrt(3.0) * gain / math.sqrt(fan) if tensor.numel() else 0.0


def _fill(call: Call) -> Draw:
    return draws.constant(float(call.argument(1, "val value")))


def _exponential(call: Call) -> Draw:
    rate = float(call.argument(1, "lambd", 1.0))
    return draws.opaque("exponential", mean=1 / rate, variance=1 / rate**2)


def _log_normal(call: Call) -> Draw:
    mean = float(call.argument(1, "mean", 1.0))
    variance = float(call.argument(2, "std", 2.0)) ** 2
    middle = math.exp(mean + variance / 2)
    return draws.opaque("log_normal", mean=middle, variance=middle**2 * math.expm1(variance))


def _bernoulli(call: Call) -> Draw:
    return draws.two_valued("bernoulli", float(call.argument(1, "p", 0.5)))


_FILLS: dict[str, Callable[[Call], Draw | None]] = {
    "normal_": _normal,
    "uniform_": _uniform,
    "kaiming_uniform_": _kaiming,
    "fill_": _fill,
    "constant_": _fill,
    "zero_": lambda _: draws.constant(0.0),
    "exponential_": _exponential,
    "log_normal_": _log_normal,
    "bernoulli_": _bernoulli,
}
"""What a filling function draws; None where its arguments are no good (torch says so then)."""


_NUMBERS = ("fill_", "constant_", "zero_")
"""Those that leave a real parameter real."""


@rule(*_FILLS)
def fill(call: Call) -> Any:
    """A tensor filled at random or with a number."""
    tensor, kept = call.target()
    if kept is None and call.name not in _NUMBERS:
        kept = make_recorded(tensor)
    if kept is None:
        return call.plainly()
    drawn = _FILLS[call.name](call)
    return call.plainly() if drawn is None else note(call.name, tensor, kept, drawn)


# -- making -------------------------------------------------------------------------------------

_MADE: dict[str, Callable[[], Values]] = {
    "empty": lambda: EMPTY,
    "rand": lambda: draws.uniform(0.0, 1.0),
    "randn": lambda: draws.normal(0.0, 1.0),
    "zeros": lambda: draws.constant(0.0),
    "ones": lambda: draws.constant(1.0),
}


def _like(call: Call) -> Tensor | None:
    """The tensor that a factory takes dtype and device from, if it does."""
    first = call.args[0] if call.args else call.kwargs.get("input")
    return first if isinstance(first, Tensor) else None


def _dtype(call: Call) -> torch.dtype:
    """The dtype of what a factory makes."""
    given, like = call.kwargs.get("dtype"), _like(call)
    if isinstance(given, torch.dtype):
        return given
    return torch.get_default_dtype() if like is None else like.dtype


def _on_meta(call: Call) -> Tensor:
    kwargs = {**call.kwargs, "device": _META}
    kwargs.pop("generator", None)
    kwargs.pop("pin_memory", None)
    made: Tensor = call.func(*call.args, **kwargs)
    return made


def _on_cpu(call: Call) -> Any:
    """A factory run for real, though the tensor it takes its device from may be recorded."""
    like = _like(call)
    if like is not None and recorded(like) is not None and "device" not in call.kwargs:
        return call.func(*call.args, **call.kwargs, device="cpu")
    return call.plainly()


FACTORIES = frozenset(
    "empty empty_like empty_strided empty_permuted new_empty new_empty_strided new rand rand_like "
    "randn randn_like zeros_like ones_like full_like new_zeros new_ones new_full".split()
)
"""Functions that take no more than shape and dtype from a tensor."""


@rule(*"empty empty_like empty_strided empty_permuted new_empty new_empty_strided".split())
@rule(*"rand rand_like randn randn_like".split())
def make(call: Call) -> Any:
    """A new tensor, unfilled or random: on the meta device."""
    dtype, out = _dtype(call), call.kwargs.get("out")
    if out is not None:
        dtype = out.dtype
    if not (dtype.is_floating_point or dtype.is_complex):
        return _on_cpu(call)
    values = COMPLEX if dtype.is_complex else _MADE[_kind(call)]()
    if out is None:
        return record(_on_meta(call), values)
    kept = recorded(out)
    return call.plainly() if kept is None else note(call.name, out, kept, values)


@rule("new")
def make_new(call: Call) -> Any:
    """`weight.new(3, 5)`, the old way to say `new_empty`."""
    like, sizes = call.args[0], call.args[1:]
    if not sizes or not all(isinstance(size, int) for size in sizes):
        return untold(call)
    return make(Call("new_empty", Tensor.new_empty, (like, sizes), {}))


def _kind(call: Call) -> str:
    return _first_word(call.name)


@cache
def _first_word(name: str) -> str:
    return name.removeprefix("new_").split("_")[0]


@rule(*"zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full".split())
@rule("new_tensor")
def make_constant(call: Call) -> Any:
    """A new tensor of one number: for real, if it is not very large."""
    kind = _kind(call)
    if kind == "tensor" or call.kwargs.get("out") is not None:
        return _on_cpu(call)
    made = _on_meta(call) if _is_large(call) else _on_cpu(call)
    if not made.is_meta:
        return made
    if not made.is_floating_point():
        return _on_cpu(call)
    if kind != "full":
        return record(made, _MADE[kind]())
    value = call.kwargs["fill_value"] if "fill_value" in call.kwargs else call.args[-1]
    return record(made, draws.constant(float(value)))


def _is_large(call: Call) -> bool:
    if call.name.endswith("_like"):
        like = _like(call)
        return like is not None and like.numel() > _LARGEST_REAL
    sizes: Any = call.args[1:] if call.name.startswith("new_") else call.args
    if not sizes:
        sizes = call.kwargs.get("size", ())
    elif isinstance(sizes[0], (tuple, list)):
        sizes = sizes[0]
    return math.prod(int(size) for size in sizes) > _LARGEST_REAL


@rule("normal")
def make_normal(call: Call) -> Any:
    """`torch.normal` with numbers or tensors for mean and deviation."""
    mean, std = call.argument(0, "mean", 0.0), call.argument(1, "std", 1.0)
    values = _spread(operand(mean), operand(std))
    out = call.kwargs.get("out")
    if out is not None:
        kept = recorded(out)
        return call.plainly() if kept is None else note(call.name, out, kept, values)
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        return record(call._replace(kwargs={**call.kwargs, "generator": None}).run(), values)
    return record(_on_meta(call), values)


def _spread(centre: Values, spread: Values) -> Values:
    """Normal variables whose means and deviations are draws themselves."""
    if isinstance(spread, Draw) and spread.is_constant:
        return combine(draws.plus, centre, draws.normal(0.0, spread.shift))
    return combine(draws.plus, centre, combine(draws.times, draws.normal(0.0, 1.0), spread))


@rule("eye")
def make_eye(call: Call) -> Any:
    """The identity matrix, into a parameter (`init.eye_`)."""
    out: Tensor | None = call.kwargs.get("out")
    kept = None if out is None else recorded(out)
    if out is None or kept is None:
        return call.plainly()
    return note(call.name, out, kept, draws.two_valued("eye", 1 / max(*out.shape, 1)))


# -- bodies of torch.nn.init --------------------------------------------------------------------


Seen = dict[str, Any]
"""Local variables of the function that asks."""


def _init_trunc_normal(seen: Seen) -> Values:
    return draws.trunc_normal(*(float(seen[key]) for key in ("mean", "std", "a", "b")))


def _init_orthogonal(seen: Seen) -> Values:
    shape = seen["tensor"].shape
    rows, columns = shape[0], math.prod(shape[1:])
    if not rows * columns:
        return draws.constant(0.0)
    variance = float(seen["gain"]) ** 2 / max(rows, columns)
    return draws.opaque("orthogonal", mean=0.0, variance=variance)


def _init_dirac(seen: Seen) -> Values:
    shape, groups = seen["tensor"].shape, seen["groups"]
    ones = groups * min(shape[0] // groups, shape[1])
    return draws.two_valued("dirac", ones / max(math.prod(shape), 1))


def _init_sparse(seen: Seen) -> Values:
    rows = seen["tensor"].shape[0]
    kept = 1 - math.ceil(seen["sparsity"] * rows) / rows
    return draws.opaque("sparse", mean=0.0, variance=max(kept, 0.0) * float(seen["std"]) ** 2)


_BODIES: dict[str, Callable[[Seen], Values]] = {
    "_no_grad_trunc_normal_": _init_trunc_normal,
    "orthogonal_": _init_orthogonal,
    "dirac_": _init_dirac,
    "sparse_": _init_sparse,
}
"""Functions of torch.nn.init that look at values, by what their arguments mean."""


def asked_by_init(tensor: Tensor) -> bool:
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
    kept = recorded(tensor) or make_recorded(tensor)
    if kept is None:
        return False
    note(frame.f_code.co_name, tensor, kept, drawn(frame.f_locals))
    return True


@rule("numel", "nelement")
def numel(call: Call) -> Any:
    """Number of entries."""
    return 0 if asked_by_init(call.args[0]) else call.plainly()
