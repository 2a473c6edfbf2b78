"""Pooling: means and largest entries of windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from isograd.prediction.backward.gains import without_places
from isograd.prediction.backward.links import Link
from isograd.prediction.functions.gaussian import Nodes, Quadrature
from isograd.prediction.functions.maxima import Axes, laid, largest, routed, single, turned
from isograd.prediction.functions.powers import note_mean
from isograd.prediction.moments.axismaps import adjoint, mapped
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.windows import Windows, adaptive, padded, sliding
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.ops.elementwise import as_nodes, outcome

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call

_INDICES = "measure() runs it; or pool without return_indices"


class Pooling(Op):
    """Averages are linear; the largest entry is of a window of like Gaussian entries."""

    code = "pooling"
    functions = tuple(
        f"{kind}_pool{d}d{end}"
        for d in (1, 2, 3)
        for kind in ("avg", "max", "adaptive_avg", "adaptive_max")
        for end in ("", "_with_indices")
        if kind.endswith("max") or not end
    )
    lines = functions
    source = "largest of equally correlated Gaussians (Owen and Steck 1962), by quadrature"

    def apply(self, call: Call, input: Any, *args: Any, **kwargs: Any) -> Outcome:  # noqa: A002
        """One call of any of the functions."""
        name, _, rest = call.name.partition("_pool")
        f, d = call.field(input), int(rest[0])
        if rest.endswith("indices") or kwargs.get("return_indices"):
            raise call.refuse(
                "returns where the largest entries are, which is never known", _INDICES
            )
        kind = {"avg": _averaging, "max": _sliding}.get(name, _adaptive)
        axes = kind(f.shape[-d:], *args, **kwargs)
        return maximum(call, f, axes) if name.endswith("max") else average(f, axes)


def average(f: Field, axes: Axes) -> Outcome:
    """The mean of each window."""
    first = len(f.groups) - len(axes)
    out = mapped(f, first, axes)
    note_mean(out, f)

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        result = adjoint(gradient, first, axes, f)
        without_places(result, gradient)
        return [(f, result)]

    return Outcome(out, back, [f], formula="mean of windows")


def maximum(call: Call, x: Field, axes: Axes, order: Sequence[int] | None = None) -> Outcome:
    """The largest entry of each window; its gradient goes to the field that x is a function of.

    Args:
        call: under way.
        x: the entries.
        axes: windows on the last axes.
        order: in which the axes of x are taken, those with windows last.
    """
    first = len(x.groups) - len(axes)
    origin, values, slopes, quadrature = as_nodes(x)
    order = range(len(x.groups)) if order is None else order
    back = [list(order).index(axis) for axis in range(len(order))]
    entries = single(origin.permuted(order), first)
    shape = entries.mean.shape
    if values.shape[:-1] == origin.mean.shape and values[..., 0].size == entries.mean.size:
        steps = [] if x.nodes is None else x.nodes.steps
        nodes = Nodes(quadrature, values, slopes, [(x, np.ones_like(values)), *steps])
        nodes = laid(turned(nodes, origin, order), shape)
    else:  # factors of several classes as one: what their entries are functions of is lost
        origin, entries = x, single(x.permuted(order), first)
        own = Quadrature.of(entries)
        nodes = Nodes(own, own.x, np.ones_like(own.x))
    top = largest(entries, nodes, axes)
    peak, steps = top.field, top.nodes.steps
    peak.noise, peak.condition = origin.noise, origin.condition
    if "batch statistics" in origin.notes:
        peak.notes["batch statistics"] = True

    def behind(gradient: Field) -> Field:
        found = routed(gradient, top, axes, entries).permuted(back)
        found.noise = gradient.noise
        moment = gradient.notes.get("moment")  # gradient times entry: it goes the same way
        if moment is not None:
            found.notes["moment"] = routed(moment, top, axes, entries).permuted(back)
        return found

    where = Outcome(peak, lambda g: [(origin, behind(g))], [origin], formula="max of windows")
    call.run.record("max", Pooling.source, where)
    reported = []
    for one, slope in steps:
        if one is not origin:  # its gradient is told as that of the entry of it that is largest
            copy = peak.like(peak.second, peak.mean)
            call.run.record(
                "max", "", Outcome(copy, _never, [one], link=Link("layout", None, behind))
            )
            reported.append((copy, slope))
    found = outcome(call, peak, top.nodes, reported)
    return Outcome(found.out, found.back, [x], formula="E f(max)^2 over windows")


def _never(gradient: Field) -> list[tuple[Field, Field]]:
    """What arrives has been handed to the origin already."""
    del gradient
    return []


def _averaging(
    entries: tuple[int, ...], kernel_size: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> Axes:  # fmt: skip
    axes = _sliding(entries, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override is not None:
        over = [float(divisor_override), *([1.0] * (len(axes) - 1))]
        return tuple(
            Windows(one.entries, one.bounds, one.step, (by,) * len(one.bounds))
            for one, by in zip(axes, over, strict=True)
        )
    if count_include_pad:
        return tuple(padded(one, pad) for one, pad in zip(axes, _each(padding, axes), strict=True))
    return axes


def _sliding(
    entries: tuple[int, ...], kernel_size: Any, stride: Any = None, padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> Axes:  # fmt: skip
    del return_indices
    stride = kernel_size if stride is None or stride == () or stride == [] else stride
    given = (_each(v, entries) for v in (kernel_size, stride, padding, dilation))
    return tuple(sliding(*one, bool(ceil_mode)) for one in zip(entries, *given, strict=True))


def _adaptive(entries: tuple[int, ...], output_size: Any, return_indices: bool = False) -> Axes:
    del return_indices
    given = output_size if isinstance(output_size, (tuple, list)) else [output_size] * len(entries)
    return tuple(
        adaptive(n, n if number is None else number)
        for n, number in zip(entries, given, strict=True)
    )


def _each(value: Any, axes: Any) -> tuple[int, ...]:
    """One number per spatial axis."""
    given = (int(value),) if isinstance(value, int) else tuple(int(v) for v in value)
    return given * len(axes) if len(given) == 1 else given
