"""Picking: an index as steps on a field, one axis after the other, and their adjoint."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.parts import dropped, embedded, gathered, part, scattered, single

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Indices
    from isograd.prediction.propagation import Call


def steps_of(call: Call, index: Any, ndim: int) -> list[Any]:
    """What an index takes, axis by axis."""
    items = index if isinstance(index, tuple) else (index,)
    steps: list[Any] = []
    picks: list[tuple[int, Indices]] = []
    axis = 0
    for item in _spelled_out(call, items, ndim):
        if item is None:
            steps.append(("new", axis, None))
            axis += 1
        elif isinstance(item, bool):
            raise call.refuse("is indexed by a truth value", "use a slice")
        elif isinstance(item, int):
            steps.append(("one", axis, item))
        elif isinstance(item, slice):
            if item != slice(None):
                steps.append(("part", axis, item))
            axis += 1
        else:
            picks.append((axis, item))
            axis += 1
    return [*steps, *_together(call, picks)]


def ways(steps: list[Any]) -> tuple[Callable[[Field], Field], Callable[[Field], Field]]:
    """Steps on a field, and their adjoint, which asks for the sizes that the steps have seen."""
    sizes: list[Any] = []

    def ahead(g: Field) -> Field:
        sizes.clear()
        for kind, axis, what in steps:
            g, size = _forward(g, kind, axis, what)
            sizes.append(size)
        return g

    def behind(g: Field) -> Field:
        for (kind, axis, what), size in zip(reversed(steps), reversed(sizes), strict=True):
            g = _backward(g, kind, axis, what, size)
        return g

    return ahead, behind


def _forward(g: Field, kind: str, axis: Any, what: Any) -> tuple[Field, Any]:
    """One step on a field, and what its adjoint wants to know of the field."""
    if kind == "new":
        return g.regrouped((*g.groups[:axis], 0, *g.groups[axis:])), None
    if kind == "pick":
        sizes = tuple(g.shape[a] for a in axis)
        index = [np.where(i < 0, i + size, i) for i, size in zip(what, sizes, strict=True)]
        return gathered(g, axis, index), sizes
    size = g.shape[axis]
    if kind == "one":
        at = int(what) % size
        g = part(g, axis, at, at + 1)
        return g.regrouped((*g.groups[:axis], *g.groups[axis + 1 :])), size
    if kind == "border":
        return embedded(g, axis, what[0], size + sum(what)), size
    start, stop, stride = what.indices(size)
    if stride == 1:
        return part(g, axis, start, stop), size
    return gathered(g, (axis,), (np.arange(start, stop, stride),)), size


def _backward(g: Field, kind: str, axis: Any, what: Any, size: Any) -> Field:
    """The adjoint of one step."""
    if kind == "new":
        return g.regrouped((*g.groups[:axis], *g.groups[axis + 1 :]))
    if kind == "pick":
        index = [np.where(i < 0, i + n, i) for i, n in zip(what, size, strict=True)]
        return scattered(g, axis, index, size)
    if kind == "one":
        g = g.regrouped((*g.groups[:axis], 0, *g.groups[axis:]))
        return embedded(g, axis, int(what) % size, size)
    if kind == "border":
        return part(g, axis, what[0], what[0] + size)
    start, stop, stride = what.indices(size)
    if stride == 1:
        return embedded(g, axis, start, size)
    return scattered(g, (axis,), (np.arange(start, stop, stride),), (size,))


def bordered(axis: int, size: int, before: int, after: int, mode: str) -> list[Any]:
    """Steps that pad one axis; what is negative is cut off."""
    if mode == "constant":
        kept = slice(max(0, -before), size - max(0, -after))
        border = (max(0, before), max(0, after))
        steps = [("part", axis, kept)] if before < 0 or after < 0 else []
        return [*steps, ("border", axis, border)] if any(border) else steps
    index = np.arange(-before, size + after)
    if mode == "reflect":
        index = np.abs(index)
        index = np.where(index >= size, 2 * size - 2 - index, index)
    elif mode == "replicate":
        index = np.clip(index, 0, size - 1)
    else:
        index = index % size
    return [("pick", (axis,), (index,))] if before or after else []


def _together(call: Call, picks: list[tuple[int, Indices]]) -> list[Any]:
    """The step for indices given as tensors: those of several axes go hand in hand."""
    if not picks:
        return []
    axes = tuple(axis for axis, _ in picks)
    if axes[-1] - axes[0] != len(axes) - 1:
        raise call.refuse(
            "indexes axes that are not next to each other", "permute them first, or measure instead"
        )
    return [("pick", axes, tuple(np.broadcast_arrays(*(index for _, index in picks))))]


def _spelled_out(call: Call, items: tuple[Any, ...], ndim: int) -> list[Any]:
    """An index without ellipsis, tensors as indices: a mask is one for each of its axes."""
    result: list[Any] = []
    for item in items:
        if item is None or item is Ellipsis or isinstance(item, (bool, int, slice)):
            result.append(item)
        elif isinstance(item, Tensor) and item.ndim == 0 and item.dtype != torch.bool:
            result.append(int(known_index(call, item)[0]))
        else:
            result += known_index(call, item)
    if not any(item is Ellipsis for item in result):
        return result
    at = next(i for i, item in enumerate(result) if item is Ellipsis)
    used = sum(1 for item in result if item is not None and item is not Ellipsis)
    return [*result[:at], *([slice(None)] * (ndim - used)), *result[at + 1 :]]


def known_index(call: Call, item: Any) -> list[Indices]:
    """Indices given as a tensor, list or array; those of a mask, one for each of its axes."""
    if isinstance(item, Tensor) and not call.known(item):
        raise call.refuse(
            "indexes by values that are never computed", "use isograd.measure on one batch"
        )
    with torch._C.DisableTorchFunction():
        found = torch.as_tensor(item)
        masks = found.nonzero(as_tuple=True) if found.dtype == torch.bool else (found,)
        return [one.numpy() for one in masks]


def between(f: Field, axis: int, first: int, other: int) -> Field:
    """Moments of pairs of one entry of an axis with another one, on the other axes."""
    whole, place = single(f, axis)
    assert place is not None
    edges = {0, first, first + 1, other, other + 1, *accumulate(whole.cuts[place])}
    starts = sorted(edges - {f.shape[axis]})
    fine = tuple(b - a for a, b in pairwise([*starts, f.shape[axis]]))
    cut = whole.recut((*whole.cuts[:place], fine, *whole.cuts[place + 1 :]))
    c, d, k = starts.index(first), starts.index(other), len(fine)
    rows, mean = cut.second.take([k + c * k + d], place), cut.mean.take([c], place)
    return dropped(cut, place, rows, mean)


def repeated(f: Field, axis: int, times: int) -> Field:
    """Every entry of an axis several times in a row."""
    shape, groups, at = f.shape, f.groups, axis + 1
    apart = f.regrouped((*groups[:at], 0, *groups[at:]))
    wide = apart.expanded((*shape[:at], times, *shape[at:]))
    return wide.regrouped((*groups[:axis], groups[axis] + wide.groups[at], *groups[at:]))


def repeats_summed(g: Field, axis: int, times: int) -> Field:
    """Adjoint of `repeated`."""
    shape, at = g.shape, axis + 1
    number = shape[axis] // times
    total = g.reshaped((*shape[:axis], number, times, *shape[at:])).summed_to(
        (*shape[:axis], number, 1, *shape[at:])
    )
    return total.regrouped((*total.groups[:at], *total.groups[at + 1 :]))
