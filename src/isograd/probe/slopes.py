"""Activation derivatives: a sample of an activation's inputs, and its slope there."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from isograd import statistics
from isograd.sites.tape import Call

_ENTRIES = 4096
"""Inputs sampled per activation: a share is then known to within 0.8 percent (one sd)."""
_GRID = 257
"""Points on [-8, 8] on which an activation's largest slope is looked for."""
_FLAT = 0.05
"""A derivative below this share of the largest one counts as flat: sigmoid's beyond |x| = 4.3."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Some inputs of one activation call, and how to call it again."""

    function: Callable[..., Any]
    inputs: Tensor
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def sample(name: str, call: Call) -> Sample | None:
    """A sample of the activation's inputs, before an in-place call overwrites them.

    None for activations that draw random numbers or that are not elementwise.
    """
    x = call.tensors[0]
    if name.startswith(("rrelu", "glu")) or not x.is_floating_point() or not x.numel():
        return None
    function: Any = call.function
    if name.endswith("_"):
        plain = name.rstrip("_")
        function = getattr(torch, plain, None) or getattr(nn.functional, plain, None)
        if function is None:
            return None
    kwargs = {key: value for key, value in call.kwargs.items() if key not in ("inplace", "input")}
    args = tuple(a.detach().mean() if isinstance(a, Tensor) else a for a in call.args[1:])
    if name == "prelu":
        args, kwargs = (call.tensors[-1].detach().mean().reshape(1),), {}
    return Sample(function, statistics.thin(x, _ENTRIES).clone(), args, kwargs)


def slopes(taken: Sequence[Sample | None]) -> list[tuple[float, float] | None]:
    """Per sample (rms of the derivative there, share of flat entries); None if it has none there.

    Calls that differ in their inputs alone are made as one.
    """
    found: list[tuple[float, float] | None] = [None] * len(taken)
    groups: dict[Any, list[int]] = {}
    for place, one in enumerate(taken):
        if one is not None:
            groups.setdefault(_call_of(one, place), []).append(place)
    for places in groups.values():
        alike = [s for i in places if (s := taken[i]) is not None]
        for place, pair in zip(places, _together(alike), strict=True):
            found[place] = pair
    return found


def _call_of(one: Sample, place: int) -> Any:
    """What calls that can be made as one have in common."""
    values = (*one.args, *one.kwargs.values())
    if not all(isinstance(v, (int, float, str, type(None))) for v in values):
        return place
    return one.function, one.inputs.device, one.args, tuple(one.kwargs.items())


def _together(taken: Sequence[Sample]) -> list[tuple[float, float] | None]:
    """The same of samples of one call."""
    one, given = taken[0], [t.inputs.float() for t in taken]
    parts = [x[torch.isfinite(x)] for x in given]
    grid = torch.linspace(-8, 8, _GRID, device=parts[0].device)
    try:
        with torch.enable_grad(), torch.autocast(grid.device.type, enabled=False):
            x = torch.cat([*parts, grid]).requires_grad_()
            y = one.function(x, *one.args, **one.kwargs)
            (derivative,) = torch.autograd.grad(y.sum(), x)
    except (RuntimeError, TypeError, ValueError):
        return [None] * len(taken)
    *each, there = derivative.abs().split([len(p) for p in (*parts, grid)])
    largest = float(there.nan_to_num(0, 0, 0).max())
    return [_pair(here, largest) for here in each]


def _pair(here: Tensor, largest: float) -> tuple[float, float] | None:
    if not here.numel() or largest == 0:
        return None
    rms = float(torch.linalg.vector_norm(here, dtype=torch.float64)) / math.sqrt(here.numel())
    if not math.isfinite(rms):
        return None
    return rms, int((here < _FLAT * largest).sum()) / here.numel()


def dead_units(kind: str, low: Tensor, high: Tensor, taken: Sample | None) -> Tensor | None:
    """Share of units whose derivative is zero for every sample.

    Args:
        kind: of the activation.
        low: (units,) smallest output of each unit over the batch.
        high: (units,) largest one.
        taken: of its inputs and how it was called, where there is one.

    Returns:
        A scalar; None for activations that are nowhere flat.
    """
    if kind == "threshold":
        other = 0.0 if taken is None else _given(taken, 1, "value", 0.0)
        return ((low == other) & (high == other)).double().mean()
    if kind in _FLAT_OUTSIDE:
        bottom, top = _FLAT_OUTSIDE[kind]
        if kind == "hardtanh" and taken is not None:
            bottom = _given(taken, 0, "min_val", -1.0)
            top = _given(taken, 1, "max_val", 1.0)
        dead = (high <= bottom) & (low >= bottom)
        if top is not None:
            dead |= low >= top
        return dead.double().mean()
    if kind in ("hardshrink", "softshrink"):
        return ((low == 0) & (high == 0)).double().mean()
    if kind in ("gelu", "silu", "mish", "softplus", "hardswish"):
        # Far on the left these are zero to within rounding, value and derivative alike; where
        # no input is far from zero, a small output says only that the signal is small.
        dead = torch.maximum(low.abs(), high.abs()) < 1e-6
        if taken is not None:
            dead &= taken.inputs.abs().amax() > 1
        return dead.double().mean()
    return None


_FLAT_OUTSIDE: dict[str, tuple[float, float | None]] = {
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "hardtanh": (-1.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
}
"""Outputs at which the derivative is zero: the smallest and the largest one."""


def _given(taken: Sample, place: int, name: str, default: float) -> float:
    """One argument of an activation call, by place (behind its input) or by name."""
    value = taken.args[place] if len(taken.args) > place else taken.kwargs.get(name, default)
    return float(value)
