"""Products of two outputs of the same weights, which are not independent.

E[a b a' b'] of nearly Gaussian a, b is E[a a'] E[b b'] + E[a b] E[a' b'] + E[a b'] E[b a'], less
twice the product of the four means (Isserlis 1918). Functions of Gaussians have a fourth cumulant
besides: that of an entry and itself is known from E[f^2(u) g^2(v)], that of two entries is as much
less as they have less in common.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.backward.holding import HELD, Held, of_all_features, same_layer
from isograd.prediction.backward.links import CROSSED
from isograd.prediction.functions.series import coefficients, cross_series
from isograd.prediction.moments.aligning import aligned

_POINTS = 12
_SOME = 0.1

if TYPE_CHECKING:
    from collections.abc import Callable

    from isograd.prediction.backward.twins import Twins
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.moments.pairs import Array
    from isograd.prediction.ops import Outcome
    from isograd.prediction.steps import Step


def of_twins(twins: Twins, a: Field, b: Field, done: Outcome) -> None:
    """Corrects what was made of a b as if they were independent.

    Args:
        twins: what fields of the run have in common.
        a: first factor.
        b: second factor.
        done: their product; where it is not of the shape of both, nothing is done.
    """
    product, before = done.out, done.back
    if a.shape != product.shape or b.shape != product.shape or not same_layer(twins, a, b):
        return
    shared = twins.covariance(a, b)
    if shared is None:
        return
    one, two, both = aligned(a, b, shared)
    if one.cuts != product.cuts:
        return
    same = tuple(slice(0, len(cut)) for cut in one.cuts)
    first, _ = one.per_pair(one.mean)
    _, other = one.per_pair(two.mean)
    crossed = both.second + first * other  # E[a b'], as much as E[b a']
    mean = crossed[same]
    left, right = one.per_pair(mean)
    means = one.products() * two.products()
    second = one.second * two.second + left * right + np.square(crossed) - 2 * means
    energy = _squares(twins, a, b)
    if energy is not None and energy.shape == mean.shape:
        more = energy - second[same]
        root, beside = one.per_pair(np.sqrt(np.abs(more)))
        second = second + np.sign(more.mean()) * root * beside * _alike(one) * _alike(two)
        second[same] = energy
    product.second, product.mean = second, mean
    between, less = one.like(crossed), 0.0
    if all(made is not None and made.name == "normalize" for made in map(_maker(twins), (a, b))):
        cosine = float(mean.mean()) / max(one.energy * two.energy, 1e-300) ** 0.5
        less = cosine
        own = one.second + two.second  # both gradients are orthogonal to their own factor
        between = one.like((1 + cosine**2) * crossed - cosine * own)
    product.notes[CROSSED] = partial(_times, between)

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        assert before is not None
        result = list(before(gradient))
        for where, one in result:
            share = of_all_features(gradient)
            if share > _SOME:
                one.notes[HELD] = Held(share, b if where is a else a, less)
            one.notes["moment"] = _times(product.like(second), gradient)
            found = profile(twins, where, b if where is a else a)
            if found is not None:
                one.notes["profile"] = found
        return result

    done.back = back


def profile(twins: Twins, a: Field, b: Field) -> Array | None:
    """E[b^2 | u] over its mean, at the nodes of u of which a is a function; None if not known."""
    nodes, of_b = a.nodes, b.nodes
    if nodes is None or of_b is None or a.origin is None or b.origin is None:
        return None
    if nodes.values.shape != of_b.values.shape:
        return None
    if nodes.quadrature.correlation is not None or of_b.quadrature.correlation is not None:
        return None
    shared = twins.covariance(a.origin, b.origin)
    if shared is None or shared.cuts != a.origin.cuts:
        return None
    own, other = nodes.quadrature, of_b.quadrature
    together = shared.second[tuple(slice(0, len(cut)) for cut in a.origin.cuts)]
    deviations = np.maximum(own.deviation * other.deviation, 1e-300)
    rho = np.clip(together / deviations, -1.0, 1.0)[..., None]
    z, weights = np.polynomial.hermite_e.hermegauss(_POINTS)
    middle = other.mean[..., None] + rho * other.deviation[..., None] * own.z
    spread = np.sqrt(1 - np.square(rho)) * other.deviation[..., None]
    found = np.zeros_like(own.z)
    rows = zip(
        *(x.reshape(-1, x.shape[-1]) for x in (found, middle, other.x, of_b.values)),
        np.broadcast_to(spread, (*rho.shape[:-1], 1)).ravel(),
        strict=True,
    )
    for into, at, x, values, width in rows:
        square = np.square(np.interp(at[:, None] + width * z, x, values))
        into[:] = square @ weights / weights.sum()
    mean = nodes.expectation(found)
    return found / mean[..., None] if (mean > 0).all() else None


def _maker(twins: Twins) -> Callable[[Field], Step | None]:
    return lambda f: twins.made.get(id(f))


def _times(factor: Field, gradient: Field) -> Field:
    g, both = aligned(gradient, factor)
    return g.like(g.second * both.second)


def _squares(twins: Twins, a: Field, b: Field) -> Array | None:
    """E[a^2 b^2] of an entry, per class; None if not both are functions."""
    if a.nodes is None or b.nodes is None or a.origin is None or b.origin is None:
        return None
    if a.nodes.values.shape != b.nodes.values.shape:
        return None
    of_a, of_b = (coefficients(n.quadrature, np.square(n.values)) for n in (a.nodes, b.nodes))
    shared = twins.covariance(a.origin, b.origin)
    _, second = cross_series(a.nodes.quadrature, b.nodes.quadrature, of_a, of_b, a.origin, shared)
    return np.asarray(second[tuple(slice(0, len(cut)) for cut in a.origin.cuts)])


def _alike(f: Field) -> Array:
    """Correlation of two entries, from 0 to 1."""
    centered = f.second - f.products()
    variance = centered[tuple(slice(0, len(cut)) for cut in f.cuts)]
    first, other = f.per_pair(np.sqrt(np.maximum(variance, 0.0)))
    return np.clip(centered / np.maximum(first * other, 1e-300), 0.0, 1.0)
