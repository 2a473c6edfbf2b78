"""Powers: the scale of a tensor's entries where it differs from place to place or among samples.

A layer of few inputs gives all of its outputs at one place of one sample the power s of what they
read there, and so do dropped paths: an entry is sqrt(s) z with z Gaussian, and E s = 1. What two
entries have in common of s is told by causes: a cause of loading a adds a xi to ln s, xi being
independent of all others and of variance one. To second order in s,

    E f(sqrt(s) u) f(sqrt(s') u') = sum over k of
        (a_k^2 + Cov(s, s') a'_k^2 + Var(s) a_k a''_k) rho^k,

a_k being the Hermite coefficients of f, a' and a'' their derivatives by s: with (D a)_k = k a_k +
sqrt((k + 1) (k + 2)) a_(k + 2), a' = D a / 2 and a'' = (D D a - 2 D a) / 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from math import prod, sqrt
from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.functions.polynomials import evaluated, products
from isograd.prediction.moments.means import averaged, distances

if TYPE_CHECKING:
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.moments.pairs import Array

POWERS = "powers"
"""Note of a field: (its powers, those of what is left of it without the means of its channels)."""
_LEAST = 0.01
"""Variance of s below which it does not matter."""
_SMALL = 1e-4
"""Variance that a cause of places makes, below which it is forgotten."""
_MOST = 1.0
"""Variance of s up to which the second order says something."""
_ORDERS = 10
"""Hermite coefficients that are corrected."""
_CAUSES = count()

Loadings = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Powers:
    """Causes by which the scale of entries differs."""

    samples: Loadings = field(default_factory=dict)
    """Causes common to all entries of a sample, with loadings."""
    places: Loadings = field(default_factory=dict)
    """Causes common to all channels at one place of a sample."""
    reaches: Mapping[int, float] = field(default_factory=dict)
    """Positions up to which places have something of such a cause in common: 1 - d / reach of it
    at distance d along each axis; 1 where nothing is said."""
    kurtosis: float = 3.0
    """Of an entry; each channel over its own rms where the means of channels are taken away."""

    @property
    def sample(self) -> float:
        """Cov(s, s') of two places of one sample."""
        return square(self.samples)

    @property
    def place(self) -> float:
        """Cov(s, s') of two channels at one place."""
        return self.sample + square(self.places)

    @property
    def reach(self) -> float:
        """That of the causes of places, by their share."""
        total = square(self.places)
        if total <= 0:
            return 1.0
        parts = (one * one * self.reaches.get(cause, 1.0) for cause, one in self.places.items())
        return sum(parts) / total

    @property
    def entry(self) -> float:
        """Var(s) of an entry."""
        return min(max(self.kurtosis / 3 - 1, -_MOST), _MOST)


Both = tuple[Powers, Powers]


def square(loadings: Loadings) -> float:
    """The variance that causes make."""
    return sum(one * one for one in loadings.values())


def scaled(loadings: Loadings, factor: float) -> Loadings:
    """All loadings times a number."""
    return {cause: one * factor for cause, one in loadings.items()}


def summed(a: Loadings, b: Loadings) -> Loadings:
    """The loadings of a product of scales."""
    return dict(a) | {cause: a.get(cause, 0.0) + one for cause, one in b.items()}


def noted(f: Field) -> bool:
    """Whether anything is known of a field's powers."""
    return POWERS in f.notes or (f.origin is not None and POWERS in f.origin.notes)


def powers_of(f: Field) -> Both:
    """Those of a field; of a function of a field, what follows to first order."""
    found: Both | None = f.notes.get(POWERS)
    if found is not None:
        return found
    if f.nodes is None or f.origin is None:
        return Powers(), Powers()
    before = powers_of(f.origin)[0]
    made = []
    for centered in (False, True):
        stiffness, kurtosis = f.nodes.of_scale(centered)
        samples, places = scaled(before.samples, stiffness), scaled(before.places, stiffness)
        common = 1 + square(samples) + square(places)
        made.append(Powers(samples, places, before.reaches, kurtosis * common))
    both = f.notes[POWERS] = made[0], made[1]
    return both


def note_mask(mask: Field, share: float) -> None:
    """Of a mask that keeps so large a share of all samples."""
    n = prod(mask.shape)
    if share > 0 and mask.shape and 1 < n == mask.shape[0]:
        # Among the samples of one batch: a norm over it takes away what they have in common.
        made = Powers({next(_CAUSES): sqrt((1 / share - 1) * (1 - 1 / n))}, kurtosis=1 / share)
        mask.notes[POWERS] = made, made


@dataclass(frozen=True, slots=True)
class Filter:
    """What one output of a convolution reads."""

    channels: int
    taps: tuple[int, ...]
    """Places along each spatial axis."""
    stride: float
    kurtosis: float
    """Of the weights."""

    @property
    def number(self) -> int:
        """Of weights."""
        return self.channels * prod(self.taps)

    def smoothed(self, places: Loadings, reaches: Mapping[int, float]) -> Loadings:
        """Loadings of causes of places after a mean over those that are read."""
        made = {c: one * _kept(self.taps, reaches.get(c, 1.0)) for c, one in places.items()}
        return {c: one for c, one in made.items() if one * one > _SMALL}

    def reached(self, reach: float) -> float:
        """The reach of a cause behind it."""
        mean = sum(self.taps) / max(len(self.taps), 1)
        return max((reach + mean - 1) / self.stride, 1.0)


@lru_cache(maxsize=256)
def _kept(taps: tuple[int, ...], reach: float) -> float:
    """Root of the mean of 1 - d / reach over pairs of taps."""
    whole = 1.0
    for t in taps:
        near = sum((t - d) * max(1 - d / reach, 0.0) for d in range(1, t))
        whole *= (t + 2 * near) / t**2
    return sqrt(whole)


def note_convolved(
    out: Field, x: Field, of: Filter, groups: int, left: float | None = None
) -> None:
    """Of the output of a convolution.

    Args:
        out: the output.
        x: its input, (samples, channels, spatial axes).
        of: what it reads.
        groups: parts of the channels that do not mix.
        left: a third of the excess kurtosis of channels over their own rms, if it is known
            better than from independent inputs.
    """
    cause, number, heavy, made = next(_CAUSES), of.number, of.kurtosis, []
    for p, centered in zip(powers_of(x), (False, True), strict=True):
        places = dict(of.smoothed(p.places, p.reaches))
        reaches = {c: of.reached(p.reaches.get(c, 1.0)) for c in places}
        kept = p.sample + square(places)
        fresh = max(p.kurtosis - 1 - p.place, 0.0) / number
        if groups == 1:
            places[cause], reaches[cause] = sqrt(fresh), of.reached(1.0)
        if centered:  # the weights' own part is gone with each channel's rms
            share = heavy / 3 / (number + heavy - 1)  # E sum w^4 / 3 (sum w^2)^2
            own = (p.kurtosis - 3 - 3 * p.place) * share if left is None else left
        else:
            own = fresh + (heavy - 3) / 3 * p.kurtosis / number
        made.append(Powers(p.samples, places, reaches, 3 + 3 * (kept + own)))
    out.notes[POWERS] = made[0], made[1]


def note_normalized(out: Field, x: Field, spread: Array | None) -> None:
    """Of a norm of each channel over samples and places.

    A sample of larger power takes part in what it is divided by: E s_i q_i / sum s_j q_j, the q
    being independent chi squares over their degrees of freedom, n of them in all, changes by the
    power 1 - 2 / n of s_i. So it does in the mean: E (x_i - mean x)^2 changes by the power 1 - m
    of s_i, the mean having the share m of the variance.

    Args:
        out: what is normalized.
        x: what it was.
        spread: the variance of the correlations of `out` over channels, per kind of pair.
    """
    if not noted(x):
        return
    alike = out.second / max(out.energy, 1e-300)
    places = {place for axis in range(2, len(out.groups)) for place in out.factors_of(axis)}
    within = max(averaged(alike, out.cuts, places), 0.0)
    mean = within / max(out.shape[0] - 1 + within, 1.0)
    own = np.square(alike) + (0.0 if spread is None else spread)
    squares = averaged(own, out.cuts, places | set(out.factors_of(0)))
    of, damped = powers_of(x)[1], max(1 - 2 * squares, 0.0) * (1 - mean)
    made = Powers(scaled(of.samples, damped), scaled(of.places, damped), of.reaches, of.kurtosis)
    out.notes[POWERS] = made, made


def note_sum(out: Field, a: Field, b: Field) -> None:
    """Of a sum of independent fields."""
    if not (noted(a) or noted(b)) or a.shape != b.shape or a.energy + b.energy <= 0:
        return
    share = a.energy / (a.energy + b.energy)
    one, two = (_summed(x, y, share) for x, y in zip(powers_of(a), powers_of(b), strict=True))
    out.notes[POWERS] = one, two


def _summed(of: Powers, other: Powers, share: float) -> Powers:
    rest = 1 - share
    both = sum(
        one * second.get(cause, 0.0)
        for first, second in ((of.samples, other.samples), (of.places, other.places))
        for cause, one in first.items()
    )
    return Powers(
        summed(scaled(of.samples, share), scaled(other.samples, rest)),
        summed(scaled(of.places, share), scaled(other.places, rest)),
        {**of.reaches, **other.reaches},
        share**2 * of.kurtosis + rest**2 * other.kurtosis + 6 * share * rest * (1 + both),
    )


def note_product(out: Field, a: Field, b: Field) -> None:
    """Of a product of independent fields, one of which may be the same at all places."""
    if not (noted(a) or noted(b)):
        return
    one, two = _spread(a, out), _spread(b, out)
    # What varies of x g around a channel's mean is what varies of x, times the whole of a gate g.
    left = _multiplied(one[a.shape == out.shape], two[b.shape == out.shape != a.shape])
    out.notes[POWERS] = _multiplied(one[0], two[0]), left


def _spread(f: Field, out: Field) -> Both:
    """What is the same at all places is common to the sample."""
    raw, left = powers_of(f)
    if f.shape[2:] == out.shape[2:]:
        return raw, left
    one, two = (Powers(summed(of.samples, of.places), kurtosis=of.kurtosis) for of in (raw, left))
    return one, two


def _multiplied(one: Powers, two: Powers) -> Powers:
    samples, places = summed(one.samples, two.samples), summed(one.places, two.places)
    return Powers(samples, places, {**one.reaches, **two.reaches}, one.kurtosis * two.kurtosis)


def note_mean(out: Field, x: Field) -> None:
    """Of means over places."""
    if not noted(x):
        return
    n, mean, energy = prod(x.shape) / prod(out.shape), out.average**2, out.energy
    rest = max(energy - mean, 0.0)
    kurtosis = 3 - 2 * (mean / (mean + rest)) ** 2 if energy > 0 else 3.0
    raw, left = (Powers(of.samples, scaled(of.places, n**-0.5)) for of in powers_of(x))
    out.notes[POWERS] = Powers(raw.samples, raw.places, {}, kurtosis), left


def hand_on(out: Field, x: Field) -> None:
    """Of a multiple."""
    if POWERS in x.notes:
        out.notes[POWERS] = x.notes[POWERS]


# -- what follows for functions ------------------------------------------------------------------


def matters(f: Field) -> Powers | None:
    """The powers of a field, if a function of it depends on them."""
    found: Both | None = f.notes.get(POWERS)
    if found is None or max(abs(found[0].entry), found[0].place) < _LEAST:
        return None
    return found[0]


def excess(z: Array, of: Powers) -> Array:
    """Var(s) / 8 He_4(z): to be added to 1 for the density of an entry."""
    two = np.square(z)
    return np.asarray(of.entry / 8 * ((two - 6) * two + 3))


def changes(f: Field, coefficients: Array, correlation: Array, of: Powers) -> tuple[Array, Array]:
    """What powers add to (E g per class, E g g' per kind of pair) of a function g of a field.

    Args:
        f: the field.
        coefficients: Hermite coefficients of g, (classes …, orders).
        correlation: per kind of pair.
        of: the field's powers.
    """
    a = coefficients[..., : _ORDERS + 4]
    once = _scaling(a)
    twice = _scaling(once)
    first = once[..., :_ORDERS] / 2
    second = of.entry * (twice[..., :_ORDERS] - 2 * once[..., :_ORDERS]) / 8
    a = a[..., :_ORDERS]
    crossed = products(a, second) + products(second, a)
    total = evaluated(f.cuts, a.shape[:-1], crossed, correlation)
    alike = common(f, of.sample, of.place, of.reach)
    total += alike * evaluated(f.cuts, a.shape[:-1], products(first, first), correlation)
    return second[..., 0], total


def _scaling(a: Array) -> Array:
    """Coefficients of z g'(z)."""
    k = np.arange(a.shape[-1])
    result = k * a
    result[..., :-2] += np.sqrt((k[:-2] + 1) * (k[:-2] + 2)) * a[..., 2:]
    return np.asarray(result)


def common(f: Field, sample: float, place: float, reach: float = 1.0) -> Array:
    """Per kind of pair: one number for two places of a sample, one for one place, 0 for others."""
    result = np.full(f.second.shape, place - sample)
    for axis in range(len(f.groups)):
        for factor in f.factors_of(axis) if axis != 1 else ():
            near = np.maximum(1 - distances(f.cuts[factor]) / (reach if axis else 1.0), 0.0)
            near = near.reshape(-1, *([1] * (result.ndim - factor - 1)))
            result = result * near
    for factor in f.factors_of(0):
        np.moveaxis(result, factor, 0)[: len(f.cuts[factor])] += sample
    return result
