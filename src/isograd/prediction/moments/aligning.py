"""Fields broadcast against each other, on the same factors and classes."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import numpy as np

from isograd.prediction.moments import pairs
from isograd.prediction.moments.fields import Field


def aligned(*fields: Field) -> list[Field]:
    """Fields broadcast against each other, on the same factors and classes."""
    groups, cuts_of_first = fields[0].groups, fields[0].cuts
    if all(f.groups == groups and f.cuts == cuts_of_first for f in fields):
        return list(fields)
    sizes = fields[0].sizes
    if all(f.groups == groups and f.sizes == sizes for f in fields):
        return _recut(list(fields))
    shape, nested = _together(tuple([(f.cuts, f.groups) for f in fields]))
    depth = len(shape)
    padded = [
        f if len(f.groups) == depth else f.regrouped((0,) * (depth - len(f.groups)) + f.groups)
        for f in fields
    ]
    if nested:
        return _recut([f.expanded(shape) for f in padded])
    for axis in range(depth):
        padded = same_factors(padded, axis)
    wide = [f.expanded(shape) for f in padded]
    # A repeated axis may have come as one factor where another field has several.
    for axis in range(depth):
        wide = same_factors(wide, axis)
    return _recut(wide)


@lru_cache(maxsize=4096)
def _together(layouts: tuple[tuple[tuple[pairs.Sizes, ...], tuple[int, ...]], ...]) -> Any:
    """(shape to which fields of these cuts and groups broadcast, whether their factors fit)."""
    depth = max(len(groups) for _, groups in layouts)
    axes: list[list[tuple[int, ...]]] = []
    for cuts, groups in layouts:
        sizes, ends = pairs.lengths(cuts), list(accumulate(groups, initial=0))
        own = [sizes[a:b] for a, b in pairwise(ends)]
        axes.append([()] * (depth - len(groups)) + own)
    by_axis = [set(factors) for factors in zip(*axes, strict=True)]
    shape = tuple(_length(tuple(prod(sizes) for sizes in axis)) for axis in by_axis)
    # Where one has no factor it gets one, which several of another do not fit.
    fit = all(
        len(axis) == 1 or (len(axis) == 2 and () in axis and max(map(len, axis)) == 1)
        for axis in by_axis
    )
    return shape, fit


def _length(sizes: tuple[int, ...]) -> int:
    """Of an axis that all of these broadcast to."""
    longest = max(sizes)
    if 0 in sizes:
        return 0
    if any(size not in (1, longest) for size in sizes):
        raise ValueError(f"axes of {' and '.join(map(str, sizes))} entries do not fit each other")
    return longest


def _recut(fields: list[Field]) -> list[Field]:
    """Fields of the same factors on the classes that all of them need."""
    cuts = fields[0].cuts
    for f in fields[1:]:
        if f.cuts != cuts:
            cuts = tuple(pairs.common(a, b) for a, b in zip(cuts, f.cuts, strict=True))
    return [f if f.cuts == cuts else f.recut(cuts) for f in fields]


def same_factors(fields: list[Field], axis: int) -> list[Field]:
    """One axis cut into the same factors in all fields that have it."""
    having = [i for i, f in enumerate(fields) if f.groups[axis]]
    layouts = {i: tuple(fields[i].sizes[p] for p in fields[i].factors_of(axis)) for i in having}
    if len(set(layouts.values())) < 2:
        return fields
    finest = max(layouts.values(), key=len)
    result = list(fields)
    nested = all(layout == finest or len(layout) == 1 for layout in layouts.values())
    for i, layout in layouts.items():
        if not nested:
            result[i] = result[i].as_one(axis)
        elif layout != finest:
            place = result[i].factors_of(axis)[0]
            for step, size in enumerate(finest[:-1]):
                result[i] = result[i].split(place + step, size)
    return result


def in_pieces(f: Field, axis: int, size: int) -> Field:
    """The same entries in classes that end where pieces of one size do, of which some are mixed."""
    places = f.factors_of(axis) if f.groups[axis] else []
    if len(places) != 1 or isinstance(f.cuts[places[0]], pairs.Line):
        return f
    (place,), cuts = places, list(f.cuts)
    ends = np.cumsum(cuts[place])
    edges = sorted({0, *(ends // size * size).tolist(), *(-(-ends // size) * size).tolist()})
    cuts[place] = tuple(np.diff(edges).tolist())
    return f if cuts[place] == f.cuts[place] else f.recut(cuts)
