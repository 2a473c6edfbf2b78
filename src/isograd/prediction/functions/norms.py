"""Norms over a batch: what statistics of few values, or of channels of few inputs, do."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from isograd.prediction.functions.filters import variance
from isograd.prediction.functions.spread import ALIKE, half_line
from isograd.prediction.moments import pairs
from isograd.prediction.moments.axes import of_entries, weighed
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.means import averaged
from isograd.prediction.moments.pairs import Array

_LARGEST_EXCESS = 4.0
"""Of E 1/var for one or two degrees of freedom, where it does not exist."""


def unlike_lengths(f: Field, axes: Sequence[int]) -> float:
    """E s E 1/s - 1 of the mean square s of n independent entries, about (kurtosis - 1) / n.

    Of Gaussian ones, from which their mean is taken, it is 2 / (n - 3).

    Of functions f(u), whose gradient goes on through f', less Cov(f^2, f'^2) / n: where many are
    large, many are open.

    Args:
        f: the input of a norm of single vectors.
        axes: of the tensor; the norm is taken over them.
    """
    number = prod(f.shape[axis] for axis in axes)
    spread = float(f.notes.get("kurtosis", 3.0)) - 1
    if (nodes := f.nodes) is not None:
        away = np.square(nodes.values - nodes.expectation(nodes.values)[..., None])
        slopes = np.square(nodes.slopes)
        size, open_ = (np.maximum(nodes.expectation(x), 1e-300) for x in (away, slopes))
        alike = nodes.expectation(away * slopes) / (size * open_)
        spread = float((nodes.expectation(np.square(away)) / size**2 - alike).mean())
    spread = max(spread, 0.0)
    return min(spread / max(number - 1 - spread, 1.0), _LARGEST_EXCESS)


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
    E a_i z_i^2 / (s + e) has a_i / (1 + 2 a_i t) beside the product. What two samples have in
    common of a component the same weights made in both, along with the variances. Classes within
    the batch are taken together.

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
    values = plain.second[channel]
    sizes = [sum(cuts[place]) for place in places]
    number = prod(sizes)
    multiplicity = np.ones((2,) * len(sizes))
    for axis, n in enumerate(sizes):
        np.moveaxis(multiplicity, axis, 0)[0] *= n - 1
    share = np.maximum(_components(values, sizes), 0.0) / number
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
    added = np.zeros_like(plain.second)
    added[channel] = _of_pairs(found - share * number, sizes)
    another = _another_sample(plain, places)
    if another is not None:
        kept = np.where(share > 0, found / np.where(share > 0, share * number, 1.0), 1.0)
        both = _components(plain.second[another], sizes)
        added[another] = _of_pairs(both * (kept - 1), sizes)
    return plain.like(added).recut(f.cuts).second, min(max(excess, 0.0), _LARGEST_EXCESS)


def _another_sample(f: Field, places: Sequence[int]) -> tuple[slice | int, ...] | None:
    """Where a field has the pairs of one unit in two samples, which the same weights made."""
    samples = [place for place in f.factors_of(0) if place not in places]
    if len(samples) != 1 or len(f.cuts[samples[0]]) > 1:
        return None
    return tuple(
        slice(None) if place in places else int(place in samples) for place in range(len(f.cuts))
    )


def _components(table: Array, sizes: Sequence[int]) -> Array:
    """Eigenvalues of a table of pairs along single classes: deviations first, then the mean."""
    found = table.copy()
    for axis, n in enumerate(sizes):
        rows = np.moveaxis(found, axis, 0)
        equal, other = rows[0].copy(), rows[1].copy()
        rows[0], rows[1] = equal - other, equal + (n - 1) * other
    return found


def _of_pairs(components: Array, sizes: Sequence[int]) -> Array:
    """The way back."""
    found = components.copy()
    for axis, n in enumerate(sizes):
        rows = np.moveaxis(found, axis, 0)
        low, high = rows[0].copy(), rows[1].copy()
        rows[1] = (high - low) / n
        rows[0] = low + rows[1]
    return found


def own_at(f: Field, places: Sequence[int], end: int) -> Array:
    """E x x' over `places`, with both entries at one end of each pair of the other factors."""
    result = f.second
    for place, cut in enumerate(f.cuts):
        if place not in places:
            result = result.take(pairs.ends(cut)[end], place)
    return result


def averaged_over(f: Field, places: Sequence[int], weights: Any) -> Array:
    """Second moments averaged over factors, kept as axes of length one."""
    result = f.second
    for place in places:
        result = weighed(result, place, weights(f.cuts[place]), keep=True)
    return result


def averaged_same(f: Field, second: Array, places: Sequence[int]) -> Array:
    """E x^2 per class of the other factors, averaged over `places`."""
    result = second
    for place, cut in enumerate(f.cuts):
        if place in places:
            kept = result[(*([slice(None)] * place), slice(0, len(cut)))]
            result = weighed(kept, place, of_entries(cut), keep=True)
        else:
            result = result.take(range(len(cut)), place)
    return np.maximum(result, 0.0)


def per_pair_of(f: Field, variance: Array, places: Sequence[int]) -> Array:
    """Products of the standard deviations of both entries of each pair."""
    root = np.sqrt(variance)
    first, other = [], []
    for place, cut in enumerate(f.cuts):
        a, b = pairs.ends(cut)
        alone = place in places
        first.append(np.zeros(1, dtype=np.intp) if alone else a)
        other.append(np.zeros(1, dtype=np.intp) if alone else b)
    if not f.cuts:
        return np.asarray(root * root)
    return np.asarray(root[np.ix_(*first)] * root[np.ix_(*other)])
