"""Parts of a tensor and tensors put together: slices, indices, splits, concatenation, padding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from isograd.prediction.backward.links import Link
from isograd.prediction.functions.hiding import MASKED, hidden
from isograd.prediction.moments import pairs
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import constant
from isograd.prediction.moments.masks import geometric
from isograd.prediction.moments.mixing import noted, picked
from isograd.prediction.moments.parts import (
    joined,
    part,
)
from isograd.prediction.moments.picking import (
    between,
    bordered,
    known_index,
    repeated,
    repeats_summed,
    steps_of,
    ways,
)
from isograd.prediction.moments.sums import multiplied, summed
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.ops.arithmetic import mixed
from isograd.prediction.ops.layout import relaid
from isograd.prediction.sampling import sampled

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call

_FEW = 64
"""Parts of a whole up to which it is asked what they have in common."""


_PLACED = "placed"
"""Note of a field that is filled index by index."""


class Indexing(Op):
    """A part keeps the moments of its classes; parts put together are classes of the whole."""

    code = "indexing"
    functions = tuple(
        "getitem select narrow chunk split tensor_split unbind cat concat concatenate stack flip "
        "roll pad constant_pad_nd index_select masked_fill tril triu repeat_interleave hstack "
        "vstack split_with_sizes unsafe_chunk unsafe_split setitem".split()
    )
    lines = functions
    source = "exchangeable entries within a class"

    def apply(self, call: Call, *args: Any, **kwargs: Any) -> Outcome:
        """One call of any of the functions."""
        found: Outcome = getattr(self, f"_{call.name}")(call, *args, **kwargs)
        return found

    # -- parts ----------------------------------------------------------------------------------

    def _getitem(self, call: Call, x: Any, index: Any) -> Outcome:
        f = call.field(x)
        steps = steps_of(call, index, len(f.groups))
        return _picked(f, steps, _chain(call, f, steps))

    def _setitem(self, call: Call, x: Any, index: Any, value: Any) -> Outcome:
        f, v = call.field(x), call.field(value)
        steps = steps_of(call, index, len(f.groups))
        ahead, behind = ways(steps)
        region = ahead(f).shape
        placed = _placed(f, steps, v) if v.shape == region else None
        if placed is not None and len(placed[1]) == f.shape[placed[0]]:  # nothing else is left
            rows = [one for _, one in sorted(placed[1].items())]
            return _beside(call, rows, placed[0], stacked=True)
        mask = behind(constant(region, 1.0))
        base, new, there = aligned(f, behind(v.expanded(region)), mask)
        (m1, m2), (f1, f2) = there.per_pair(there.mean), base.per_pair(base.mean)
        e1, e2 = new.per_pair(new.mean)
        neither = 1 - m1 - m2 + there.second
        cross = (1 - m1) * f1 * e2 + (1 - m2) * e1 * f2
        mean = base.mean * (1 - there.mean) + new.mean
        out = base.like(base.second * neither + new.second + cross, mean)
        if placed is not None:
            out.notes[_PLACED] = placed

        def back(gradient: Field) -> list[tuple[Field, Field]]:
            g, m = aligned(gradient, mask)
            first, other = m.per_pair(m.mean)
            kept = g.like(g.second * (1 - first - other + m.second))
            return [(f, kept), (v, ahead(gradient).summed_to(v.shape))]

        return Outcome(out, back, [f, v], formula="classes put in place of others")

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
        ranges = [slice(a, b) for a, b in zip(starts, edges, strict=True)]
        return _several(f, [_chain(call, f, [("part", axis, one)]) for one in ranges])

    _split_with_sizes = _unsafe_split = _split

    def _tensor_split(self, call: Call, x: Any, sections: Any, dim: int = 0) -> Outcome:
        size = call.field(x).shape[dim]
        if isinstance(sections, int):
            base, extra = divmod(size, sections)
            sizes = [base + 1] * extra + [base] * (sections - extra)
        else:
            edges = [0, *sections, size]
            sizes = [b - a for a, b in pairwise(edges)]
        return self._split(call, x, sizes, dim)

    def _unbind(self, call: Call, x: Any, dim: int = 0) -> Outcome:
        f = call.field(x)
        axis = dim % len(f.groups)
        return _several(f, [_chain(call, f, [("one", axis, i)]) for i in range(f.shape[axis])])

    def _index_select(self, call: Call, x: Any, dim: int, index: Any) -> Outcome:
        f = call.field(x)
        axis = dim % len(f.groups)
        steps = [("pick", (axis,), (known_index(call, index)[0],))]
        return _picked(f, steps, _chain(call, f, steps))

    def _flip(self, call: Call, x: Any, *dims: Any, **kwargs: Any) -> Outcome:
        f = call.field(x)
        axes = dims or tuple(kwargs.values())
        if len(axes) == 1 and not isinstance(axes[0], int):
            axes = tuple(axes[0])
        backwards = [(a % len(f.groups), np.arange(f.shape[a])[::-1]) for a in axes]
        return _chain(call, f, [("pick", (a,), (index,)) for a, index in backwards])

    def _roll(self, call: Call, x: Any, shifts: Any, dims: Any = None) -> Outcome:
        f = call.field(x)
        if dims is None:
            out = f.like(f.second, f.mean)
            return Outcome(out, lambda g: [(f, g)], [f])
        pair = ((shifts,), (dims,)) if isinstance(dims, int) else (shifts, dims)
        steps = [
            ("pick", (a % len(f.groups),), (np.roll(np.arange(f.shape[a]), s),))
            for s, a in zip(*pair, strict=True)
        ]
        return _chain(call, f, steps)

    def _repeat_interleave(
        self, call: Call, x: Any, repeats: Any, dim: Any = None, **_: Any
    ) -> Outcome:
        f = call.field(x)
        if dim is None or not isinstance(repeats, int):
            raise call.refuse("repeats unevenly", "use a whole number of repeats and a dim")
        axis = dim % len(f.groups)
        ahead = partial(repeated, axis=axis, times=repeats)
        return relaid(call, f, ahead, partial(repeats_summed, axis=axis, times=repeats))

    # -- together -------------------------------------------------------------------------------

    def _cat(self, call: Call, tensors: Sequence[Any], dim: int = 0, **_: Any) -> Outcome:
        given = [t for t in tensors if not (isinstance(t, Tensor) and t.shape == (0,))]
        fields = [call.field(t) for t in given]
        if len(fields) == 1:
            return Outcome(fields[0])
        return _beside(call, fields, dim % len(fields[0].groups))

    _concat = _concatenate = _cat

    def _hstack(self, call: Call, tensors: Sequence[Any]) -> Outcome:
        return self._cat(call, tensors, 0 if tensors[0].ndim == 1 else 1)

    def _vstack(self, call: Call, tensors: Sequence[Any]) -> Outcome:
        return self._cat(call, tensors, 0)

    def _stack(self, call: Call, tensors: Sequence[Any], dim: int = 0, **_: Any) -> Outcome:
        fields = [call.field(t) for t in tensors]
        return _beside(call, fields, dim % (len(fields[0].groups) + 1), stacked=True)

    def _pad(
        self, call: Call, x: Any, pad: Sequence[int], mode: str = "constant", value: Any = None
    ) -> Outcome:
        f = call.field(x)
        steps: list[Any] = []
        for number in range(len(pad) // 2):
            axis = len(f.groups) - 1 - number
            before, after = int(pad[2 * number]), int(pad[2 * number + 1])
            steps += bordered(axis, f.shape[axis], before, after, mode)
        if not steps:
            return Outcome(f)
        padded = _chain(call, f, steps)
        if value:
            with torch._C.DisableTorchFunction():
                inside = torch.zeros(f.shape, dtype=torch.float64)
                border = functional.pad(inside, list(pad), value=float(value))
            padded.out = summed(padded.out, call.field(border, padded.out))
        return padded

    _constant_pad_nd = _pad

    # -- masks ----------------------------------------------------------------------------------

    def _masked_fill(self, call: Call, x: Any, mask: Any, value: Any) -> Outcome:
        f = call.field(x)
        if not call.known(mask):
            return sampled(call, x, mask, value)
        with torch._C.DisableTorchFunction():
            number = float(value)
            if number <= MASKED:
                return hidden(f, (~mask).numpy())
            share = mask.double()
        return mixed(call, call.field(number), f, call.field(share, f), None)

    def _tril(self, call: Call, x: Any, diagonal: int = 0) -> Outcome:
        return self._triangle(call, x, torch.tril, diagonal)

    def _triu(self, call: Call, x: Any, diagonal: int = 0) -> Outcome:
        return self._triangle(call, x, torch.triu, diagonal)

    def _triangle(self, call: Call, x: Any, function: Any, diagonal: int) -> Outcome:
        f = call.field(x)
        with torch._C.DisableTorchFunction():
            mask = function(torch.ones(f.shape[-2:], dtype=torch.float64), diagonal)
        cuts = list(f.cuts)
        for axis in (-2, -1):  # rows see ever more, as under a mask of attention
            places = f.factors_of(axis)
            if len(places) == 1:
                cuts[places[0]] = pairs.common(cuts[places[0]], geometric(f.shape[axis]))
        fine = f.recut(cuts)
        done = multiplied(fine, call.field(mask, fine))
        behind = done.back
        assert behind is not None
        back = lambda g: [(f, one) for where, one in behind(g) if where is fine]  # noqa: E731
        return Outcome(done.out, back, [f], formula=done.formula)


def _placed(f: Field, steps: list[Any], new: Field) -> tuple[int, dict[int, Field]] | None:
    """(axis, what was put at which of its indices), where nothing but that was put into a field."""
    if len(steps) != 1 or steps[0][0] != "one":
        return None
    axis, index = steps[0][1:]
    before = f.notes.get(_PLACED, (axis, {}))
    return (axis, {**before[1], index % f.shape[axis]: new}) if before[0] == axis else None


def _beside(call: Call, fields: list[Field], axis: int, *, stacked: bool = False) -> Outcome:
    """Fields side by side along an axis, a new one if they are stacked."""

    def wide(f: Field) -> Field:
        return f.regrouped((*f.groups[:axis], 0, *f.groups[axis:])) if stacked else f

    def flat(f: Field) -> Field:
        return f.regrouped((*f.groups[:axis], *f.groups[axis + 1 :])) if stacked else f

    made = [wide(f) for f in fields]
    starts = [0, *accumulate(f.shape[axis] for f in made)]

    def piece(gradient: Field, place: int) -> Field:
        return flat(part(gradient, axis, starts[place], starts[place + 1]))

    def ahead(*parts: Field) -> Field:
        return joined([wide(one) for one in parts], axis)

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        return [(f, piece(gradient, place)) for place, f in enumerate(fields)]

    single = len(fields) == starts[-1]  # what they have in common shows in sums along the axis
    twins, origins = call.run.twins, {id(one): f for one, f in zip(made, fields, strict=True)}

    def shared(a: Field, b: Field) -> Field | None:
        found = twins.covariance(origins[id(a)], origins[id(b)])
        twins.found = twins.found or found is not None
        return None if found is None else wide(found)

    link = Link(
        "cat",
        ahead,
        piece,
        where=(stacked, axis, tuple(starts)),
        between=(lambda g, i, j: flat(between(g, axis, i, j))) if single else None,
    )
    asked = len(fields) <= _FEW and (twins.found or single)
    out = joined(made, axis, shared if asked else None)
    return Outcome(out, back, fields, formula="classes side by side", link=link)


def _chain(call: Call, f: Field, steps: list[Any]) -> Outcome:
    """Parts taken axis by axis."""
    taken = [step for step in steps if step[0] != "new"]
    return relaid(call, f, *ways(steps), where=repr(taken) if taken else None)


def _picked(f: Field, steps: list[Any], done: Outcome) -> Outcome:
    """Notes which entries of one axis were taken."""
    kinds = [step for step in steps if step[0] == "pick"]
    if len(steps) == 1 and kinds and len(steps[0][1]) == 1 and steps[0][2][0].ndim == 1:
        (axis,), (index,) = steps[0][1:]
        return noted(done, picked(f, axis, index))
    return done


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
