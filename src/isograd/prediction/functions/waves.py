"""Waves: sine and cosine of numbers that spread over several periods.

At quadrature nodes that are farther apart than a period nothing is known of a wave. Over Gaussian
arguments its moments are closed forms: E cos(u - v) = exp(-Var(u - v) / 2) cos E(u - v).
"""

from __future__ import annotations

import numpy as np

from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.pairs import Array
from isograd.prediction.ops import Outcome

FUNCTIONS = ("sin", "cos")
_SPREAD = 4.0
"""Standard deviation in radians from which nodes do not tell; below they do, to 1e-6."""
_NOTHING = 1e-12


def wave(x: Field, name: str) -> Outcome | None:
    """Sine or cosine of a field; None if it spreads too little.

    Args:
        x: the argument, taken as Gaussian.
        name: sin or cos.
    """
    variance = x.energies - np.square(x.mean)
    if x.nodes is not None or variance.min() < _SPREAD**2:
        return None
    damped = np.exp(-variance / 2)
    out = x.like(_second(x, name), damped * (np.sin(x.mean) if name == "sin" else np.cos(x.mean)))
    out.noise = out.condition = _NOTHING  # its size is that of a wave, whatever the argument's
    slopes = x.like(_second(x, "cos" if name == "sin" else "sin"))

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        gate, g = aligned(slopes, gradient)
        return [(x, g.like(g.second * gate.second))]

    return Outcome(out, back, [x], formula="exp(-Var(u - v) / 2) cos E(u - v), and of u + v")


def _second(x: Field, name: str) -> Array:
    """E f(u) f(v) per kind of pair."""
    one, two = x.per_pair(x.energies - np.square(x.mean))
    first, other = x.per_pair(x.mean)
    middle, shared = (one + two) / 2, x.second - x.products()
    apart = np.exp(np.minimum(shared - middle, 0.0)) * np.cos(first - other)
    together = np.exp(np.minimum(-shared - middle, 0.0)) * np.cos(first + other)
    return np.asarray((apart - together if name == "sin" else apart + together) / 2)
