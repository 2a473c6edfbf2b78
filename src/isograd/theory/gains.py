"""Gains: the factor on the weights by which an activation keeps the signal, or the gradient."""

from dataclasses import dataclass
from functools import lru_cache
from math import inf, sqrt

from isograd.theory.activations import activation
from isograd.theory.gaussian import expect


@dataclass(frozen=True, slots=True)
class Gains:
    """What one activation needs from the weights around it, at unit variance of its input.

    A weight layer of gain g has rms(w) sqrt(fan_in) = g.
    """

    second_moment: float
    """1/sqrt(E phi^2): keeps the rms of the signal."""
    std: float
    """1/sqrt(Var phi): keeps it where the mean is taken off (normalization, standardization)."""
    slope: float
    """1/sqrt(E phi'^2): keeps the rms of the gradient."""
    slope_moment: float
    """E phi'^2."""
    slope_fourth: float
    """E phi'^4."""


@lru_cache(maxsize=1024)
def gains(name: str, **params: float | str) -> Gains:
    """The gains of an activation for a standard normal input, right to 1e-10.

    A gain is infinite where the moment it divides by is zero (nothing passes).

    Args:
        name: as for `isograd.theory.activations.activation`.
        params: likewise.

    Raises:
        InputError: there is no such activation, or it has no such parameter.
    """
    phi = activation(name, **params)
    mean = expect(phi.value, kinks=phi.kinks)
    square = expect(lambda x: phi.value(x) ** 2, kinks=phi.kinks)
    variance = expect(lambda x: (phi.value(x) - mean) ** 2, kinks=phi.kinks)
    slope_moment = expect(lambda x: phi.slope(x) ** 2, kinks=phi.kinks)
    slope_fourth = expect(lambda x: phi.slope(x) ** 4, kinks=phi.kinks)
    return Gains(
        second_moment=_inverse_root(square),
        std=_inverse_root(variance),
        slope=_inverse_root(slope_moment),
        slope_moment=slope_moment,
        slope_fourth=slope_fourth,
    )


def _inverse_root(moment: float) -> float:
    return 1 / sqrt(moment) if moment else inf
