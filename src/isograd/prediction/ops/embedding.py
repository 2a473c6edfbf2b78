"""Embedding: rows of a table by known indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isograd.prediction.functions.tokens import VALUES
from isograd.prediction.moments import pairs
from isograd.prediction.moments.axes import weighed
from isograd.prediction.moments.fields import Field
from isograd.prediction.ops import Op, Outcome

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call


class Embedding(Op):
    """Two entries are the same row as often as their indices are equal."""

    code = "embedding"
    functions = ("embedding", "one_hot_embedding")
    source = "probability that two indices are equal, counted"

    def apply(self, call: Call, *args: Any, **kwargs: Any) -> Outcome:
        """`torch.embedding(weight, indices)` or `F.embedding(indices, weight)`."""
        if call.function is torch.embedding:
            weight, indices = args[0], args[1]
        else:
            indices, weight = args[0], args[1] if len(args) > 1 else kwargs["weight"]
        if not call.known(indices):
            raise call.refuse(
                "looks up indices that are never computed",
                "if they are an input, give ids, such as int64[32,128]<50257; if the model makes "
                "them (argmax, quantization), measure instead",
            )
        w = call.field(weight)
        with torch._C.DisableTorchFunction():
            ids = indices.detach().numpy()
        equal = agreement(ids)
        # One row of the table, and two; per kind of pair of features, if there are several.
        one, two = w.second.take(0, 0), w.second.take(1, 0)
        same = equal.second.reshape(*equal.second.shape, *([1] * one.ndim))
        mean = np.broadcast_to(w.mean.take(0, 0), (*equal.mean.shape, *([1] * one.ndim))).copy()
        cuts, groups = (*equal.cuts, *w.cuts[1:]), (*equal.groups, *w.groups[1:])
        out = Field(same * one + (1 - same) * two, cuts, groups, mean)
        out.noise = 0.0
        out.notes["drawn"] = 1.0
        if VALUES in w.notes:
            out.notes[VALUES] = w.notes[VALUES].detach()[indices.detach()]
        rows = w.shape[0]

        def back(gradient: Field) -> list[tuple[Field, Field]]:
            from isograd.prediction.moments.aligning import aligned

            g, e = aligned(gradient, equal.regrouped((*equal.groups, 0)))
            total = g.second * e.second
            features = g.factors_of(len(g.groups) - 1)
            for place in reversed(range(len(g.cuts))):
                cut = g.cuts[place]
                weights = pairs.same_shares(cut) if place in features else pairs.counts(cut)
                total = weighed(total, place, weights)
            found = np.zeros_like(w.second)
            found[(0,) * found.ndim] = float(total) / rows
            return [(w, w.like(found))]

        return Outcome(out, back, [w], formula="P(equal ids) E w^2")


def agreement(ids: np.ndarray[Any, Any]) -> Field:
    """Probability that two indices are equal, per kind of pair; one factor per axis."""
    shape = tuple(size for size in ids.shape if size > 1)
    x = ids.reshape(shape)
    d = len(shape)
    found = np.empty((2,) * d)
    for subset in range(2**d):
        free = tuple(axis for axis in range(d) if subset >> axis & 1)
        place = tuple(1 if axis in free else 0 for axis in range(d))
        if not free:
            found[place] = 1.0
            continue
        rest = [axis for axis in range(d) if axis not in free]
        rows = x.transpose([*rest, *free]).reshape(-1, int(np.prod([shape[a] for a in free])))
        found[place] = np.mean([_equal_pairs(row) for row in rows])
    for axis in range(d):  # from all pairs to pairs of different positions
        n = shape[axis]
        along: Any = np.moveaxis(found, axis, 0)
        along[1] = (along[1] * n - along[0]) / (n - 1)
    cuts = tuple((size,) for size in shape)
    return Field(found, cuts, tuple(int(s > 1) for s in ids.shape), np.ones((1,) * d))


def _equal_pairs(row: np.ndarray[Any, Any]) -> float:
    _, counts = np.unique(row, return_counts=True)
    return float(np.square(counts / len(row)).sum())
