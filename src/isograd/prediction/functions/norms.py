"""Norms over a batch: what statistics of few values, or of channels of few inputs, do."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from isograd.prediction.functions.filters import variance
from isograd.prediction.functions.spread import ALIKE, half_line
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.means import averaged
from isograd.prediction.moments.pairs import Array

_LARGEST_EXCESS = 4.0
"""Of E 1/var for one or two degrees of freedom, where it does not exist."""


def few_inputs(f: Field, out: Field) -> float:
    """E var E 1/var - 1 of what channels of few inputs have of their own.

    That is the variance of their energies, and twice that of their correlations.

    Args:
        f: the input of the norm.
        out: its output.
    """
    if ALIKE not in f.notes:
        return 0.0
    energy: float = f.notes[ALIKE].energy()
    spread = variance(out)
    if spread is None:
        return energy
    places = set(range(len(out.cuts))) - set(out.factors_of(1))
    return energy + 2 * averaged(spread, out.cuts, places)


def fluctuating(f: Field, second: Array, places: Sequence[int]) -> tuple[Array, float]:
    """What the normalized values of one draw have in common, and the excess of E 1/var.

    Values x of a channel are Gaussian given the layer's input; their variance s is a quadratic
    form with the eigenvalues a_j of their covariance, each of multiplicity m_j. Then
    E 1/(s + e) = int exp(-e t) prod_j (1 + 2 a_j t)^(-m_j / 2) dt, in units of E s + e, and
    E a_i z_i^2 / (s + e) has a_i / (1 + 2 a_i t) beside the product. Classes within the batch are
    taken together.

    Args:
        f: the input.
        second: E xhat xhat' as if var were its mean.
        places: factors over which the statistics are taken.

    Returns:
        Second moments to add to `second`; E[var] E[1/var] - 1.
    """
    cuts = [(sum(cut),) if place in places else cut for place, cut in enumerate(f.cuts)]
    plain = f.like(second).recut(cuts)
    channel = tuple(slice(None) if place in places else 0 for place in range(len(cuts)))
    values = plain.second[channel].copy()
    sizes = [sum(cuts[place]) for place in places]
    number = prod(sizes)
    multiplicity = np.ones((2,) * len(sizes))
    for axis, n in enumerate(sizes):
        rows = np.moveaxis(values, axis, 0)
        equal, other = rows[0].copy(), rows[1].copy()
        rows[0], rows[1] = equal - other, equal + (n - 1) * other
        np.moveaxis(multiplicity, axis, 0)[0] *= n - 1
    share = np.maximum(values, 0.0) / number
    total = float((share * multiplicity).sum())
    if total <= 0 or multiplicity[share > 1e-9 * share.max()].sum() <= 2.5:
        return np.zeros(()), _LARGEST_EXCESS
    share /= max(total, 1.0)
    t, weights = half_line()
    damped = 1 / (1 + 2 * share[..., None] * t)
    whole = np.exp((multiplicity[..., None] * np.log(damped)).sum(tuple(range(len(sizes)))) / 2)
    whole *= np.exp(-max(1.0 - total, 0.0) * t)  # eps, which does not fluctuate
    excess = float(weights @ whole) - 1
    found = number * ((share[..., None] * damped * whole) @ weights)
    change = found - share * number
    for axis, n in enumerate(sizes):
        rows = np.moveaxis(change, axis, 0)
        low, high = rows[0].copy(), rows[1].copy()
        rows[1] = (high - low) / n
        rows[0] = low + rows[1]
    added = np.zeros_like(plain.second)
    added[channel] = change
    return plain.like(added).recut(f.cuts).second, min(max(excess, 0.0), _LARGEST_EXCESS)
