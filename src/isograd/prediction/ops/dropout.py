"""Dropout: entries, channels or paths put to zero at random, the others scaled up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from isograd.prediction.backward.links import SAME, Link
from isograd.prediction.moments.fields import Field, _canonical
from isograd.prediction.ops import Op, Outcome

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array
    from isograd.prediction.propagation import Call

_LIMIT = -1.7580993408473766
"""SELU far below zero: minus its scale times its alpha."""


class Dropout(Op):
    """E (x m)^2 = E x^2 / (1 - p); products of different entries are unchanged."""

    code = "dropout"
    functions = tuple(
        "dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout "
        "feature_alpha_dropout stochastic_depth".split()
    )
    lines = functions
    source = "Schoenholz et al. 2017, section 5"

    def apply(
        self, call: Call, x: Any, p: float = 0.5, training: bool = True, *_: Any, **kwargs: Any
    ) -> Outcome:
        """One call of any of the functions."""
        f = call.field(x)
        p = float(kwargs.get("p", p))
        if not kwargs.get("training", kwargs.get("train", training)) or p == 0:
            return Outcome(f)
        free = (
            2 if call.name[-2:] in ("1d", "2d", "3d") or "feature" in call.name else len(f.groups)
        )

        if "alpha" in call.name:
            return _alpha(f, p, free)

        def masked(g: Field) -> Field:
            second = g.second.copy()
            second[_together(g, free)] *= 1 / (1 - p) if p < 1 else 0.0
            return g.like(_settled(second, g), g.mean)

        out = masked(f)
        formula = f"E x^2 / {1 - p:.3g}"
        return Outcome(out, lambda g: [(f, masked(g))], [f], formula=formula, link=SAME)


def _together(g: Field, free: int) -> tuple[slice, ...]:
    """Pairs of entries that one draw keeps or drops."""
    return tuple(
        slice(0, len(g.cuts[place])) if axis < free else slice(None)
        for axis in range(len(g.groups))
        for place in g.factors_of(axis)
    )


def _settled(second: Array, g: Field) -> Array:
    for place, cut in enumerate(g.cuts):
        _canonical(second, place, cut)
    return second


def _alpha(f: Field, p: float, free: int) -> Outcome:
    """Dropped entries get SELU's lower limit, all are scaled (Klambauer et al. 2017).

    a (x m + (1 - m) limit) + b with b = -a p limit, so that what is dropped has no mean of its own.
    """
    keep = 1 - p
    factor = (keep * (1 + p * _LIMIT**2)) ** -0.5 if p < 1 else 0.0

    def scaled(g: Field) -> Field:
        second = g.second * (factor * keep) ** 2
        second[_together(g, free)] *= 1 / keep if p < 1 else 0.0
        return g.like(_settled(second, g), g.mean * factor * keep)

    out = scaled(f)
    one, two = (np.broadcast_to(part, f.second.shape) for part in f.per_pair(f.mean))
    kept = _together(f, free)
    shift = p * _LIMIT * (_LIMIT - one[kept] - two[kept])
    second = out.second.copy()
    second[kept] += factor**2 * keep * shift
    out.second = _settled(second, out)
    times = lambda c: c.like(c.second * (factor * keep))  # noqa: E731
    through = Link("multiple", times, times)
    formula = "a^2 (1 - p) (E x^2 + p l^2 - 2 p l E x), l what is dropped to"
    return Outcome(out, lambda g: [(f, scaled(g))], [f], formula=formula, link=through)
