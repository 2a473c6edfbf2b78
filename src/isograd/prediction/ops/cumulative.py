"""Running sums along one axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from isograd.prediction.moments.axismaps import adjoint, cut_of, mapped
from isograd.prediction.moments.masks import geometric
from isograd.prediction.moments.pairs import common
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.sampling import sampled

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array
    from isograd.prediction.propagation import Call

_APART = 32
"""Entries that are told apart, each by itself; of a longer axis, classes that grow."""
_MOST = 4096
"""Entries of an axis up to which a matrix is made of it."""


@dataclass(frozen=True, slots=True)
class Running:
    """Every output sums the inputs up to its own place."""

    entries: int

    def matrix(self) -> Array:
        """(outputs, inputs)."""
        return np.tri(self.entries)


class Cumulative(Op):
    """A triangle of ones along the axis."""

    code = "cumulative"
    functions = ("cumsum",)
    source = "linear in its input; E y_i y_j sums E x_k x_l over k <= i, l <= j"

    def apply(self, call: Call, x: Any, dim: Any = None, axis: Any = None, **_: Any) -> Outcome:
        """`torch.cumsum`."""
        f = call.field(x)
        place = int(axis if dim is None else dim) % len(f.groups)
        n = f.shape[place]
        if n > _MOST:
            return sampled(call, x, place)
        fine = (1,) * n if n <= _APART else geometric(n)
        whole = f.as_one(place) if f.groups[place] > 1 else f
        cut = common(fine, cut_of(whole, place)) if n > 1 else (1,)
        maps = (Running(n),)
        out = mapped(f, place, maps, [cut])
        formula = "sum of all moments up to both places"
        return Outcome(out, lambda g: [(f, adjoint(g, place, maps, f))], [f], formula=formula)
