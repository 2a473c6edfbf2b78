"""Dropout: entries, channels or paths put to zero at random, the others scaled up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isograd.prediction.fields import Field, _canonical
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.twins import SAME

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call


class Dropout(Op):
    """E (x m)^2 = E x^2 / (1 - p); products of different entries are unchanged."""

    code = "dropout"
    functions = tuple(
        "dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout "
        "feature_alpha_dropout stochastic_depth".split()
    )
    source = "Schoenholz et al. 2017, section 5"

    def apply(
        self, call: Call, x: Any, p: float = 0.5, training: bool = True, *_: Any, **kwargs: Any
    ) -> Outcome:
        """One call of any of the functions."""
        f = call.field(x)
        p = float(kwargs.get("p", p))
        if not kwargs.get("training", kwargs.get("train", training)) or p == 0:
            return Outcome(f)
        if "alpha" in call.name:
            raise call.refuse("keeps mean and variance", "leave it out of a prediction (eval mode)")
        free = (
            2 if call.name[-2:] in ("1d", "2d", "3d") or "feature" in call.name else len(f.groups)
        )

        def masked(g: Field) -> Field:
            second = g.second.copy()
            place = tuple(
                slice(0, len(g.cuts[p])) if axis < free else slice(None)
                for axis in range(len(g.groups))
                for p in g.factors_of(axis)
            )
            second[place] *= 1 / (1 - p) if p < 1 else 0.0
            for place, cut in enumerate(g.cuts):
                _canonical(second, place, cut)
            return g.like(second, g.mean)

        out = masked(f)
        formula = f"E x^2 / {1 - p:.3g}"
        return Outcome(out, lambda g: [(f, masked(g))], [f], formula=formula, link=SAME)
