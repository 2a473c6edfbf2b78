"""Embedding: rows of a table by known indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isograd.prediction.drawing.draws import Draw
from isograd.prediction.drawing.recorded import read, recorded
from isograd.prediction.functions.tokens import VALUES
from isograd.prediction.moments import pairs
from isograd.prediction.moments.axes import weighed
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import empirical
from isograd.prediction.ops import Op, Outcome

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call

_NONE = -(2**62)
"""Stands for ids that are not counted."""


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
        padding = args[2] if len(args) > 2 else kwargs.get("padding_idx")
        if call.function is torch.embedding and padding is not None and padding < 0:
            padding = None  # of F.embedding it is counted from the end
        if not call.known(indices):
            raise call.refuse(
                "looks up indices that are never computed",
                "if they are an input, give ids, such as int64[32,128]<50257; if the model makes "
                "them (argmax, quantization), measure instead",
            )
        w = call.field(weight)
        with torch._C.DisableTorchFunction():
            ids = indices.detach().numpy()
        rows = w.shape[0]
        padding = None if padding is None or not -rows <= padding < rows else int(padding) % rows
        learned = np.ones(ids.shape, dtype=bool) if padding is None else ids != padding
        equal = agreement(ids, learned)
        # One row of the table, and two; per kind of pair of features, if there are several.
        one, two = w.second.take(0, 0), w.second.take(1, 0)
        same, both, average = equal.second, np.ones_like(equal.second), w.mean.take(0, 0)
        shares = np.ones_like(equal.mean)
        if padding is not None and rows > 2 and _is_zero(weight, padding):
            kept = empirical(learned)
            both, shares = kept.second, kept.mean
            one, two = one * rows / (rows - 1), two * rows / (rows - 2)
            average = average * rows / (rows - 1)
        elif not learned.all():
            same = agreement(ids).second
        same, both, shares = (x.reshape(*x.shape, *([1] * one.ndim)) for x in (same, both, shares))
        cuts, groups = (*equal.cuts, *w.cuts[1:]), (*equal.groups, *w.groups[1:])
        out = Field(same * one + (both - same) * two, cuts, groups, shares * average)
        out.noise = 0.0
        out.notes["drawn"] = 1.0
        if VALUES in w.notes:
            out.notes[VALUES] = w.notes[VALUES].detach()[indices.detach()]

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


def _is_zero(weight: torch.Tensor, row: int) -> bool:
    """Whether a row of a table, such as that of padding, is nothing but zeros."""
    with torch._C.DisableTorchFunction():
        shown = weight.detach()[row]
        if not weight.is_meta:
            return not bool(shown.any())
        kept = recorded(weight)
        values = None if kept is None else read(shown, kept)
        return isinstance(values, Draw) and values.is_constant and values.shift == 0


def agreement(
    ids: np.ndarray[Any, Any], counted: np.ndarray[Any, np.dtype[np.bool_]] | None = None
) -> Field:
    """Probability that two indices are equal, per kind of pair; one factor per axis.

    Args:
        ids: of any shape.
        counted: of that shape; other ids are like no other.
    """
    shape = tuple(size for size in ids.shape if size > 1)
    x = ids.reshape(shape)
    if counted is not None and not counted.all():
        x = np.where(counted.reshape(shape), x.astype(np.int64), _NONE)
    d = len(shape)
    found = np.empty((2,) * d)
    for subset in range(2**d):
        free = tuple(axis for axis in range(d) if subset >> axis & 1)
        place = tuple(1 if axis in free else 0 for axis in range(d))
        if not free:
            found[place] = np.mean(x != _NONE)
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
    values, counts = np.unique(row, return_counts=True)
    counts = counts[values != _NONE]
    return float(np.square(counts / len(row)).sum())
