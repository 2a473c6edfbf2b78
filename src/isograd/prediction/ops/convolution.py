"""Convolutions: weights moved along spatial axes, plain, grouped, depthwise, transposed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from isograd.prediction import pairs
from isograd.prediction.fields import Field, _same_factors
from isograd.prediction.ops import Op, Outcome

if TYPE_CHECKING:
    from isograd.prediction.pairs import Array, Sizes
    from isograd.prediction.propagation import Call

# Axes: n samples, g groups, z channels of one group on the side that is stepped over, c channels
# of one group on the side that is read, then spatial axes: o steps, i entries, w taps.
_AXES = {"stepped": "ngzo", "read": "ngci", "weight": "gzcw"}


@dataclass(frozen=True, slots=True)
class Sweep:
    """A kernel along one axis: step o reads entry o * stride + tap * dilation - padding."""

    steps: int
    entries: int
    taps: int
    stride: int
    padding: int
    dilation: int

    def reads(self) -> tuple[Array, Array]:
        """(entries read, whether they exist), each [steps, taps]."""
        at = np.arange(self.steps)[:, None] * self.stride - self.padding
        at = at + np.arange(self.taps) * self.dilation
        return at, (at >= 0) & (at < self.entries)


class Convolution(Op):
    """Sum over taps and channels; different weights are independent, so equal taps correlate."""

    code = "convolution"
    functions = tuple(
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d conv_tbc".split()
    )
    source = "Xiao et al. 2018, eq. 2.3; borders, strides and groups counted"

    def apply(self, call: Call, *args: Any, **kwargs: Any) -> Outcome:
        """One call of any of the functions."""
        if call.name == "conv_tbc":
            return self._time_first(call, *args, **kwargs)
        if call.name.startswith("conv_transpose"):
            return self._transposed(call, *args, **kwargs)
        return self._plain(call, *args, **kwargs)

    def _plain(
        self, call: Call, input: Any, weight: Any, bias: Any = None,  # noqa: A002
        stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    ) -> Outcome:  # fmt: skip
        x, w = call.field(input), call.field(weight)
        sizes, taps = x.shape[-(len(w.shape) - 2) :], w.shape[2:]
        d = len(taps)
        strides, dilations = _each(stride, d), _each(dilation, d)
        sweeps = []
        for axis in range(d):
            reach = dilations[axis] * (taps[axis] - 1)
            if padding == "same":
                before, both = reach // 2, reach
            else:
                before = 0 if padding == "valid" else _each(padding, d)[axis]
                both = 2 * before
            steps = (sizes[axis] + both - reach - 1) // strides[axis] + 1
            sweeps.append(
                Sweep(steps, sizes[axis], taps[axis], strides[axis], before, dilations[axis])
            )
        return swept(call, x, w, bias, sweeps, groups, to="stepped")

    def _transposed(
        self, call: Call, input: Any, weight: Any, bias: Any = None,  # noqa: A002
        stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1,
        dilation: Any = 1,
    ) -> Outcome:  # fmt: skip
        x, w = call.field(input), call.field(weight)
        sizes, taps = x.shape[-(len(w.shape) - 2) :], w.shape[2:]
        d = len(taps)
        given = zip(
            sizes, taps, *(_each(v, d) for v in (stride, padding, output_padding, dilation)),
            strict=True,
        )  # fmt: skip
        sweeps = [
            Sweep(n, (n - 1) * step - 2 * pad + apart * (k - 1) + more + 1, k, step, pad, apart)
            for n, k, step, pad, more, apart in given
        ]
        return swept(call, x, w, bias, sweeps, groups, to="read")

    def _time_first(self, call: Call, input: Any, weight: Any, bias: Any, pad: int = 0) -> Outcome:  # noqa: A002
        """`conv_tbc`: input (time, batch, channels), weight (taps, in, out)."""
        x, w = call.field(input), call.field(weight)
        turned, kernel = x.permuted((1, 2, 0)), w.permuted((2, 1, 0))
        taps = w.shape[0]
        sweep = Sweep(x.shape[0] + 2 * pad - taps + 1, x.shape[0], taps, 1, pad, 1)
        for one, start in ((turned, x), (kernel, w)):
            one.noise, one.condition, one.notes = start.noise, start.condition, start.notes
        found = swept(call, turned, kernel, bias, [sweep], 1, to="stepped")

        def back(gradient: Field) -> list[tuple[Field, Field]]:
            assert found.back is not None
            result = []
            for where, g in found.back(gradient.permuted((1, 2, 0))):
                if where is turned:
                    result.append((x, g.permuted((2, 0, 1))))
                elif where is kernel:
                    result.append((w, g.permuted((2, 1, 0))))
                else:
                    result.append((where, g))
            return result

        out = found.out.permuted((2, 0, 1))
        return Outcome(out, back, [x, w], formula=found.formula)


def swept(
    call: Call, x: Field, weight: Field, bias: Any, sweeps: list[Sweep], groups: int, *, to: str
) -> Outcome:
    """A convolution, to the side that is stepped over or (transposed) to the one that is read.

    Args:
        call: under way.
        x: (samples or none, channels, spatial axes).
        weight: (channels stepped, channels read of one group, taps), as both kinds have it.
        bias: one entry per channel of the output, or None.
        sweeps: one per spatial axis.
        groups: parts of the channels that do not mix.
        to: "stepped" or "read".
    """
    from isograd.prediction.ops.arithmetic import added
    from isograd.prediction.ops.linear import _draw

    start = "read" if to == "stepped" else "stepped"
    kernel = _kernel(weight, groups)
    wide = _sides(x, groups, len(sweeps))
    out = _restored(contracted({start: wide, "weight": kernel}, to, sweeps), x)
    out.noise = x.noise + weight.noise + _draw(x, "", "") + _draw(weight, "", "")
    out.condition = x.condition + weight.condition
    offset = None
    if bias is not None:
        offset = call.field(bias)
        tall = offset.reshaped((*offset.shape, *([1] * len(sweeps))))
        tall.noise, tall.condition = offset.noise, offset.condition
        out = added(call, out, tall, 1.0).out

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        result = []
        if offset is not None:
            sums = gradient.summed_to((*offset.shape, *([1] * len(sweeps))))
            result.append((offset, sums.reshaped(offset.shape)))
        g = _sides(gradient, groups, len(sweeps))
        noise = gradient.noise + _draw(gradient, "", "")
        for where, sides in ((x, {to: g, "weight": kernel}), (weight, {to: g, start: wide})):
            if where.notes.get("fixed"):
                continue
            name, like = (start, wide) if where is x else ("weight", kernel)
            found = contracted(sides, name, sweeps, like)
            one = _restored(found, x) if where is x else _grouped(found, 0)
            one.noise = noise
            result.append((where, one))
        return result

    formula = "taps in bounds * n E x^2 E w^2; other positions: taps in bounds of both"
    return Outcome(out, back, [x, weight], formula=formula)


def contracted(
    sides: dict[str, Field], target: str, sweeps: list[Sweep], like: Field | None = None
) -> Field:
    """One of the sides stepped, read, weight from the other two: a sum over what it lacks.

    Args:
        sides: two fields by name, on the axes of `_AXES`.
        target: name of the third.
        sweeps: one per spatial axis.
        like: gives the classes of the result's spatial axes; chosen by what is read where None.
    """
    (first, a), (other, b) = sides.items()
    a, b = _matched(first, a, other, b)
    cuts: dict[str, tuple[Sizes, ...]] = {}
    for name, f in ((first, a), (other, b)):
        for axis, letter in enumerate(_letters(name, len(sweeps))):
            cuts[letter] = tuple(f.cuts[place] for place in f.factors_of(axis))
    for axis, sweep in enumerate(sweeps):
        letter = _AXES[target][3] + str(axis)
        if like is not None:
            cuts[letter] = tuple(like.cuts[place] for place in like.factors_of(3 + axis))
        else:
            start = _AXES[first][3]
            known = cuts[start + str(axis)] or ((1,),)
            blank = _silent(sides[first], 3 + axis)
            cut = (sum(known[0]),) if blank else known[0]
            made = _carried(sweep, cut, start)
            cuts[letter] = (made,) if sum(made) > 1 else ()
    letters = _letters(target, len(sweeps))
    second = _second(first, a, other, b, target, sweeps, cuts)
    mean = _mean(first, a, other, b, target, sweeps, cuts)
    flat = tuple(cut for letter in letters for cut in cuts[letter])
    return Field(second, flat, tuple(len(cuts[letter]) for letter in letters), mean)


def _second(
    first: str, a: Field, other: str, b: Field, target: str, sweeps: list[Sweep],
    cuts: dict[str, tuple[Sizes, ...]],
) -> Array:  # fmt: skip
    d = len(sweeps)
    number: dict[tuple[str, int], int] = {}

    def ids(name: str) -> list[int]:
        return [
            number.setdefault((letter, part), len(number))
            for letter in _letters(name, d)
            for part in range(len(cuts[letter]))
        ]

    left, right, out = ids(first), ids(other), ids(target)
    array = a.second
    for letter in _letters(first, d)[:3]:
        for part, cut in enumerate(cuts[letter]):
            if number[letter, part] not in out:
                shape = [1] * array.ndim
                shape[left.index(number[letter, part])] = -1
                array = array * pairs.counts(cut).reshape(shape)
    for axis, sweep in enumerate(sweeps):
        names = [role + str(axis) for role in "owi"]
        own = [number[name, 0] for name in names if cuts[name]]
        table = incidence(
            sweep,
            *(cuts[name][0] if cuts[name] else (1,) for name in ("o" + str(axis), "i" + str(axis))),
            _AXES[target][3],
        )
        table = table[tuple(slice(None) if cuts[name] else 0 for name in names)]
        start = names["owi".index(_AXES[first][3])]
        gone = {number[start, 0]} if cuts[start] else set()
        made = [one for one in left if one not in gone] + [one for one in own if one not in gone]
        array = np.einsum(array, left, table, own, made)
        left = made
    return np.asarray(np.einsum(array, left, b.second, right, out))


def _mean(
    first: str, a: Field, other: str, b: Field, target: str, sweeps: list[Sweep],
    cuts: dict[str, tuple[Sizes, ...]],
) -> Array:  # fmt: skip
    d = len(sweeps)
    letters = _letters(target, d)
    shape = tuple(len(cut) for letter in letters for cut in cuts[letter])
    if target == "weight" or not a.mean.any() or not b.mean.any():
        return np.zeros(shape)
    number: dict[tuple[str, int], int] = {}
    arrays = []
    for name, f in ((first, a), (other, b)):
        array, labels = f.mean, []
        for letter in _letters(name, d):
            for part, cut in enumerate(cuts[letter]):
                if letter[0] == "w":  # one class: every tap has the same mean
                    array = array.take(0, len(labels))
                    continue
                labels.append(number.setdefault((letter, part), len(number)))
                if letter not in letters and letter[0] in "ngzc" and name == first:
                    wide = [1] * array.ndim
                    wide[len(labels) - 1] = -1
                    array = array * np.array(cut, dtype=np.float64).reshape(wide)
        arrays.append((array, labels))
    (array, left), (weights, right) = arrays
    for axis, sweep in enumerate(sweeps):
        stepped, read = "o" + str(axis), "i" + str(axis)
        made, start = (stepped, read) if stepped in letters else (read, stepped)
        sizes = [cuts[name][0] if cuts[name] else (1,) for name in (stepped, read)]
        counted = incidence(sweep, *sizes, "")[: len(sizes[0]), 0, : len(sizes[1])]
        matrix = counted.T if made == read else counted
        matrix = matrix / np.array(sizes[0 if made == stepped else 1])[:, None]
        if not cuts[start]:
            matrix = matrix[:, 0]
        if not cuts[made]:
            matrix = matrix[0]
        own = [number.setdefault((name, 0), len(number)) for name in (made, start) if cuts[name]]
        kept = [one for one in left if not cuts[start] or one != number[start, 0]]
        wanted = kept + ([number[made, 0]] if cuts[made] else [])
        array, left = np.einsum(array, left, matrix, own, wanted), wanted
    out = [number[letter, part] for letter in letters for part in range(len(cuts[letter]))]
    return np.asarray(np.einsum(array, left, weights, right, out))


@lru_cache(maxsize=4096)
def incidence(sweep: Sweep, steps: Sizes, entries: Sizes, target: str) -> Array:
    """[ways of steps, ways of taps, ways of entries]: pairs of reads (o, w, i), (o', w', i').

    Two of equal step, tap and entry determine the third, so that pairs of reads agree in all
    three, in one, or in none.

    Args:
        sweep: the axis.
        steps: classes of the steps.
        entries: classes of the entries.
        target: o, w or i: counted per pair of these; "" for the number of all.
    """
    at, there = sweep.reads()
    of_step, of_entry = pairs.indicator(steps), pairs.indicator(entries)
    k, e = len(steps), len(entries)
    reads = of_entry[np.where(there, at, 0).astype(np.intp)] * there[..., None]
    by_tap = np.einsum("oc,ote->tce", of_step, reads)
    by_step = reads.sum(axis=1)
    by_entry = np.zeros((sweep.entries, k))
    row, _ = np.nonzero(there)
    np.add.at(by_entry, at[there].astype(np.intp), of_step[row])
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
    if not target:
        return result
    axis, cut = {"o": (0, steps), "w": (1, (sweep.taps,)), "i": (2, entries)}[target]
    moved = np.moveaxis(result, axis, 0)
    found = pairs.normalized(moved.reshape(len(moved), -1), cut).reshape(moved.shape)
    return np.ascontiguousarray(np.moveaxis(found, 0, axis))


@lru_cache(maxsize=4096)
def _carried(sweep: Sweep, cut: Sizes, start: str) -> Sizes:
    """Classes of the output's positions: those of the entries that their middle taps read.

    Args:
        sweep: the axis.
        cut: classes of the input's positions.
        start: whether these are entries "i" or, transposed, steps "o".
    """
    number = sweep.steps if start == "i" else sweep.entries
    if len(cut) == 1:
        return (number,)
    middle = sweep.dilation * (sweep.taps - 1) // 2 - sweep.padding
    at = np.arange(number)
    at = at * sweep.stride + middle if start == "i" else (at - middle) // sweep.stride
    owner = np.repeat(np.arange(len(cut)), cut)[np.clip(at, 0, sum(cut) - 1)]
    return tuple(int(size) for size in np.unique(owner, return_counts=True)[1])


def _silent(f: Field, axis: int) -> bool:
    """Whether all classes of an axis but one are zero, such as padding put around an image."""
    place = f.factors_of(axis)[0] if f.groups[axis] else None
    if place is None or len(f.cuts[place]) == 1:
        return True
    energies = np.moveaxis(f.energies, place, 0)
    return sum(bool(row.any()) for row in energies) <= 1


def _matched(first: str, a: Field, other: str, b: Field) -> tuple[Field, Field]:
    """Both on the same factors and classes of the axes that they share."""
    shared = [letter for letter in _AXES[first][:3] if letter in _AXES[other][:3]]
    if "n" in shared:
        a, b = _same_factors([a, b], 0)
    left, right = list(a.cuts), list(b.cuts)
    for letter in shared:
        ours = a.factors_of(_AXES[first].index(letter))
        theirs = b.factors_of(_AXES[other].index(letter))
        for one, two in zip(ours, theirs, strict=True):
            left[one] = right[two] = pairs.common(a.cuts[one], b.cuts[two])
    return a.recut(left), b.recut(right)


def _letters(name: str, d: int) -> list[str]:
    axes = _AXES[name]
    return [*axes[:3], *(axes[3] + str(axis) for axis in range(d))]


def _sides(f: Field, groups: int, d: int) -> Field:
    """(samples, groups, channels of one group, spatial axes); single factors but for samples."""
    shape = f.shape if len(f.groups) == d + 2 else (1, *f.shape)
    made = f.reshaped((shape[0], groups, shape[1] // groups, *shape[2:]))
    return _merged(made, range(1, len(made.groups)))


def _kernel(weight: Field, groups: int) -> Field:
    shape = weight.shape
    made = weight.reshaped((groups, shape[0] // groups, *shape[1:]))
    return _merged(made, range(len(made.groups)))


def _merged(f: Field, axes: range) -> Field:
    for axis in axes:
        if f.groups[axis] > 1:
            f = f.as_one(axis)
    return f


def _restored(f: Field, like: Field) -> Field:
    """Groups and their channels as one axis again, without samples if `like` has none."""
    made = _grouped(f, 1)
    return made if len(made.groups) == len(like.groups) else made.regrouped(made.groups[1:])


def _grouped(f: Field, axis: int) -> Field:
    groups = f.groups
    return f.regrouped((*groups[:axis], groups[axis] + groups[axis + 1], *groups[axis + 2 :]))


def _each(value: Any, d: int) -> tuple[int, ...]:
    """One number per spatial axis."""
    given = (int(value),) * d if isinstance(value, int) else tuple(int(v) for v in value)
    return given * d if len(given) == 1 else given
