"""Gradients that arrive at a field on several paths."""

from __future__ import annotations

from math import prod

import numpy as np

from isograd.prediction import targets
from isograd.prediction.backward import gains, holding, responses
from isograd.prediction.backward.gates import PASSING
from isograd.prediction.backward.noise import LIKE
from isograd.prediction.moments import pairs
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.parts import few_classes

_UNSURE = 0.15
"""What shared draws do to ln of an energy differs that much from draw to draw, all layers alike:
10 to 30 % in encoders of copied layers."""
_LEAST = 1e-300


def added(first: Field, second: Field, where: Field) -> Field:
    """The gradient's field of two independent contributions.

    Args:
        first: gradient's field of one path.
        second: that of another.
        where: the field that both are the gradient of.
    """
    a, b = aligned(first, second)
    result = few_classes(a.like(a.second + b.second))
    one, two = a.energy, b.energy
    if one + two > 0:
        share = one / (one + two)
        result.noise = _mixed(a.noise, b.noise, share)
        result.common = _mixed(first.common, second.common, share)
        kurtosis = [f.notes.get("kurtosis", 3.0) for f in (first, second)]
        result.notes["kurtosis"] = share * kurtosis[0] + (1 - share) * kurtosis[1]
        gains.add(result, first, second, share)
        like = [f.notes.get(LIKE, 0.0) for f in (first, second)]
        if any(like):
            result.notes[LIKE] = share * like[0] + (1 - share) * like[1]
        holding.added(result, first, second, share)
    responses.add(result, first, second)
    targets.add(result, first, second)
    for key in ("profile", PASSING):
        profiles = [f.notes.get(key) for f in (first, second)]
        if one + two > 0 and any(profile is not None for profile in profiles):
            parts = [1.0 if profile is None else profile for profile in profiles]
            mine, other = (one, two) if key == "profile" else (_in_common(a), _in_common(b))
            result.notes[key] = (mine * parts[0] + other * parts[1]) / (mine + other)
    if "moment" in first.notes or "moment" in second.notes:
        x, y = aligned(moment_of(first, where), moment_of(second, where))
        result.notes["moment"] = x.like(x.second + y.second)
    return result


def _in_common(g: Field) -> float:
    """Size of E g g' of two different entries, whatever they are."""
    alone = g.energy / max(prod(g.sizes), 1)
    return max(abs(float(g.second.ravel() @ pairs.every_share(g.cuts)) - alone), _LEAST)


def _mixed(one: float, other: float, share: float) -> float:
    """Variance of ln of a sum of two energies, the first having that share of it.

    Both have come through the same layers behind, so that the smaller of their variances is in
    both; what one has more is its own.
    """
    both = min(one, other)
    return both + share**2 * (one - both) + (1 - share) ** 2 * (other - both)


def dependent(total: Field, shared: Field) -> Field:
    """The sum of two gradients that the same draws of weights have made alike.

    Args:
        total: their sum, were they independent.
        shared: their covariance.
    """
    whole, twice = aligned(total, shared)
    result = whole.like(whole.second + 2 * twice.second)
    result.notes = total.notes
    change = abs(np.log(max(result.energy, _LEAST) / max(total.energy, _LEAST)))
    result.noise = float((np.sqrt(total.noise) + _UNSURE * change) ** 2)
    result.common = float((np.sqrt(total.common) + _UNSURE * change) ** 2)
    return result


def moment_of(gradient: Field, where: Field) -> Field:
    """E[(g x)(g' x')] of a gradient g at a field x: not E[g g'] E[x x'] where g is gated by x."""
    found: Field | None = gradient.notes.get("moment")
    if found is not None:
        return found
    g, x = aligned(gradient, where)
    return g.like(g.second * x.second)
