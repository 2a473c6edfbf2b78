"""A tensor over its own sum along an axis: weights that add up to one, as of linear attention.

Numerator and denominator depend on each other. E x x' / (E S S') keeps the sum of each row at one,
and S stays away from zero where 1 / S of a Gaussian does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.backward.links import Link
from isograd.prediction.moments import pairs
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.axes import weighed
from isograd.prediction.ops import Outcome

FACTORS = "factors"
"""Note of a product: both factors and the output, each with its labels."""
_FAR = 20
_UNSURE = 0.04
"""Variance of ln energy of gradients of such weights, which are no small ones: 10 % in rms."""
_ALIKE = 1e-3
_PRODUCTS = frozenset("matmul bmm".split())
_GUARDS = frozenset("add clamp clip clamp_min maximum".split())

if TYPE_CHECKING:
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.propagation import Call
    from isograd.prediction.steps import Step


def of_own_sum(call: Call, x: Field, total: Field) -> Outcome | None:
    """The outcome of x / total if that is the sum of x along one axis, kept; else None."""
    step = call.run.twins.made.get(id(total))
    if step is None or step.name != "sum" or step.inputs[0] is not x:
        return None
    axes = [axis for axis, size in enumerate(total.shape) if size == 1 and x.shape[axis] > 1]
    if len(total.shape) != len(x.shape) or len(axes) != 1 or (x.mean < 0).any():
        return None
    from isograd.prediction.ops.softmax import centered_by

    axis = axes[0]
    f = x.as_one(axis) if x.groups[axis] > 1 else x
    place = f.factors_of(axis)[0]
    cut = f.cuts[place]
    sums = weighed(f.second, place, pairs.counts(cut), keep=True)
    inverse = np.where(sums > 0, 1 / np.where(sums > 0, sums, 1.0), 0.0)
    row = weighed(f.mean, place, np.array(cut, dtype=np.float64), keep=True)
    out = f.like(f.second * inverse, f.mean / np.where(row > 0, row, 1.0))

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        whole = gradient.as_one(axis) if gradient.groups[axis] > 1 else gradient
        wide = f.like(np.broadcast_to(inverse, f.second.shape))
        g, a, left = aligned(whole, out, wide)
        at = g.factors_of(axis)[0]
        return [(x, g.like(centered_by(g, a, at) * left.second))]

    return Outcome(out, back, [x, total], formula="x over its own sum: E x x' / E S S'")


def averaged_by_own(call: Call, a: Field, total: Field) -> Outcome | None:
    """The outcome of (w @ v) / sum w, an average of v: as (w / sum w) @ v; else None.

    A small number that is added to the sum, so that it is never 0, is left out.
    """
    made = call.run.twins.made
    product = made.get(id(a))
    if product is None or product.name not in _PRODUCTS or len(product.inputs) != 2:
        return None
    weights, values = product.inputs
    step = made.get(id(total))
    while step is not None and step.name in _GUARDS and len(step.inputs) == 1:
        step = made.get(id(step.inputs[0]))
    if step is None or step.name != "sum" or step.inputs[0] is not weights:
        return None
    shares = of_own_sum(call, weights, step.outputs[0])
    if shares is None or shares.out.shape[-1] == 1 or step.outputs[0].shape[-1] != 1:
        return None
    from isograd.prediction.ops.linear import Linear

    call.run.record("div", "", shares)
    return Linear().averaged(call, shares.out, values)


def by_own_products(call: Call, a: Field, inverse: Field, order: str = "") -> Outcome | None:
    """The outcome of q (k' v) times 1 / (q sum k), linear attention: as (w / sum w) v, w = q k'.

    Args:
        call: under way.
        a: q (k' v), in any order of axes.
        inverse: 1 / (q sum k), or of that and a small number.
        order: labels of the result, those of `a` if left out.
    """
    total = _reciprocal_of(inverse) if FACTORS in a.notes else None
    return None if total is None else over_own_products(call, a, total, order)


def over_own_products(call: Call, a: Field, total: Field, order: str = "") -> Outcome | None:
    """The outcome of q (k' v) over q sum k; None for anything else."""
    made = call.run.twins.made
    outer = a.notes.get(FACTORS)
    below = () if outer is None else _factors(made, _behind(made, total, _GUARDS))
    if outer is None or len(below) != 2:
        return None
    out = order or outer[4]
    for query, of_query, both, of_both in (outer[:4], (*outer[2:4], *outer[:2])):
        inner = both.notes.get(FACTORS)
        sums = [one for one in below if not _same(made, one, query)]
        if inner is None or len(sums) != 1 or any("draw" in one.notes for one in inner[:3:2]):
            continue
        step = made.get(id(_behind(made, sums[0])))
        if step is None or step.name != "sum":
            continue
        for key, of_key, value, of_value in (inner[:4], (*inner[2:4], *inner[:2])):
            if _same(made, step.inputs[0], key):
                letters = dict(zip(inner[4], of_both, strict=True))
                spare = iter(
                    sorted(set("abcdefghijklmnopqrstuvwxyz") - {*of_query, *of_both, *out})
                )
                for c in of_key + of_value:
                    letters[c] = letters.get(c) or next(spare)
                labels = ["".join(letters[c] for c in of) for of in (of_key, of_value)]
                return _averaged(call, (query, of_query), (key, labels[0]), (value, labels[1]), out)
    return None


def _averaged(
    call: Call, query: tuple[Field, str], key: tuple[Field, str], value: tuple[Field, str], out: str
) -> Outcome | None:
    from isograd.prediction.ops.linear import Linear, product
    from isograd.prediction.ops.reductions import reduced

    rows = "".join(c for c in out if c in query[1] or c in key[1])
    column = [c for c in key[1] if c in value[1] and c not in out]
    if len(column) != 1:
        return None
    of_weights = rows + column[0]
    source = Linear.source
    weights = product(call, *query, *key, of_weights)
    call.run.record("matmul", source, weights)
    total = reduced(weights.out, len(rows), True, average=False)
    call.run.record("sum", "", total)
    shares = of_own_sum(call, weights.out, total.out)
    if shares is None:
        return None
    back = shares.back
    assert back is not None

    def unsure(gradient: Field) -> list[tuple[Field, Field]]:
        found = list(back(gradient))
        for _, one in found:
            one.noise = gradient.noise + _UNSURE
        return found

    shares.back = unsure
    call.run.record("div", "", shares)
    return product(call, shares.out, of_weights, *value, out)


def _factors(made: dict[int, Step], total: Field) -> Sequence[Field]:
    """Of a product, or of a sum of products."""
    if FACTORS in total.notes:
        return total.notes[FACTORS][0], total.notes[FACTORS][2]
    step = made.get(id(total))
    inner = None if step is None or step.name != "sum" else made.get(id(step.inputs[0]))
    return inner.inputs if inner is not None and inner.name == "mul" else ()


def _reciprocal_of(f: Field) -> Field | None:
    """What a field is a constant over; None if it is not."""
    if f.nodes is None or f.origin is None:
        return None
    product = f.nodes.values * f.nodes.quadrature.x
    center = float(np.median(product))
    inside = np.abs(f.nodes.quadrature.z) < 1
    return f.origin if np.allclose(product[inside], center, rtol=_ALIKE, atol=0.0) else None


def _behind(made: dict[int, Step], f: Field, through: frozenset[str] = frozenset()) -> Field:
    """What a field is but for its layout."""
    for _ in range(_FAR):
        step = made.get(id(f))
        link = None if step is None else step.link
        plain = isinstance(link, Link) and link.kind == "layout" and link.where is None
        if step is None or len(step.inputs) != 1 or not (plain or step.name in through):
            return f
        f = step.inputs[0]
    return f


def _same(made: dict[int, Step], f: Field, other: Field) -> bool:
    return _behind(made, f) is _behind(made, other)
