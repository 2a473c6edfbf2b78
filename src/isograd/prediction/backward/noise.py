"""Noise of gradients behind weights: what one draw of finitely many differs by from the next.

The gradient of weights is a sum over samples and places p of g_p x_p, and its energy the sum over
two of them of (g_p g_q) (x_p x_q). Where the inputs have something in common, that of the gradients
is what is left: (sum x / n)(sum g), a number of degrees of freedom as small as a layer is narrow,
while the mean over all |g_p|^2 hardly differs from draw to draw. So the noise of both is followed:
of the energy, and of the energy of the sum over samples and places (`Field.common`).

Behind a layer of one output, or of two that a softmax takes, gradients of all samples point the
same way or the opposite one, which no covariance tells. Weights then turn one direction, not many:
the energy of W' g varies by 2 E cos^2 / m, m features. The cosines are followed (note `LIKE`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.means import averaged, fluctuation
from isograd.prediction.moments.pairs import Sizes

LIKE = "like directions"
"""Note of a gradient: the mean of the squared cosine of those of two samples or places."""
_ALIKE = 0.05
"""Below which it does not matter."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Variances of the log of energies of a gradient at the output of weights."""

    energy: float
    """Of all entries, with those of this layer."""
    common: float
    """Of the sum over samples and places, with that of this layer."""
    arrived: float
    """The same without that of this layer."""
    total: float
    """Energy of that sum, per entry."""
    like: float = 0.0
    """Mean of the squared cosine of the gradients of two samples or places."""
    told: float = 0.0
    """What covariances of samples and places know of that."""

    def behind(self, result: Field, factor: Field | None = None, features: float = 0) -> None:
        """Of the gradient at the input of the weights, or at one factor of a product.

        Args:
            result: that gradient.
            factor: what it was multiplied by, whose energy is that of one draw, too.
            features: of what the weights multiply.
        """
        more = 0.0 if factor is None else factor.noise + fluctuation(factor)
        if features and self.like > _ALIKE:
            more += 2 * max(self.like - self.told, 0.0) / features
            result.notes[LIKE] = self.like
        result.noise, result.common = self.energy + more, self.common + more

    def mixed(self, share: float, features: float, more: float = 0.0, rest: float = 0.0) -> float:
        """Of the gradient of weights.

        Products (g_p g_q) (x_p x_q) of two samples or places sum up to nothing, but for chance:
        their variance is one over the degrees of freedom of g, about 2 over the noise of its sum,
        and one over those of x.

        Args:
            share: of the energy, that all samples and places have in common.
            features: that the weights read.
            more: noise of that share besides.
            rest: of the other share.
        """
        apart = self.energy + rest + self.common / max(features, 1.0)
        both = share * (self.common + more) ** 0.5 + (1 - share) * apart**0.5
        return float(both * both)

    def of_weights(self, result: Field, x: Field, places: Sequence[int]) -> None:
        """Of the gradient of the weights.

        Args:
            result: that gradient.
            x: what the weights multiply.
            places: its factors that are samples or places.
        """
        mean = x.summed(places, average=True)
        share = self.total * mean.energy / result.energy if result.energy > 0 else 0.0
        share = min(max(share, 0.0), 1.0)
        features = prod(mean.sizes)
        result.noise = x.noise + self.mixed(share, features, fluctuation(mean), fluctuation(x))


def noise_of(
    gradient: Field, laid_out: Field, places: Sequence[int], *, weighs: bool = True
) -> Noise:
    """Of a gradient at the output of weights.

    Args:
        gradient: the field.
        laid_out: the same on other axes.
        places: its factors that are samples or places.
        weighs: whether gradients of weights are wanted; the energy's is all that is told if not.
    """
    energy = gradient.noise + fluctuation(gradient)
    alike = _alike(gradient, laid_out, places)
    if not weighs:
        return Noise(energy, 0.0, 0.0, 0.0, *alike)
    total = laid_out.summed(places)
    common = gradient.common or gradient.noise
    return Noise(energy, common + fluctuation(total), common, total.energy, *alike)


def turned(result: Field, other: Field, places: Sequence[int]) -> None:
    """Of a gradient that is a sum over places of something that they have in common.

    Args:
        result: that gradient.
        other: what was summed up, the other factor of a product.
        places: its factors that are samples or places.
    """
    if other.energy > 0 and places:
        alike = averaged(other.second, other.cuts, set(places)) / other.energy
        if alike > _ALIKE**0.5:
            result.notes[LIKE] = min(alike, 1.0) ** 2


def _alike(gradient: Field, laid_out: Field, places: Sequence[int]) -> tuple[float, float]:
    """(mean squared cosine of two gradients, what the covariances of a feature know of it)."""
    carried = float(gradient.notes.get(LIKE, 0.0))
    features, number = _features(laid_out.cuts, tuple(places))
    if max(carried, 2 / number) <= _ALIKE or laid_out.energy <= 0:
        return 0.0, 0.0
    squares = np.square(laid_out.second / laid_out.energy)
    like = max(carried, averaged(squares, laid_out.cuts, features))
    return min(like, 1.0), averaged(squares, laid_out.cuts, set(places))


@lru_cache(maxsize=1024)
def _features(cuts: tuple[Sizes, ...], places: tuple[int, ...]) -> tuple[frozenset[int], int]:
    """The other factors, and how many entries they have."""
    others = frozenset(range(len(cuts))).difference(places)
    return others, prod(sum(cuts[place]) for place in others)


def through_factor(result: Field, gradient: Field, factor: Field, units: int) -> None:
    """Of a gradient times something independent that two samples have less than all of in common.

    The sum of s_p g_p holds that of g_p as far as the factors are alike, E s s' / E s^2; the rest
    has the noise of the energy.

    Args:
        result: the gradient behind; knows its noise.
        gradient: the gradient before.
        factor: the field of s.
        units: axis of the features, which are not summed over.
    """
    common, g = gradient.common or gradient.noise, gradient
    carried = gradient.notes.get(LIKE, 0.0)
    if not g.cuts or not factor.cuts:
        result.common = common + max(result.noise - g.noise, 0.0)
        return
    places = set(range(len(g.cuts))) - set(g.factors_of(units))
    number = prod(sum(g.cuts[place]) for place in places)
    apart = set(range(len(factor.cuts))) - set(factor.factors_of(units))
    alike = averaged(factor.second, factor.cuts, apart) / max(factor.energy, 1e-300)
    if carried:
        result.notes[LIKE] = carried * min(max(alike, 0.0), 1.0) ** 2
    summed = number * averaged(g.second, g.cuts, places) / max(g.energy, 1e-300)
    kept = max(alike, 0.0) * max(summed, 0.0)
    share = kept / (kept + max(1 - alike, 0.0)) if kept > 0 else 0.0
    more = max(result.noise - g.noise, 0.0)
    result.common = (share * common**0.5 + (1 - share) * g.noise**0.5) ** 2 + more
