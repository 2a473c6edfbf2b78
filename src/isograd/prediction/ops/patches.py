"""Patches: what a kernel would read, laid out on axes of its own, and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from isograd.prediction.moments import pairs
from isograd.prediction.moments.axismaps import cut_of
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.sweeps import Sweep, carried, incidence, reads
from isograd.prediction.ops import Op, Outcome

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array, Sizes
    from isograd.prediction.propagation import Call


class Patches(Op):
    """Two entries of patches are the same entry, or others, as often as is counted."""

    code = "patches"
    functions = ("unfold", "fold", "im2col", "col2im")
    source = "pairs of reads of a kernel, counted"

    def apply(self, call: Call, x: Any, *args: Any, **kwargs: Any) -> Outcome:
        """`F.unfold`, `F.fold` or `Tensor.unfold`."""
        f = call.field(x)
        if call.name in ("fold", "col2im"):
            return _fold(f, *args, **kwargs)
        if getattr(call.function, "__objclass__", None) is not None:
            return _windows(f, *args, **kwargs)
        return _unfold(f, *args, **kwargs)


def _windows(f: Field, dimension: int, size: int, step: int) -> Outcome:
    """`Tensor.unfold`: windows of one axis, their entries on a new last one."""
    axis = dimension % len(f.groups)
    n = f.shape[axis]
    sweep = Sweep((n - size) // step + 1, n, size, step, 0, 1)
    out = spread(f, axis, sweep)
    return Outcome(out, lambda g: [(f, gathered(g, axis, sweep, f))], [f], formula="windows")


def _unfold(
    f: Field, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Outcome:
    """(samples, channels, rows, columns) to (samples, channels * taps, positions)."""
    sweeps = _sweeps(f.shape[-2:], kernel_size, dilation, padding, stride)
    out = _columns(f, sweeps)
    formula = "entries that patches share"
    return Outcome(out, lambda g: [(f, _image(g, sweeps, f))], [f], formula=formula)


def _fold(
    f: Field, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
    stride: Any = 1,
) -> Outcome:  # fmt: skip
    """The sum of all patches where they lie: what `_unfold` does to gradients."""
    sweeps = _sweeps(_pair(output_size), kernel_size, dilation, padding, stride)
    out = _image(f, sweeps, None)

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        return [(f, _columns(gradient, sweeps))]

    return Outcome(out, back, [f], formula="sums over patches")


def _columns(f: Field, sweeps: Sequence[Sweep]) -> Field:
    first = len(f.groups) - 2
    for axis, sweep in enumerate(sweeps, first):
        f = spread(f, axis, sweep)  # …, rows, columns, taps, taps
    f = f.permuted([*range(first), first + 2, first + 3, first, first + 1])
    groups = f.groups
    taps, positions = sum(groups[first - 1 : first + 2]), sum(groups[first + 2 :])
    return f.regrouped((*groups[: first - 1], taps, positions))


def _image(f: Field, sweeps: Sequence[Sweep], like: Field | None) -> Field:
    *lead, columns, _ = f.shape
    taps = [sweep.taps for sweep in sweeps]
    steps = [sweep.steps for sweep in sweeps]
    f = f.reshaped((*lead, columns // (taps[0] * taps[1]), *taps, *steps))
    first = len(lead) + 1
    f = f.permuted([*range(first), first + 2, first + 3, first, first + 1])
    for axis in (first + 1, first):  # the last axis holds the taps of the last spatial one
        f = gathered(f, axis, sweeps[axis - first], like)
    return f


def spread(f: Field, axis: int, sweep: Sweep) -> Field:
    """One axis as the positions of a kernel, what it reads there on a new last axis."""
    f = f.as_one(axis) if f.groups[axis] > 1 else f
    entries = cut_of(f, axis)
    steps = pairs.plain(carried(sweep, entries, "i"))
    place = sum(f.groups[:axis])
    of_pairs, of_classes = _tables(sweep, steps, entries)
    second = _applied(f.second, place, f.groups[axis], of_pairs)
    mean = _applied(f.mean, place, f.groups[axis], of_classes)
    cuts = [*f.cuts[:place], steps, *f.cuts[place + f.groups[axis] :], (sweep.taps,)]
    groups = [*f.groups, 1]
    groups[axis] = 1
    return _without_lone(f, second, mean, cuts, groups)


def gathered(g: Field, axis: int, sweep: Sweep, like: Field | None) -> Field:
    """The adjoint: entries of windows on the last axis summed where they were read.

    Args:
        g: (…, positions at `axis`, …, taps).
        axis: of the positions.
        sweep: the kernel.
        like: has the classes of the entries at `axis`; if None, those of the positions carry over.
    """
    taps = len(g.groups) - 1
    for one in (axis, taps):
        g = g.as_one(one) if g.groups[one] > 1 else g
    if g.groups[taps]:
        g = g.recut([*g.cuts[:-1], (sweep.taps,)])
    steps = cut_of(g, axis)
    if like is None:
        entries = pairs.plain(carried(sweep, steps, "o"))
    else:
        whole = like.as_one(axis) if like.groups[axis] > 1 else like
        entries = cut_of(whole, axis)
    second = incidence(sweep, steps, (sweep.taps,), entries, "i")
    mean = reads(sweep, steps, (sweep.taps,), entries, "i")
    place = sum(g.groups[:axis])
    made = []
    for array, table in ((g.second, second), (g.mean, mean)):
        if not g.groups[taps]:
            array, table = array[..., None], table[:, :1]
        if not g.groups[axis]:
            array, table = np.expand_dims(array, place), table[:1]
        made.append(np.moveaxis(np.tensordot(array, table, ([place, -1], [0, 1])), -1, place))
    cuts = [
        *g.cuts[:place],
        entries,
        *g.cuts[place + g.groups[axis] : len(g.cuts) - g.groups[taps]],
    ]
    groups = [*g.groups[:-1]]
    groups[axis] = 1
    return _without_lone(g, made[0], made[1], cuts, groups)


@lru_cache(maxsize=1024)
def _tables(sweep: Sweep, steps: Sizes, entries: Sizes) -> tuple[Array, Array]:
    """[ways of steps, ways of taps, ways of entries] and the same of classes: averages of reads."""
    found = incidence(sweep, steps, (sweep.taps,), entries, "o")
    by_tap = np.moveaxis(found, 1, 0)
    by_tap = pairs.normalized(by_tap.reshape(len(by_tap), -1), (sweep.taps,)).reshape(by_tap.shape)
    return np.moveaxis(by_tap, 0, 1), reads(sweep, steps, (sweep.taps,), entries, "o") / sweep.taps


def _applied(array: Array, place: int, number: int, table: Array) -> Array:
    """A table [steps, taps, entries] applied at `place`; the taps come last."""
    if not number:
        array, table = np.expand_dims(array, place), table[..., :1]
    return np.moveaxis(np.tensordot(array, table, (place, 2)), -2, place)


def _without_lone(
    f: Field, second: Array, mean: Array, cuts: Sequence[Sizes], groups: Sequence[int]
) -> Field:
    """A field whose axes of length one have no factor."""
    lone = [place for place, cut in enumerate(cuts) if sum(cut) == 1]
    numbers = list(groups)
    for place in reversed(lone):
        second, mean = (np.asarray(array.take(0, place)) for array in (second, mean))
        at = 0
        for axis, number in enumerate(numbers):
            at += number
            if place < at:
                numbers[axis] -= 1
                break
    result = f.like(second, mean)
    result.cuts = tuple(cut for cut in cuts if sum(cut) > 1)
    result.groups = tuple(numbers)
    return result


def _sweeps(
    entries: Sequence[int], kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> list[Sweep]:
    given = zip(entries, *(map(_pair, (kernel_size, dilation, padding, stride))), strict=True)
    return [
        Sweep((n + 2 * pad - apart * (k - 1) - 1) // step + 1, n, k, step, pad, apart)
        for n, k, apart, pad, step in given
    ]


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    given = tuple(int(one) for one in value)
    return given[0], given[-1]
