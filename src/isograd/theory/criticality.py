"""Criticality: the weight and bias variances at which gradients neither vanish nor explode."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where the critical line of a half-stable activation becomes stable: chi_q falls to 1."""

    q_star: float
    weight_var: float
    bias_var: float


@dataclass(frozen=True, slots=True)
class Critical:
    """The initialization of an activation with chi_1 = 1 at a fixed point, and its verdict."""

    verdict: Literal["stable", "half-stable", "none"]
    weight_var: float | None
    bias_var: float | None
    q_star: float | None
    """None where every q is fixed (scale-invariant), or where the verdict is `none`."""
    chi_q: float | None
    reason: str
    threshold: Threshold | None = None
    """Of a half-stable activation."""


@dataclass(frozen=True, slots=True)
class CriticalLine:
    """The points with chi_1 = 1, by q; all arrays [n]."""

    q_star: Array
    weight_var: Array
    bias_var: Array
    """Negative where no network can sit."""
    chi_q: Array
    feasible: NDArray[np.bool_]
    """bias_var >= 0."""
    stable: NDArray[np.bool_]
    """chi_q <= 1."""


def critical(act: object, *, bias_var: float = 0.0) -> Critical:
    """The critical initialization at a bias variance: a verdict first, then the numbers."""
    raise NotImplementedError


def critical_line(act: object, q: ArrayLike | None = None) -> CriticalLine:
    """The whole line chi_1 = 1, parametrized by q."""
    raise NotImplementedError
