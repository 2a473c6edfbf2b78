"""Parts of a tensor and tensors put together: slices, indices, splits, concatenation, padding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isograd.prediction import pairs
from isograd.prediction.fields import Field, aligned, empirical
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.twins import Link
from isograd.prediction.ops.arithmetic import MASKED, hidden, summed

if TYPE_CHECKING:
    from isograd.prediction.pairs import Sizes
    from isograd.prediction.propagation import Call


class Indexing(Op):
    """A part keeps the moments of its classes; parts put together are classes of the whole."""

    code = "indexing"
    functions = tuple(
        "getitem select narrow chunk split tensor_split unbind cat concat concatenate stack flip "
        "roll pad constant_pad_nd index_select masked_fill tril triu repeat_interleave hstack "
        "vstack split_with_sizes unsafe_chunk unsafe_split".split()
    )
    source = "exchangeable entries within a class"

    def apply(self, call: Call, *args: Any, **kwargs: Any) -> Outcome:
        """One call of any of the functions."""
        return getattr(self, f"_{call.name}")(call, *args, **kwargs)

    # -- parts ----------------------------------------------------------------------------------

    def _getitem(self, call: Call, x: Any, index: Any) -> Outcome:
        f = call.field(x)
        items = index if isinstance(index, tuple) else (index,)
        items = _without_ellipsis(items, len(f.groups))
        steps: list[Any] = []
        axis = 0
        for item in items:
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
                steps.append(("pick", axis, _known_index(call, item)))
                axis += 1
        return _chain(call, f, steps)

    def _select(self, call: Call, x: Any, dim: int, index: int) -> Outcome:
        f = call.field(x)
        return _chain(call, f, [("one", dim % len(f.groups), index)])

    def _narrow(self, call: Call, x: Any, dim: int, start: int, length: int) -> Outcome:
        f = call.field(x)
        return _chain(call, f, [("part", dim % len(f.groups), slice(start, start + length))])

    def _chunk(self, call: Call, x: Any, chunks: int, dim: int = 0) -> Outcome:
        size = call.field(x).shape[dim]
        return self._split(call, x, -(-size // chunks), dim)

    _unsafe_chunk = _chunk

    def _split(self, call: Call, x: Any, split_size: Any, dim: int = 0) -> Outcome:
        f = call.field(x)
        axis, size = dim % len(f.groups), f.shape[dim]
        if isinstance(split_size, int):
            edges = [*range(split_size, size, split_size), size]
        else:
            edges = list(accumulate(int(s) for s in split_size))
        starts = [0, *edges[:-1]]
        parts = [
            _chain(call, f, [("part", axis, slice(a, b))]) for a, b in zip(starts, edges, strict=True)
        ]
        return _several(f, parts)

    _split_with_sizes = _unsafe_split = _split

    def _tensor_split(self, call: Call, x: Any, sections: Any, dim: int = 0) -> Outcome:
        size = call.field(x).shape[dim]
        if isinstance(sections, int):
            base, extra = divmod(size, sections)
            sizes = [base + 1] * extra + [base] * (sections - extra)
        else:
            edges = [0, *sections, size]
            sizes = [b - a for a, b in zip(edges, edges[1:], strict=False)]
        return self._split(call, x, sizes, dim)

    def _unbind(self, call: Call, x: Any, dim: int = 0) -> Outcome:
        f = call.field(x)
        axis = dim % len(f.groups)
        return _several(f, [_chain(call, f, [("one", axis, i)]) for i in range(f.shape[axis])])

    def _index_select(self, call: Call, x: Any, dim: int, index: Any) -> Outcome:
        f = call.field(x)
        return _chain(call, f, [("pick", dim % len(f.groups), _known_index(call, index))])

    def _flip(self, call: Call, x: Any, *dims: Any, **kwargs: Any) -> Outcome:
        f = call.field(x)
        axes = dims or tuple(kwargs.values())
        if len(axes) == 1 and not isinstance(axes[0], int):
            axes = tuple(axes[0])
        steps = [("pick", a % len(f.groups), np.arange(f.shape[a])[::-1]) for a in axes]
        return _chain(call, f, steps)

    def _roll(self, call: Call, x: Any, shifts: Any, dims: Any = None) -> Outcome:
        f = call.field(x)
        if dims is None:
            out = f.like(f.second, f.mean)
            return Outcome(out, lambda g: [(f, g)], [f])
        pair = ((shifts,), (dims,)) if isinstance(dims, int) else (shifts, dims)
        steps = [
            ("pick", a % len(f.groups), np.roll(np.arange(f.shape[a]), s))
            for s, a in zip(*pair, strict=True)
        ]
        return _chain(call, f, steps)

    def _repeat_interleave(self, call: Call, x: Any, repeats: Any, dim: Any = None, **_: Any) -> Outcome:
        f = call.field(x)
        if dim is None or not isinstance(repeats, int):
            raise call.refuse("repeats unevenly", "use a whole number of repeats and a dim")
        index = np.repeat(np.arange(f.shape[dim]), repeats)
        return _chain(call, f, [("pick", dim % len(f.groups), index)])

    # -- together -------------------------------------------------------------------------------

    def _cat(self, call: Call, tensors: Sequence[Any], dim: int = 0, **_: Any) -> Outcome:
        given = [t for t in tensors if not (isinstance(t, Tensor) and t.shape == (0,))]
        return _joined(call, [call.field(t) for t in given], dim)

    _concat = _concatenate = _cat

    def _hstack(self, call: Call, tensors: Sequence[Any]) -> Outcome:
        return self._cat(call, tensors, 0 if tensors[0].ndim == 1 else 1)

    def _vstack(self, call: Call, tensors: Sequence[Any]) -> Outcome:
        return self._cat(call, tensors, 0)

    def _stack(self, call: Call, tensors: Sequence[Any], dim: int = 0, **_: Any) -> Outcome:
        fields = [call.field(t) for t in tensors]
        axis = dim % (len(fields[0].groups) + 1)
        wide = [f.regrouped((*f.groups[:axis], 0, *f.groups[axis:])) for f in fields]
        joined = _joined(call, wide, axis)

        def back(gradient: Field) -> list[tuple[Field, Field]]:
            assert joined.back is not None
            result = []
            for f, (_, g) in zip(fields, joined.back(gradient), strict=True):
                groups = (*g.groups[:axis], *g.groups[axis + 1 :])
                result.append((f, g.regrouped(groups)))
            return result

        return Outcome(joined.out, back, fields)

    def _pad(self, call: Call, x: Any, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Outcome:
        f = call.field(x)
        outs: list[tuple[Field, int, int]] = []
        current = f
        for step in range(len(pad) // 2):
            axis = len(f.groups) - 1 - step
            before, after = int(pad[2 * step]), int(pad[2 * step + 1])
            if not before and not after:
                continue
            current = _padded(current, axis, before, after, mode, float(value or 0.0))
            outs.append((current, axis, before))
        shapes = [f.shape, *(o.shape for o, _, _ in outs)]

        def back(gradient: Field) -> list[tuple[Field, Field]]:
            g = gradient
            for (_, axis, before), shape in zip(reversed(outs), reversed(shapes[:-1]), strict=True):
                g = part(g, axis, before, before + shape[axis])
            return [(f, g)]

        if not outs:
            current = f.like(f.second, f.mean)
        return Outcome(current, back, [f], formula=f"padded, {mode}")

    _constant_pad_nd = _pad

    # -- masks ----------------------------------------------------------------------------------

    def _masked_fill(self, call: Call, x: Any, mask: Any, value: Any) -> Outcome:
        f = call.field(x)
        if not call.known(mask):
            raise call.refuse("masks by values that are never computed", "measure instead")
        with torch._C.DisableTorchFunction():
            number = float(value)
            if number <= MASKED:
                return hidden(f, (~mask).numpy())
            keep = (~mask).double()
            fill = mask.double() * number
        from isograd.prediction.ops.arithmetic import added, multiplied

        product = multiplied(call, f, call.field(keep, f))
        if number:
            total = added(call, product.out, call.field(fill, f), 1.0)
            return Outcome(total.out, product.back, [f])
        return product

    def _tril(self, call: Call, x: Any, diagonal: int = 0) -> Outcome:
        return self._triangle(call, x, torch.tril, diagonal)

    def _triu(self, call: Call, x: Any, diagonal: int = 0) -> Outcome:
        return self._triangle(call, x, torch.triu, diagonal)

    def _triangle(self, call: Call, x: Any, function: Any, diagonal: int) -> Outcome:
        from isograd.prediction.ops.arithmetic import multiplied

        f = call.field(x)
        with torch._C.DisableTorchFunction():
            mask = function(torch.ones(f.shape[-2:], dtype=torch.float64), diagonal)
        return multiplied(call, f, call.field(mask, f))


def part(f: Field, axis: int, start: int, stop: int) -> Field:
    """Entries start … stop - 1 of one axis."""
    if start == 0 and stop == f.shape[axis]:
        return f
    whole, place = _single(f, axis)
    if place is None:
        return f
    old = whole.cuts[place]
    edges = sorted({start, stop, *accumulate(old)} - {0})
    fine = tuple(b - a for a, b in zip([0, *edges[:-1]], edges, strict=True))
    cut = whole.recut((*whole.cuts[:place], fine, *whole.cuts[place + 1 :]))
    starts = [0, *edges[:-1]]
    kept = [c for c, at in enumerate(starts) if start <= at < stop]
    return _chosen(cut, place, kept)


def _chosen(f: Field, place: int, kept: list[int]) -> Field:
    """Some classes of one factor; the factor goes away with its last entry but one."""
    cut = f.cuts[place]
    k = len(cut)
    ways = kept + [k + c * k + d for c in kept for d in kept]
    new = tuple(cut[c] for c in kept)
    second, mean = f.second.take(ways, place), f.mean.take(kept, place)
    nodes = None if f.nodes is None else f.nodes.take(np.array(kept), place)
    groups = f.groups
    cuts: tuple[Sizes, ...] = (*f.cuts[:place], new, *f.cuts[place + 1 :])
    if sum(new) == 1:
        second, mean = second.take(0, place), mean.take(0, place)
        nodes = None if nodes is None else nodes.squeezed(place)
        cuts = (*f.cuts[:place], *f.cuts[place + 1 :])
        axis = next(a for a in range(len(groups)) if place in f.factors_of(a))
        groups = tuple(n - (a == axis) for a, n in enumerate(groups))
    return f._with(second, mean, cuts, groups, nodes)


def embedded(g: Field, axis: int, start: int, size: int) -> Field:
    """Adjoint of `part`: zero elsewhere along an axis of `size` entries."""
    if g.shape[axis] == size:
        return g
    whole = _with_factor(g, axis)
    place = whole.factors_of(axis)[0]
    inner = whole.cuts[place]
    before, after = start, size - start - sum(inner)
    cut = (*((before,) if before else ()), *inner, *((after,) if after else ()))
    k, shift = len(cut), 1 if before else 0
    old = len(inner)
    ways_old = list(range(old)) + [old + c * old + d for c in range(old) for d in range(old)]
    ways_new = [c + shift for c in range(old)] + [
        k + (c + shift) * k + d + shift for c in range(old) for d in range(old)
    ]
    second = np.moveaxis(np.zeros((*whole.second.shape[:place], pairs.ways(cut), *whole.second.shape[place + 1 :])), place, 0)
    second[ways_new] = np.moveaxis(whole.second, place, 0)[ways_old]
    mean = np.moveaxis(np.zeros((*whole.mean.shape[:place], k, *whole.mean.shape[place + 1 :])), place, 0)
    mean[shift : shift + old] = np.moveaxis(whole.mean, place, 0)
    return whole._with(
        np.moveaxis(second, 0, place),
        np.moveaxis(mean, 0, place),
        (*whole.cuts[:place], cut, *whole.cuts[place + 1 :]),
        whole.groups,
    )


def picked(f: Field, axis: int, index: Any, size: int, *, back: bool = False) -> Field:
    """Entries chosen by known indices along an axis; with `back` the adjoint of that.

    Args:
        f: the input, or the gradient's field of the output.
        axis: of the tensor.
        index: (entries,) indices.
        size: length of the input's axis.
        back: whether `f` is the gradient.
    """
    n = len(index)
    if size * n > 4_000_000:  # too long for a matrix: as if drawn without looking
        return f if n == size else _thinned(f, axis, n)
    matrix = np.zeros((n, size))
    matrix[np.arange(n), index] = 1.0
    if back:
        matrix = matrix.T
    whole, place = _single(f, axis)
    if place is None:
        if not back:
            return _repeated(f, axis, n)
        return embedded(f, axis, int(index[0]), size)
    out: Sizes = (len(matrix),)
    if len(whole.cuts[place]) > 1:
        groups_of = pairs.indicator(whole.cuts[place])
        which = np.where(matrix.sum(1) > 0, (matrix @ groups_of).argmax(1), -1)
        edges = [*(np.flatnonzero(np.diff(which)) + 1).tolist(), len(which)]
        if len(edges) <= 64:
            out = tuple(b - a for a, b in zip([0, *edges[:-1]], edges, strict=True))
    moved = whole.mapped(place, matrix, out)
    return _chosen(moved, place, [0]) if len(matrix) == 1 else moved


def _repeated(f: Field, axis: int, times: int) -> Field:
    return f.expanded((*f.shape[:axis], times, *f.shape[axis + 1 :]))


def _thinned(f: Field, axis: int, n: int) -> Field:
    whole, place = _single(f, axis)
    if place is None:
        return f
    cuts = (*whole.cuts[:place], (sum(whole.cuts[place]),), *whole.cuts[place + 1 :])
    flat = whole.recut(cuts)
    return flat._with(
        flat.second, flat.mean, (*cuts[:place], (n,), *cuts[place + 1 :]), flat.groups
    )


def _single(f: Field, axis: int) -> tuple[Field, int | None]:
    """The field with an axis as one factor, and that factor; None at length one."""
    if not f.groups[axis]:
        return f, None
    whole = f.as_one(axis)
    return whole, whole.factors_of(axis)[0]


def _with_factor(f: Field, axis: int) -> Field:
    """The field with an axis as one factor, also at length one."""
    if f.groups[axis]:
        return f.as_one(axis)
    place = sum(f.groups[:axis])
    return f._with(
        np.stack([f.second, f.second], axis=place),
        np.expand_dims(f.mean, place),
        (*f.cuts[:place], (1,), *f.cuts[place:]),
        (*f.groups[:axis], 1, *f.groups[axis + 1 :]),
    )


def _chain(call: Call, f: Field, steps: list[Any]) -> Outcome:
    """Parts taken axis by axis."""
    from isograd.prediction.ops.layout import relaid

    sizes: list[Any] = []

    def ahead(g: Field) -> Field:
        sizes.clear()
        for kind, axis, what in steps:
            if kind == "new":
                g = g.regrouped((*g.groups[:axis], 0, *g.groups[axis:]))
                sizes.append(None)
                continue
            size = g.shape[axis]
            sizes.append(size)
            if kind == "one":
                at = int(what) % size
                g = part(g, axis, at, at + 1)
                g = g.regrouped((*g.groups[:axis], *g.groups[axis + 1 :]))
            elif kind == "part" and (what.step or 1) == 1:
                start, stop, _ = what.indices(size)
                g = part(g, axis, start, stop)
            elif kind == "part":
                g = picked(g, axis, np.arange(size)[what], size)
            else:
                g = picked(g, axis, what, size)
        return g

    def behind(g: Field) -> Field:
        for (kind, axis, what), size in zip(reversed(steps), reversed(sizes), strict=True):
            if kind == "new":
                g = g.regrouped((*g.groups[:axis], *g.groups[axis + 1 :]))
            elif kind == "one":
                g = g.regrouped((*g.groups[:axis], 0, *g.groups[axis:]))
                g = embedded(g, axis, int(what) % size, size)
            elif kind == "part" and (what.step or 1) == 1:
                g = embedded(g, axis, what.indices(size)[0], size)
            else:
                index = np.arange(size)[what] if kind == "part" else what
                g = picked(g, axis, index, size, back=True)
        return g

    result = relaid(call, f, ahead, behind)
    taken = list(sizes)

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        sizes[:] = taken
        return [(f, behind(gradient))]

    return Outcome(result.out, back, [f], link=Link("layout", ahead, behind))


def _several(f: Field, parts: list[Outcome]) -> Outcome:
    def back(gradients: list[Field | None]) -> list[tuple[Field, Field]]:
        result = []
        for one, gradient in zip(parts, gradients, strict=True):
            if gradient is not None:
                assert one.back is not None
                result += list(one.back(gradient))
        return result

    links = tuple(one.link if isinstance(one.link, Link) else None for one in parts)
    return Outcome(tuple(one.out for one in parts), back, [f], link=links)


def _joined(call: Call, fields: list[Field], dim: int) -> Outcome:
    """Independent fields one after the other along an axis."""
    del call
    if len(fields) == 1:
        only = fields[0]
        return Outcome(only.like(only.second, only.mean), lambda g: [(only, g)], fields)
    axis = dim % len(fields[0].groups)
    lengths = [f.shape[axis] for f in fields]
    # The other axes on the same factors and classes; this one is left out of it.
    lead = [_without(f, axis) for f in fields]
    base = aligned(*lead)
    cuts = base[0].cuts
    place = sum(base[0].groups[:axis])
    wide = [_with_factor(_onto(f, axis, base[0]), axis) for f in fields]
    inner = [f.cuts[place] for f in wide]
    cut = tuple(size for one in inner for size in one)
    k = len(cut)
    shape = [pairs.ways(c) for c in cuts]
    shape.insert(place, pairs.ways(cut))
    second = np.moveaxis(np.zeros(shape), place, 0)
    mean_shape = [len(c) for c in cuts]
    mean_shape.insert(place, k)
    mean = np.moveaxis(np.zeros(mean_shape), place, 0)
    at = 0
    for f, one in zip(wide, inner, strict=True):
        old = len(one)
        rows = np.moveaxis(f.second, place, 0)
        new = [c + at for c in range(old)] + [
            k + (c + at) * k + d + at for c in range(old) for d in range(old)
        ]
        second[new] = rows
        mean[at : at + old] = np.moveaxis(f.mean, place, 0)
        at += old
    first, other = zip(*(pairs.ends(c) for c in cuts), strict=True) if cuts else ((), ())
    owner = np.repeat(np.arange(len(inner)), [len(one) for one in inner])
    for c in range(k):
        for d in range(k):
            if owner[c] != owner[d] and mean[c].any() and mean[d].any():
                a = mean[c][np.ix_(*first)] if cuts else mean[c]
                b = mean[d][np.ix_(*other)] if cuts else mean[d]
                second[k + c * k + d] = a * b
    groups = list(base[0].groups)
    groups[axis] = 1
    out = Field(
        np.moveaxis(second, 0, place),
        (*cuts[:place], cut, *cuts[place:]),
        tuple(groups),
        np.moveaxis(mean, 0, place),
    )
    starts = [0, *accumulate(lengths)]

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        return [
            (f, part(gradient, axis, start, start + length))
            for f, start, length in zip(fields, starts, lengths, strict=False)
        ]

    return Outcome(simplified(out, place), back, fields, formula="classes side by side")


def simplified(f: Field, place: int, most: int = 24) -> Field:
    """Neighbouring classes that are alike as one, until there are at most `most`."""
    cut = f.cuts[place]
    if len(cut) == 1:
        return f
    rows = np.moveaxis(f.second, place, 0)[: len(cut)].reshape(len(cut), -1)
    scale = np.abs(rows).max() + 1e-300
    gaps = np.abs(np.diff(rows, axis=0)).max(axis=1) / scale
    keep = gaps > 1e-9
    if keep.sum() >= most:
        keep = gaps >= np.sort(gaps)[-(most - 1)]
    edges = np.flatnonzero(keep) + 1
    sizes = np.add.reduceat(np.array(cut), [0, *edges.tolist()])
    new = tuple(int(s) for s in sizes)
    return f if new == cut else f.recut((*f.cuts[:place], new, *f.cuts[place + 1 :]))


def _without(f: Field, axis: int) -> Field:
    """One entry of an axis, for the sake of the other axes."""
    whole, place = _single(f, axis)
    if place is None:
        return whole
    return whole._with(
        whole.second.take(0, place),
        whole.mean.take(0, place),
        (*whole.cuts[:place], *whole.cuts[place + 1 :]),
        (*whole.groups[:axis], 0, *whole.groups[axis + 1 :]),
    )


def _onto(f: Field, axis: int, base: Field) -> Field:
    """The field on the factors and classes of `base` on all axes but one."""
    whole, _ = _single(f, axis)
    return aligned(whole, base)[0]


def _padded(f: Field, axis: int, before: int, after: int, mode: str, value: float) -> Field:
    size = f.shape[axis]
    if mode != "constant":
        index = np.arange(-before, size + after)
        if mode == "reflect":
            index = np.abs(index)
            index = np.where(index >= size, 2 * size - 2 - index, index)
        elif mode == "replicate":
            index = np.clip(index, 0, size - 1)
        else:
            index = index % size
        return picked(f, axis, index, size)
    if before < 0 or after < 0:
        f = part(f, axis, max(0, -before), size - max(0, -after))
        before, after = max(0, before), max(0, after)
        size = f.shape[axis]
    out = embedded(f, axis, before, size + before + after)
    if value:
        mask = np.full(size + before + after, value)
        mask[before : before + size] = 0.0
        fill = empirical(mask, [out.cuts[out.factors_of(axis)[0]]])
        out = summed(out, fill.regrouped(tuple(int(a == axis) for a in range(len(out.groups)))))
    return out


def _without_ellipsis(items: tuple[Any, ...], ndim: int) -> list[Any]:
    real = sum(1 for item in items if item is not None and item is not Ellipsis)
    result: list[Any] = []
    for item in items:
        if item is Ellipsis:
            result += [slice(None)] * (ndim - real)
        else:
            result.append(item)
    return result


def _known_index(call: Call, item: Any) -> Any:
    if isinstance(item, Tensor) and not call.known(item):
        raise call.refuse("indexes by values that are never computed", "measure instead")
    with torch._C.DisableTorchFunction():
        found = torch.as_tensor(item)
        if found.dtype == torch.bool:
            found = found.nonzero().flatten()
        if found.ndim != 1:
            raise call.refuse(f"indexes by a tensor of {found.ndim} axes", "index by one axis")
        return found.numpy()


