"""Averages of one activation at one length, and checks of what the theory is asked for."""

from dataclasses import dataclass
from math import inf, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from isograd.errors import InputError
from isograd.theory.activations import Activation
from isograd.theory.gaussian import rule

Array = NDArray[np.float64]

LEAST_ANGLE = 1e-150
"""Length below which float64 holds no product of two lengths, and so no angle."""
_LEAST_LENGTH = 1e-14
"""Stands for q = 0: the activation is then linear to rounding."""


@dataclass(frozen=True, slots=True)
class Averages:
    """Gaussian averages of phi(u) and phi'(u), u of variance q."""

    mean: float
    """E phi."""
    square: float
    """E phi^2."""
    fourth: float
    """E phi^4."""
    slope_square: float
    """E phi'^2."""
    slope_fourth: float
    """E phi'^4."""
    slope_sixth: float
    """E phi'^6."""
    both: float
    """E phi^2 phi'^2."""
    square_growth: float
    """d E phi^2 / dq = E[u phi phi'] / q."""
    slope_growth: float
    """d E phi'^2 / dq = E[(u^2/q - 1) phi'^2] / (2 q)."""


def averages(act: Activation, q: float) -> Averages:
    """The averages at length q; at 0 their limits. Infinite where float64 does not hold them.

    Derivatives with respect to q are those of the density (heat equation), so that kinks do no
    harm.
    """
    q = max(q, _LEAST_LENGTH)
    u, weights = rule((*act.kinks, *act.bends), sqrt(q))
    with np.errstate(all="ignore"):
        phi, slope = act.value(u), act.slope(u)
        square, slope_square = phi**2, slope**2
        heat = (u * u / q - 1) / (2 * q)
        rows = [
            phi,
            square,
            square**2,
            slope_square,
            slope_square**2,
            slope_square**3,
            square * slope_square,
            # Where phi jumps, phi' does not tell how phi^2 grows; elsewhere it is exacter.
            heat * square if act.jumps else u * phi * slope / q,
            heat * slope_square,
        ]
        means = np.stack(rows) @ weights
    return Averages(*(float(mean) if mean == mean else inf for mean in means))


def slope_jumps(act: Activation) -> bool:
    """Whether phi or phi' jumps anywhere, so that E phi''^2 is infinite."""

    def jumps(kink: float) -> bool:
        step = 1e-9 * max(1.0, abs(kink))
        below, above = act.slope(np.array([kink - step, kink + step]))
        return bool(abs(above - below) > 1e-6 * max(1.0, abs(above), abs(below)))

    return bool(act.jumps) or any(map(jumps, act.kinks))


def whole(name: str, value: float, least: int = 1, most: int = 1_000_000_000) -> int:
    """A whole number within bounds.

    Raises:
        InputError: it is not.
    """
    if isinstance(value, bool) or not least <= value <= most or value % 1:
        raise InputError(f"{name} is a whole number from {least} to {most:g}; got {value!r}")
    return int(value)


def number(name: str, value: float, *, above: float | None = None, least: float = 0.0) -> float:
    """A finite number, at or above `least`, or strictly above `above`.

    Raises:
        InputError: it is not.
    """
    low = value > above if above is not None else value >= least
    if not (isfinite(value) and low):
        bound = f"above {above:g}" if above is not None else f"at or above {least:g}"
        raise InputError(f"{name} is a finite number {bound}; got {value!r}")
    return float(value)
