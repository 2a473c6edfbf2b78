"""Gains: the factor on the weights by which an activation keeps the signal, or the gradient."""

from dataclasses import dataclass
from functools import lru_cache
from math import inf, sqrt
from typing import Any

import numpy as np

from isograd.theory.activations import Activation, activation
from isograd.theory.averages import averages, variance


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
    torch_gain: float | None = None
    """What `torch.nn.init.calculate_gain` says; None where it knows no such activation."""
    remark: str = ""
    """Why torch's number is what it is."""


def gains(act: object, **params: Any) -> Gains:
    """The gains of an activation for a standard normal input, right to 1e-10.

    A gain is infinite where the moment it divides by is zero (nothing passes), and 0 where the
    moment is infinite.

    Args:
        act: as for `isograd.theory.activations.activation`.
        params: likewise.

    Raises:
        InputError: there is no such activation, or it has no such parameter.
    """
    return _gains(activation(act, **params))


@lru_cache(maxsize=1024)
def _gains(phi: Activation) -> Gains:
    of = averages(phi, 1.0)
    torch_gain, remark = _torch(phi)
    return Gains(
        second_moment=_inverse_root(of.square),
        std=_inverse_root(variance(phi) if of.square < inf else inf),
        slope=_inverse_root(of.slope_square),
        slope_moment=of.slope_square,
        slope_fourth=of.slope_fourth,
        torch_gain=torch_gain,
        remark=remark,
    )


def _inverse_root(moment: float) -> float:
    return 1 / sqrt(moment) if moment else inf


def _torch(phi: Activation) -> tuple[float | None, str]:
    """The number of torch, said here so that it need not be imported; a test compares the two."""
    if phi.name == "leaky_relu":
        leak = float(phi.slope(np.array([-1.0]))[0])
        return sqrt(2 / (1 + leak * leak)), "the second-moment gain, exactly"
    return _TORCH.get(phi.name, (None, "torch has no number for this activation"))


_TORCH: dict[str, tuple[float | None, str]] = {
    "linear": (1.0, "the second-moment gain, exactly"),
    "relu": (sqrt(2), "the second-moment gain, exactly"),
    "tanh": (
        5 / 3,
        "a rule of thumb, larger than any of the three: it leaves gradients growing at first, and "
        "the signal settling above unit variance",
    ),
    "sigmoid": (
        1.0,
        "a convention: sigmoid shrinks both signal and gradient, its mean apart, whatever the gain",
    ),
    "selu": (
        3 / 4,
        "found by trial; a self-normalizing network needs 1 (torch: nonlinearity='linear')",
    ),
}
