"""Criticality: the weight and bias variances at which gradients neither vanish nor explode."""

from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isograd.errors import InputError
from isograd.theory.activations import Activation, activation
from isograd.theory.fixed_points import CRITICAL
from isograd.theory.moments import SMALLEST_Q, Moments, moments
from isograd.theory.roots import root

Array = NDArray[np.float64]

_NOISE = 1e-11
"""Relative size below which a bias variance is rounding: two close numbers make it."""
_FAINTEST = 1e-12
"""E phi'^2 below this share of its largest is left out: all that passes is a far tail."""
SATURATED = 0.4
"""A line on which E phi'^2 never reaches this share of its largest is of no use: weights many times
as large as usual make phi a step, most units pass no gradient and a few pass all of it."""


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
    """The one asked for; of a half-stable activation that is unstable there, the threshold's."""
    q_star: float | None
    """None where every q is fixed (scale-invariant), or where the verdict is `none`."""
    chi_q: float | None
    """dQ/dq there."""
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
    """chi_q <= 1: lengths stay."""


def critical(act: object, *, bias_var: float = 0.0) -> Critical:
    """The critical initialization at a bias variance: a verdict first, then the numbers.

    chi_1 = 1 at a fixed point q asks for sigma_w^2 = 1/E phi'^2 and sigma_b^2 = q - E phi^2 /
    E phi'^2 (Poole et al. 2016; Roberts, Yaida and Hanin, The principles of deep learning theory,
    section 5.3, for the verdicts). `stable`: lengths come back to q. `half-stable`: only beyond a
    threshold, given; where there is no stable point at this bias variance the numbers are the
    threshold's. `none`: no bias variance >= 0 makes the activation critical, or it is never stable.

    Args:
        act: as for `activation`.
        bias_var: sigma_b^2.

    Raises:
        InputError: the activation or bias_var cannot be used.
    """
    of = activation(act)
    if not (isfinite(bias_var) and bias_var >= 0):
        raise InputError(f"bias_var is {bias_var!r}; it must be finite and >= 0")
    if of.homogeneous:
        return _scale_free(of, bias_var)
    if of.jumps:
        return _none("phi jumps: inputs part however near they are, at any weight variance")
    table = moments(of)
    line = _scan(of)
    if not len(line.q_star):
        return _none("phi is constant: no gradient passes")
    usable = line.feasible & line.stable
    if not line.feasible.any():
        why = "chi_1 = 1 needs a negative bias variance at every q; center phi (subtract its mean)"
        return _none(why)
    if not usable.any():
        return _none(
            "the critical line is unstable all along: lengths leave every fixed point on it"
        )
    # The line of sigmoid comes back to a bias variance of 0 at sigma_w^2 = 103.
    first = int(np.flatnonzero(usable)[0])
    if line.weight_var[usable].min() > line.weight_var.min() / SATURATED:
        return _none(
            "chi_1 = 1 needs a negative bias variance until weights are so large "
            f"(variance {line.weight_var[first]:.3g} / fan_in, q = {line.q_star[first]:.3g}) that "
            "phi is all but a step; center phi (subtract its mean)"
        )
    half = bool((line.feasible & ~line.stable).any())
    threshold = _threshold(table, line) if half else None
    q_star = _sits_at(table, line, bias_var)
    if q_star is not None:
        weight_var, _, chi_q = _point(table, q_star)
        if _steady(table, q_star):
            why = "gradients keep their size, lengths come back to q*"
            if threshold is not None:
                why = f"stable here; unstable on the other side of q = {threshold.q_star:.4g}"
            verdict: Literal["stable", "half-stable"] = "half-stable" if half else "stable"
            return Critical(verdict, weight_var, bias_var, q_star, chi_q, why, threshold)
    if threshold is not None:
        why = (
            f"no stable critical point at bias variance {bias_var:.4g}; "
            f"the numbers are those of the threshold, q = {threshold.q_star:.4g}"
        )
        at = threshold
        return Critical("half-stable", at.weight_var, at.bias_var, at.q_star, 1.0, why, at)
    low, high = line.bias_var[usable].min(), line.bias_var[usable].max()
    return _none(
        f"no critical point at bias variance {bias_var:.4g}; "
        f"the line runs from {max(low, 0.0):.4g} to {high:.4g}"
    )


