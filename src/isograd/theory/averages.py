"""Averages of one activation at one length, and checks of what the theory is asked for."""

from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt

import numpy as np
from numpy.typing import NDArray

from isograd.errors import InputError
from isograd.theory.activations import Activation
from isograd.theory.gaussian import expect, rule
from isograd.theory.moments import REACH
from isograd.theory.resolution import features

Array = NDArray[np.float64]

LEAST_ANGLE = 1e-150
"""Length below which float64 holds no product of two lengths, and so no angle."""
_LEAST_LENGTH = 1e-14
"""Stands for q = 0: the activation is then linear to rounding."""
_TAIL, _TAIL_SHARE = 12.0, 1e-8
"""An average of which more than this share is made beyond so many standard deviations is infinite,
or ends where quadrature does not reach."""


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
    """The averages at length q; at 0 their limits.

    Infinite where float64 does not hold them, or what makes them lies beyond 12 standard
    deviations.

    Derivatives with respect to q are those of the density (heat equation), so that kinks do no
    harm.
    """
    q = max(q, _LEAST_LENGTH)
    u, weights = rule(_edges(act, sqrt(q)), sqrt(q))
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
        parts = np.stack(rows) * weights
        means = parts.sum(axis=1)
        ends = np.abs(parts[:, np.abs(u) > _TAIL * sqrt(q)]).sum(axis=1)
        held = ends <= _TAIL_SHARE * np.abs(parts).sum(axis=1)
    return Averages(*(float(mean) if ok else inf for mean, ok in zip(means, held, strict=True)))


def _edges(act: Activation, scale: float) -> tuple[float, ...]:
    """Arguments to split at: kinks, and the panels on which phi is a polynomial."""
    edges = features(act).edges
    return (*act.kinks, *edges[np.abs(edges) <= REACH * scale].tolist())


def variance(act: Activation) -> float:
    """Var phi for a standard normal input."""
    kinks = _edges(act, 1.0)
    mean = expect(act.value, kinks=kinks)
    return expect(lambda x: (act.value(x) - mean) ** 2, kinks=kinks)


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
    found = nan if isinstance(value, bool | str) else _real(value)
    if not least <= found <= most or found % 1:
        raise InputError(f"{name} is a whole number from {least} to {most:g}; got {value!r}")
    return int(value)


def number(name: str, value: float, *, above: float | None = None, least: float = 0.0) -> float:
    """A finite number, at or above `least`, or strictly above `above`.

    Raises:
        InputError: it is not.
    """
    found = _real(value)
    low = found > above if above is not None else found >= least
    if not (isfinite(found) and low):
        bound = f"above {above:g}" if above is not None else f"at or above {least:g}"
        raise InputError(f"{name} is a finite number {bound}; got {value!r}")
    return found


def _real(value: object) -> float:
    """A float, nan for what is no number."""
    try:
        return float(value)  # type: ignore[arg-type]  # that is the question
    except (TypeError, ValueError, OverflowError):
        return nan
