"""Noise of gradients behind weights: what one draw of finitely many differs by from the next.

The gradient of weights is a sum over samples and places p of g_p x_p, and its energy the sum over
two of them of (g_p g_q) (x_p x_q). Where the inputs have something in common, that of the gradients
is what is left: (sum x / n)(sum g), a number of degrees of freedom as small as a layer is narrow,
while the mean over all |g_p|^2 hardly differs from draw to draw. So the noise of both is followed:
of the energy, and of the energy of the sum over samples and places (`Field.common`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.means import averaged, fluctuation


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

    def behind(self, result: Field, factor: Field | None = None) -> None:
        """Of the gradient at the input of the weights, or at one factor of a product.

        Args:
            result: that gradient.
            factor: what it was multiplied by, whose energy is that of one draw, too.
        """
        more = 0.0 if factor is None else factor.noise + fluctuation(factor)
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
    if not weighs:
        return Noise(gradient.noise + fluctuation(gradient), 0.0, 0.0, 0.0)
    total = laid_out.summed(places)
    common = gradient.common or gradient.noise
    return Noise(
        gradient.noise + fluctuation(gradient), common + fluctuation(total), common, total.energy
    )


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
    if not g.cuts or not factor.cuts:
        result.common = common + max(result.noise - g.noise, 0.0)
        return
    places = set(range(len(g.cuts))) - set(g.factors_of(units))
    number = prod(sum(g.cuts[place]) for place in places)
    apart = set(range(len(factor.cuts))) - set(factor.factors_of(units))
    alike = averaged(factor.second, factor.cuts, apart) / max(factor.energy, 1e-300)
    summed = number * averaged(g.second, g.cuts, places) / max(g.energy, 1e-300)
    kept = max(alike, 0.0) * max(summed, 0.0)
    share = kept / (kept + max(1 - alike, 0.0)) if kept > 0 else 0.0
    more = max(result.noise - g.noise, 0.0)
    result.common = (share * common**0.5 + (1 - share) * g.noise**0.5) ** 2 + more