def critical_line(act: object, q: ArrayLike | None = None) -> CriticalLine:
    """The whole line chi_1 = 1, parametrized by q.

    Args:
        act: as for `activation`.
        q: mean squares of the pre-activations; 400 from 1e-6 to 100 without.

    Raises:
        InputError: the activation cannot be used, or has no moments at a q.
    """
    of = activation(act)
    table = moments(of)
    lengths = np.geomspace(1e-6, min(100.0, table.largest_q), 400) if q is None else q
    lengths = np.atleast_1d(np.asarray(lengths, dtype=np.float64))
    if not lengths.size:
        raise InputError("q is empty; give at least one mean square")
    if not (lengths.min() >= SMALLEST_Q and lengths.max() <= table.largest_q):
        raise InputError(
            f"q from {lengths.min():.4g} to {lengths.max():.4g}; the line of {of.name} is known "
            f"from {SMALLEST_Q:.0e} to {table.largest_q:.3g}"
        )
    return _line(lengths, np.array([table.at(one) for one in lengths.tolist()]))


def _line(q: Array, values: Array) -> CriticalLine:
    square, slope, growth = values[:, 0], values[:, 1], values[:, 2]
    kept = slope > max(_FAINTEST * slope.max(), 1e-300)
    q, square, slope, growth = q[kept], square[kept], slope[kept], growth[kept]
    bias_var, chi_q = q - square / slope, growth / slope
    return CriticalLine(
        q_star=q,
        weight_var=1 / slope,
        bias_var=bias_var,
        chi_q=chi_q,
        feasible=bias_var >= -_NOISE * q,
        stable=chi_q <= 1 + CRITICAL,
    )


@lru_cache(maxsize=64)
def _scan(act: Activation) -> CriticalLine:
    table = moments(act)
    return _line(table.scan, table.scanned)


def _point(table: Moments, q: float) -> tuple[float, float, float]:
    """(sigma_w^2, sigma_b^2, dQ/dq) of the line at q."""
    if q == 0:
        return 1 / table.start[1], 0.0, 1.0
    square, slope, growth = table.at(q)
    return 1 / slope, q - square / slope, growth / slope


def _threshold(table: Moments, line: CriticalLine) -> Threshold | None:
    """The first q of the feasible line at which it changes between unstable and stable."""
    turns = line.feasible[1:] & line.feasible[:-1] & (line.stable[1:] != line.stable[:-1])
    for i in np.flatnonzero(turns).tolist():
        low, high = float(line.q_star[i]), float(line.q_star[i + 1])

        def over(q: float) -> float:
            return _point(table, q)[2] - 1

        if (over(low) > 0) == (over(high) > 0):
            continue
        q = root(over, low, high)
        weight_var, bias_var, _ = _point(table, q)
        return Threshold(q, weight_var, bias_var)
    return None


def _sits_at(table: Moments, line: CriticalLine, bias_var: float) -> float | None:
    """The q of the line at a bias variance; a stable one where there are several."""
    off = line.bias_var - bias_var
    found = []
    if bias_var == 0 and table.start[0] == 0 and table.start[1] > 0:
        found.append(0.0)  # phi is linear on either side of 0, and the line starts at the origin
    clear = np.abs(off) > _NOISE * line.q_star
    q, off = line.q_star[clear], off[clear]
    for i in np.flatnonzero((off[1:] > 0) != (off[:-1] > 0)).tolist():
        ends = float(q[i]), float(q[i + 1])
        found.append(root(lambda at: _point(table, at)[1] - bias_var, *ends))
    if not found:
        return None
    steady = [one for one in found if _steady(table, one)]
    return (steady or found)[0]


def _steady(table: Moments, q: float) -> bool:
    if q > 0:
        return _point(table, q)[2] <= 1 + CRITICAL
    # At 0 dQ/dq is 1 to first order; what decides is how it leaves 1.
    return all(_point(table, near)[2] <= 1 + CRITICAL for near in (1e-6, 1e-4))


def _scale_free(act: Activation, bias_var: float) -> Critical:
    left, right = act.value(np.array([-1.0, 1.0])).tolist()
    if not left**2 + right**2 > 1e-300:
        return _none("phi is 0: neither signal nor gradient passes")
    weight_var = 2 / (left**2 + right**2)
    if bias_var > 0:
        return _none(
            f"scale-invariant: critical at bias variance 0 and weight variance {weight_var:.6g} "
            "alone; a bias makes lengths grow without end there"
        )
    why = "scale-invariant: every q is fixed, and gradients keep their size"
    return Critical("stable", weight_var, 0.0, None, 1.0, why)


def _none(why: str) -> Critical:
    return Critical("none", None, None, None, None, why)
