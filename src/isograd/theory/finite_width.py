"""Finite width: how far one random network strays from what holds on average."""

from collections.abc import Sequence
from math import inf, sqrt

from isograd.theory.gains import gains


def band(layers: Sequence[tuple[int, str]]) -> list[float]:
    """Standard deviation of ln rms, over random Gaussian weights, after each of some layers.

    The energy of what a random network makes of one vector is log-normal (Hanin and Nica, Products
    of many large random matrices and gradients in deep neural networks, 2018): ln energy has
    variance beta = sum of kappa/n over the layers, and ln rms, half of it, beta/4. Exact to first
    order in 1/n for piecewise linear activations; for bounded ones an upper bound of the forward
    signal, which they pull back to its fixed point.

    Args:
        layers: for each weight layer in order of execution its fan-in, and the activation that its
            inputs come out of (`linear` where there is none, as for the data).

    Returns:
        One number per layer, natural logarithm; infinite from a fan-in of 0, or from an activation
        that lets nothing pass, on.

    Raises:
        InputError: there is no such activation.
    """
    beta, deviations = 0.0, []
    for fan_in, name in layers:
        beta += kappa(name) / fan_in if fan_in else inf
        deviations.append(sqrt(beta) / 2)
    return deviations


def kappa(name: str) -> float:
    """Variance of ln energy that a layer adds, times its fan-in: 3 E phi'^4/(E phi'^2)^2 - 1.

    2 without an activation, 5 for ReLU.
    """
    of = gains(name)
    return 3 * of.slope_fourth / of.slope_moment**2 - 1 if of.slope_moment else inf
