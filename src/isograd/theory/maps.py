"""Maps: what one layer does to the length of a signal and to the angle between two."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Correlation:
    """What one layer makes of two signals of mean squares q1 and q2 and correlation c."""

    value: float
    """The new correlation C(c)."""
    slope: float
    """sigma_w^2 E[phi'(u1) phi'(u2)]: dC/dc where the lengths stay, and the factor on the
    covariance of two gradients; infinite at c = 1 never: backpropagation's slopes."""
    covariance: float
    """sigma_w^2 E[phi(u1) phi(u2)] + sigma_b^2."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A network's signal and gradient by depth; index 0 is the first pre-activation."""

    q: Array
    """Mean square of the pre-activations, [depth + 1]."""
    c: Array | None
    """Correlation of two signals, [depth + 1]."""
    gradient: Array
    """Mean square of dLoss/d(pre-activation), relative to the last, [depth + 1]."""
    similarity: Array | None
    """Correlation of two inputs' gradients at each depth, independent losses' gradients at the
    output taken as equal, [depth + 1]."""


def length_map(
    act: object, q: ArrayLike, *, weight_var: float, bias_var: float = 0.0
) -> float | Array:
    """The mean square of the next pre-activations, sigma_w^2 E[phi(sqrt(q) z)^2] + sigma_b^2."""
    raise NotImplementedError


def correlation_map(
    act: object,
    c: float,
    q: float,
    *,
    weight_var: float,
    bias_var: float = 0.0,
    q2: float | None = None,
) -> Correlation:
    """What a layer makes of the correlation of two signals."""
    raise NotImplementedError


def trajectory(
    act: object,
    depth: int,
    *,
    weight_var: float,
    bias_var: float = 0.0,
    q0: float = 1.0,
    c0: float | None = None,
    widths: Sequence[int] | None = None,
) -> Trajectory:
    """Length, correlation, gradient energy and gradient similarity at every depth."""
    raise NotImplementedError


def gradient_similarity(
    act: object,
    depth: int,
    *,
    weight_var: float,
    bias_var: float = 0.0,
    q0: float = 1.0,
    c0: float = 0.0,
) -> float:
    """Correlation of two inputs' gradients after `depth` layers (shattering)."""
    raise NotImplementedError
