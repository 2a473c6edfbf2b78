"""A tensor over its own sum along an axis: weights that add up to one, as of linear attention.

Numerator and denominator depend on each other. E x x' / (E S S') keeps the sum of each row at one,
and S stays away from zero where 1 / S of a Gaussian does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.moments import pairs
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.axes import weighed
from isograd.prediction.ops import Outcome

_PRODUCTS = frozenset("matmul bmm".split())
_GUARDS = frozenset("add clamp clip clamp_min maximum".split())

if TYPE_CHECKING:
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.propagation import Call


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
