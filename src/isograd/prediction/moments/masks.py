"""Masks of attention: which keys each query sees, and uniform attention over them."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from isograd.prediction.moments import pairs
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import empirical
from isograd.prediction.moments.pairs import Array, Sizes

_SEEN = 0.8
"""Share of its entries that a causal mask shows, at most: (n + 1) / 2 n, two rows or more."""
_MOST = 7
"""Classes into which a masked axis is cut."""
_LARGEST = 2_000_000
"""Entries of a mask that are all looked at; of more, some of the samples."""


def visible_to(f: Field, axis: int) -> tuple[Field, Array, Field | None]:
    """Cuts masked logits into classes by what is visible.

    Args:
        f: the logits.
        axis: of the keys; queries are on the one before.

    Returns:
        The logits on those classes, E u u' of uniform attention over what is visible per kind of
        pair, and the logits as given.
    """
    whole = f.as_one(axis) if f.groups[axis] > 1 else f
    start = f
    if f.visible is None:
        n = whole.shape[axis]
        uniform = np.full((1,) * len(whole.cuts), 1 / n**2)
        whole = _carrying(whole, f)
        return whole, np.broadcast_to(uniform, whole.second.shape), start
    mask = np.asarray(f.visible)
    mask = mask.reshape((1,) * (len(f.groups) - mask.ndim) + mask.shape)
    queries = axis - 1 if axis > 0 else None
    shape = f.shape
    wide = [queries] if queries is not None and mask.shape[queries] > 1 else []
    varied = mask.dtype != np.bool_  # weights instead of a mask
    for other in range(len(shape)):
        if other not in (axis, queries) and mask.shape[other] > 1:
            first = mask.take([0], other)
            varied = varied or bool((mask != first).any())
            mask = mask if varied else first
    every = mask
    if varied:  # masks of single samples or windows
        others = [i for i in range(len(shape)) if i not in (axis, queries)]
        mask = (mask != 0).any(axis=tuple(others), keepdims=True)
    base = whole
    for where in [*wide, axis]:
        base = base.as_one(where) if base.groups[where] > 1 else base
    cuts = list(base.cuts)
    flat = np.broadcast_to(
        mask, tuple(shape[i] if i in (axis, queries) else 1 for i in range(len(shape)))
    )
    table = flat.reshape(shape[queries] if queries is not None else 1, shape[axis])
    row_cut, key_cut = mask_classes(table)
    if queries is not None and base.groups[queries]:
        place = base.factors_of(queries)[0]
        cuts[place] = pairs.common(cuts[place], row_cut)
    key_place = base.factors_of(axis)[0]
    cuts[key_place] = pairs.common(cuts[key_place], key_cut)
    base = _carrying(base.recut(cuts), f)
    if varied:
        return base, _varied(base, every, axis), start
    rows = (
        cuts[base.factors_of(queries)[0]] if queries is not None and base.groups[queries] else (1,)
    )
    block = uniform_pairs(table.tobytes(), table.shape, rows, cuts[key_place])
    shape_of = [1] * len(base.cuts)
    if queries is not None and base.groups[queries]:
        query_place = base.factors_of(queries)[0]
        shape_of[query_place], shape_of[key_place] = block.shape
        if query_place > key_place:
            block = block.T
    else:
        shape_of[key_place] = block.shape[1]
        block = block[:1]
    return base, np.broadcast_to(block.reshape(shape_of), base.second.shape), start


def _varied(base: Field, mask: Any, axis: int) -> Array:
    """E u u' of uniform attention where masks differ between samples or windows.

    Args:
        base: the logits; queries and keys are one factor each.
        mask: true where visible; broadcasts to their shape.
        axis: of the keys.
    """
    shape: list[int] = []
    cuts: list[Sizes] = []
    table = mask
    for where, number in reversed(list(enumerate(base.groups))):
        own = [base.cuts[place] for place in base.factors_of(where)]
        if table.shape[where] == 1 and where != axis:
            own = [(1,)] * number
        elif where not in (axis, axis - 1):
            most = max(_LARGEST * table.shape[where] // table.size, 1)
            if table.shape[where] > most and number == 1:
                at = np.linspace(0, table.shape[where] - 1, most).astype(np.intp)
                table, own = table.take(at, where), [(most,)]
        elif table.shape[where] == 1:
            table = np.repeat(table, base.shape[where], where)
        shape[:0] = [sum(cut) for cut in own]
        cuts[:0] = own
    keys = base.factors_of(axis)[0]
    seen = table.reshape(shape).astype(np.float64)
    uniform = seen / np.maximum(seen.sum(keys, keepdims=True), 1.0)
    found = empirical(uniform, [cut for cut in cuts if sum(cut) > 1]).second
    wide = found.reshape([pairs.ways(cut) if sum(cut) > 1 else 1 for cut in cuts])
    return np.broadcast_to(wide, base.second.shape)


def _carrying(g: Field, f: Field) -> Field:
    if g is not f:
        g.noise, g.condition = f.noise, f.condition
    return g


def mask_classes(table: Any) -> tuple[Sizes, Sizes]:
    """Cuts (of the queries, of the keys) of a mask: (1, 1, 2, 4, …) where rows see ever more."""
    rows, columns = table.shape
    seen = table.sum(1)
    if (seen == seen[0]).all() and (table == table[0]).all():
        hidden_keys = np.flatnonzero(np.diff(table[0].astype(int))) + 1
        edges = [0, *hidden_keys.tolist(), columns]
        cut = tuple(b - a for a, b in itertools.pairwise(edges))
        return (rows,), cut if len(cut) <= _MOST else (columns,)
    return geometric(rows), geometric(columns)


def steps_of(values: Tensor) -> list[Sizes] | None:
    """Classes of a known array whose rows see ever more, or ever fewer, columns: a causal mask.

    None for any other array: one class an axis tells as much.
    """
    if values.ndim < 2 or min(values.shape[-2:]) < 2 or values.numel() > _LARGEST:
        return None
    table = (values != 0).flatten(0, -3).any(0) if values.ndim > 2 else values != 0
    if float(table.double().mean()) > _SEEN:  # a zero here or there hides nothing
        return None
    seen = table.sum(1).diff()
    if not bool(seen.any()) or not (bool((seen >= 0).all()) or bool((seen <= 0).all())):
        return None
    rows, columns = mask_classes(table.numpy())
    return [(size,) for size in values.shape[:-2] if size > 1] + [rows, columns]


@lru_cache(maxsize=256)
def geometric(n: int) -> Sizes:
    """Classes that grow by a constant factor: (1, 1, 2, 4, …), at most `_MOST` of them."""
    ratio = max(2.0, n ** (1 / (_MOST - 1)))
    edges = [0]
    edge = 1.0
    while edges[-1] < n:
        edges.append(min(n, max(edges[-1] + 1, round(edge))))
        edge *= ratio
    return tuple(b - a for a, b in itertools.pairwise(edges))


@lru_cache(maxsize=64)
def uniform_pairs(mask: bytes, shape: tuple[int, int], rows: Sizes, keys: Sizes) -> Array:
    """E u_ij u_i'j' of uniform attention, [kind of pair of rows, kind of pair of keys]."""
    table = np.frombuffer(mask, dtype=bool).reshape(shape).astype(np.float64)
    weights = table / np.maximum(table.sum(1, keepdims=True), 1.0)
    k = len(keys)
    member = pairs.indicator(keys)
    number_of = pairs.counts(keys)
    sums = weights @ member  # (rows, classes)
    squares = np.square(weights) @ member
    every = np.einsum("rc,rd->rcd", sums, sums)
    every[:, range(k), range(k)] -= squares
    own = np.concatenate([squares, every.reshape(len(table), k * k)], axis=1)
    of_rows = pairs.indicator(rows)
    same = of_rows.T @ own
    totals = of_rows.T @ weights  # (row classes, keys)
    blocks = totals @ member
    r = len(rows)
    across = np.empty((r, r, pairs.ways(keys)))
    for c in range(r):
        for d in range(r):
            equal = (totals[c] * totals[d]) @ member
            whole = np.outer(blocks[c], blocks[d])
            whole[range(k), range(k)] -= equal
            across[c, d] = np.concatenate([equal, whole.ravel()])
        across[c, c] -= same[c]
    found = pairs.normalized(np.concatenate([same, across.reshape(r * r, -1)]), rows)
    found = found / np.where(number_of > 0, number_of, 1.0)
    for c, size in enumerate(keys):
        if size == 1:
            found[:, k + c * k + c] = found[:, c]
    return np.asarray(found)
