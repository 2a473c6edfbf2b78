"""Sweeps: a kernel moved along axes, and sums over what it reads, for pairs of entries.

A convolution ties three tensors together: its output y at steps o, its input x at entries i and
its weights w at taps; step o reads entry i = o * stride + tap * dilation - padding through a tap.
Each of y, dLoss/dx and dLoss/dw is a sum over products of the other two, so that E of the product
of two of its entries is a sum over pairs of reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isograd.prediction.moments import pairs
from isograd.prediction.moments.aligning import same_factors
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.pairs import Array, Sizes

# Axes: n samples, g groups, z channels of one group on the side that is stepped over, c channels
# of one group on the side that is read, then spatial axes: o steps, i entries, w taps.
AXES = {"stepped": "ngzo", "read": "ngci", "weight": "gzcw"}
_LARGEST = 64
"""Positions along an axis from which on a border of its own would say nothing."""
_SHORTEST = 3
_MOST_READS = 1024
"""Of lines: positions that have a neighbor, and reads whose pairs are all counted."""
_PLAIN = 3
"""Classes up to which those of a plain axis are borders."""
Cuts = dict[str, tuple[Sizes, ...]]
"""Classes of the factors of each axis, by its letter and, if spatial, its number."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """A kernel along one axis: step o reads entry o * stride + tap * dilation - padding."""

    steps: int
    entries: int
    taps: int
    stride: int
    padding: int
    dilation: int

    def places(self) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """(entries read, whether they exist), each [steps, taps]."""
        at = np.arange(self.steps)[:, None] * self.stride - self.padding
        at = at + np.arange(self.taps) * self.dilation
        return at, (at >= 0) & (at < self.entries)


def contracted(
    sides: dict[str, Field], target: str, sweeps: Sequence[Sweep], like: Field | None = None
) -> Field:
    """One of the sides stepped, read, weight from the other two: a sum over what it lacks.

    Args:
        sides: two fields by name, on the axes of `AXES`.
        target: name of the third.
        sweeps: one per spatial axis.
        like: gives the classes of the result's spatial axes; chosen by what is read where None.
    """
    (first, a), (other, b) = sides.items()
    a, b = _matched(first, a, other, b)
    cuts: Cuts = {}
    for name, f in ((first, a), (other, b)):
        for axis, letter in enumerate(letters(name, len(sweeps))):
            cuts[letter] = tuple(f.cuts[place] for place in f.factors_of(axis))
    for axis, sweep in enumerate(sweeps):
        name = AXES[target][3] + str(axis)
        if like is not None:
            cuts[name] = tuple(like.cuts[place] for place in like.factors_of(3 + axis))
        else:
            made = carried(sweep, _alive(a, 3 + axis), AXES[first][3])
            cuts[name] = (made,) if sum(made) > 1 else ()
    names = [letters(name, len(sweeps)) for name in (first, other, target)]
    role = AXES[target][3]
    tables = [partial(incidence, sweep) for sweep in sweeps]
    second = _summed((a.second, b.second), names, cuts, pairs.counts, tables, role)
    mean = np.zeros([len(cut) for name in names[2] for cut in cuts[name]])
    if not (target == "weight" or a.is_centered or b.is_centered):
        tables = [partial(reads, sweep) for sweep in sweeps]
        mean = _summed((a.mean, b.mean), names, cuts, np.array, tables, role)
    flat = tuple(cut for name in names[2] for cut in cuts[name])
    return Field(second, flat, tuple(len(cuts[name]) for name in names[2]), mean)


def _summed(
    arrays: tuple[Array, Array], names: Sequence[Sequence[str]], cuts: Cuts, weigh: Any,
    tables: Sequence[Any], role: str,
) -> Array:  # fmt: skip
    """Products of two arrays summed over all axes that the third side lacks.

    Args:
        arrays: moments of both sides.
        names: of the axes of both and of the result.
        cuts: classes per axis.
        weigh: takes a cut, gives the number of entries or pairs per class or way.
        tables: per spatial axis what takes classes of steps and entries to a table of reads.
        role: which spatial axes the result has.
    """
    number: dict[tuple[str, int], int] = {}
    for name, own in cuts.items():
        for part in range(len(own)):
            number[name, part] = len(number)
    labels = [[number[name, p] for name in side for p in range(len(cuts[name]))] for side in names]
    left, right, out = labels
    array = arrays[0]
    for name in names[0][:3]:
        for part, cut in enumerate(cuts[name]):
            if name not in names[2]:
                shape = [1] * array.ndim
                shape[left.index(number[name, part])] = -1
                array = array * weigh(cut).reshape(shape)
    for axis, table in enumerate(tables):
        three = [kind + str(axis) for kind in "owi"]
        o, w, i = (cuts[name][0] if cuts[name] else (1,) for name in three)
        found = table(o, w, i, role)[tuple(slice(None) if cuts[name] else 0 for name in three)]
        own_labels = [number[name, 0] for name in three if cuts[name]]
        made = [n for n in left if n not in own_labels] + [n for n in own_labels if n not in left]
        array, left = _einsum(array, left, found, own_labels, made), made
    return _einsum(array, left, arrays[1], right, out)


def _einsum(*operands: Any) -> Array:
    return np.asarray(np.einsum(*operands))


@lru_cache(maxsize=4096)
def reads(sweep: Sweep, steps: Sizes, taps: Sizes, entries: Sizes, role: str) -> Array:
    """[classes of steps, 1, classes of entries]: reads per step "o" or per entry "i" of a class."""
    del taps
    all_of = incidence(sweep, steps, (sweep.taps,), entries, "")
    found = all_of[: len(steps), :1, : len(entries)]
    if role == "o":
        return np.asarray(found / np.array(steps)[:, None, None])
    return np.asarray(found / np.array(entries))


@lru_cache(maxsize=4096)
def incidence(sweep: Sweep, steps: Sizes, taps: Sizes, entries: Sizes, role: str) -> Array:
    """[ways of steps, ways of taps, ways of entries]: pairs of reads (o, w, i), (o', w', i').

    Two of equal step, tap and entry determine the third, so that pairs of reads agree in all
    three, in one, or in none.

    Args:
        sweep: the axis.
        steps: classes of the steps.
        taps: one class.
        entries: classes of the entries.
        role: o, w or i: counted per pair of these; "" for the number of all.
    """
    if not role:
        lined = isinstance(steps, pairs.Line) or isinstance(entries, pairs.Line)
        return (_each_pair if lined else _by_class)(sweep, steps, entries)
    result = incidence(sweep, steps, taps, entries, "")
    axis, cut = {"o": (0, steps), "w": (1, taps), "i": (2, entries)}[role]
    moved = np.moveaxis(result, axis, 0)
    found = pairs.normalized(moved.reshape(len(moved), -1), cut).reshape(moved.shape)
    return np.ascontiguousarray(np.moveaxis(found, 0, axis))


def _each_pair(sweep: Sweep, steps: Sizes, entries: Sizes) -> Array:
    """`incidence` of all pairs of reads, one by one."""
    at, there = sweep.places()
    step, tap = np.nonzero(there)
    related = [(steps, step), ((sweep.taps,), tap), (entries, at[there])]
    return pairs.tallied(related, np.ones(len(step)))


def _by_class(sweep: Sweep, steps: Sizes, entries: Sizes) -> Array:
    """`incidence` where pairs are told apart by their classes only."""
    at, there = sweep.places()
    of_step, of_entry = pairs.indicator(steps), pairs.indicator(entries)
    k, e = len(steps), len(entries)
    read = of_entry[np.where(there, at, 0)] * there[..., None]
    by_tap = np.einsum("oc,ote->tce", of_step, read)
    by_step = read.sum(axis=1)
    by_entry = np.zeros((sweep.entries, k))
    row, _ = np.nonzero(there)
    np.add.at(by_entry, at[there], of_step[row])
    one = by_tap.sum(axis=0)
    tap = np.einsum("tce,tdf->cdef", by_tap, by_tap)
    step = np.einsum("oc,oe,of->cef", of_step, by_step, by_step)
    entry = np.einsum("ie,ic,id->cde", of_entry, by_entry, by_entry)
    each, every = np.arange(k), np.arange(e)
    step[:, every, every] -= one
    entry[each, each, :] -= one
    rest = np.einsum("ce,df->cdef", one, one)
    rest[each, each] -= step
    rest[:, :, every, every] -= entry
    for c in range(k):
        tap[c, c, every, every] -= one[c]
        rest[c, c, every, every] -= one[c]
    rest -= tap
    result = np.zeros((pairs.ways(steps), 2, pairs.ways(entries)))
    result[:k, 0, :e] = one
    result[k:, 0, e:] = tap.reshape(k * k, e * e)
    result[:k, 1, e:] = step.reshape(k, e * e)
    result[k:, 1, :e] = entry.reshape(k * k, e)
    result[k:, 1, e:] = rest.reshape(k * k, e * e)
    return result


@lru_cache(maxsize=4096)
def carried(sweep: Sweep, cut: Sizes, start: str) -> Sizes:
    """Classes of the output's positions: those of the entries that their middle taps read.

    Args:
        sweep: the axis.
        cut: classes of the input's positions.
        start: whether these are entries "i" or, transposed, steps "o".
    """
    if sweep.taps == 1 and not isinstance(cut, pairs.Line):
        return _classes(sweep, cut, start)
    at, there = sweep.places()
    if np.count_nonzero(there) > _MOST_READS:
        return _classes(sweep, pairs.in_order(cut), start)
    step, _ = np.nonzero(there)
    matrix = np.zeros((sweep.steps, sweep.entries))
    np.add.at(matrix, (step, at[there]), 1.0)
    rows = matrix if start == "i" else matrix.T
    if start != "i" and len(cut) == 1:  # a border that lacks taps is no class of its own there
        rows = np.zeros_like(rows)
    return lined(rows, cut) or _classes(sweep, pairs.in_order(cut), start)


def lined(matrix: Array, into: Sizes) -> Sizes | None:
    """Classes of outputs as a line; None where one would be too short, or too much work.

    Args:
        matrix: (outputs, inputs), not zero where an output reads an input.
        into: classes of the inputs.
    """
    if len(matrix) < _SHORTEST or np.count_nonzero(matrix) > _MOST_READS:
        return None
    if not isinstance(into, pairs.Line) and len(into) > _PLAIN:
        return None
    return pairs.of_positions(np.abs(matrix) @ pairs.indicator(into))


def _classes(sweep: Sweep, cut: Sizes, start: str) -> Sizes:
    number = sweep.steps if start == "i" else sweep.entries
    border = _border(sweep) if start == "i" else (number,)
    if len(cut) == 1 or (len(border) > 1 and len(cut) <= 3):
        return border
    middle = sweep.dilation * (sweep.taps - 1) // 2 - sweep.padding
    at = np.arange(number)
    at = at * sweep.stride + middle if start == "i" else (at - middle) // sweep.stride
    owner = pairs.owners(cut)[np.clip(at, 0, sum(cut) - 1)]
    return tuple(int(size) for size in np.unique(owner, return_counts=True)[1])


@lru_cache(maxsize=4096)
def _border(sweep: Sweep) -> Sizes:
    """Steps at the lower end that miss a tap, those in the middle, those at the upper end.

    What a border lacks, a norm over all positions makes up for in the middle.
    """
    _, there = sweep.places()
    whole = np.flatnonzero(there.all(axis=1))
    if len(whole) in (0, sweep.steps) or sweep.steps > _LARGEST:
        return (sweep.steps,)
    first, last = int(whole[0]), int(whole[-1])
    sizes = (first, last + 1 - first, sweep.steps - 1 - last)
    return tuple(size for size in sizes if size)


def _alive(f: Field, axis: int) -> Sizes:
    """Classes of an axis; a single one if all others are zero, as padding around an image is."""
    if not f.groups[axis]:
        return (1,)
    place = f.factors_of(axis)[0]
    cut = f.cuts[place]
    rows = np.moveaxis(f.energies, place, 0)
    if sum(bool(row.any()) for row in rows) > 1:
        return cut
    return pairs.Mirror((sum(cut),)) if isinstance(cut, pairs.Line) else (sum(cut),)


def _matched(first: str, a: Field, other: str, b: Field) -> tuple[Field, Field]:
    """Both on the same factors and classes of the axes that they share."""
    shared = [letter for letter in AXES[first][:3] if letter in AXES[other][:3]]
    if "n" in shared:
        a, b = same_factors([a, b], 0)
    left, right = list(a.cuts), list(b.cuts)
    for letter in shared:
        ours = a.factors_of(AXES[first].index(letter))
        theirs = b.factors_of(AXES[other].index(letter))
        for one, two in zip(ours, theirs, strict=True):
            left[one] = right[two] = pairs.common(a.cuts[one], b.cuts[two])
    return a.recut(left), b.recut(right)


def letters(name: str, d: int) -> list[str]:
    """Names of the axes of a side with d spatial ones."""
    axes = AXES[name]
    return [*axes[:3], *(axes[3] + str(axis) for axis in range(d))]
