"""Fixed points: the lengths and angles that depth leads to, and how fast."""

from dataclasses import dataclass
from math import inf, isfinite, log, sqrt
from typing import Literal

import numpy as np

from isograd.errors import InputError
from isograd.theory.activations import Activation, activation
from isograd.theory.kernels import Series, chord, series
from isograd.theory.moments import SMALLEST_Q, Moments, moments
from isograd.theory.roots import root

DEPTHS_OF_XI = 6.0
"""Networks train to about 6 xi_c layers (Schoenholz et al. 2017, Deep information propagation,
figure 5): an observation, of the order of magnitude and no more."""
CRITICAL = 1e-9
"""|chi_1 - 1| below this is critical: variances are handed in with some ten digits."""
NOISE = 1e-12
"""Relative size below which Q(q) - q is rounding."""
_HERE = 1e-9
"""A start that is this close to a fixed point, relatively, is there."""
_LEAST_ANGLE = 1e-8
"""Between two inputs, in radians: the cosine of less is 1 in float64."""
_MAX_STEPS, _CLOSE = 100, 1e-11
"""Of Newton's method for the angle, and its last one, relatively: what is left is its square."""
_LEAST_GUESS, _GUESSES = 1e-3, 32
"""Angle down to which, and of how many, one is picked for Newton's method to start from."""
_NEAR = 0.1
"""Roots hide between two points of the scan only where |Q(q)/q - 1| is below this."""


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """A mean square q that a layer maps to itself."""

    q: float
    chi_q: float
    """dQ/dq there."""
    stable: bool
    """Whether its neighborhood is drawn to it."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Where depth leads a network of given weight and bias variance. None: there is none."""

    q_star: float | None
    """Mean square of the pre-activations at the fixed point that q0 leads to; an unstable one where
    there is no other."""
    stable: bool | None
    """Whether q_star attracts its neighborhood."""
    chi_1: float | None
    """sigma_w^2 E phi'^2: factor on the gradient energy per layer backward."""
    chi_q: float | None
    """dQ/dq at q_star."""
    c_star: float | None
    """Correlation that two different inputs come to."""
    chi_c: float | None
    """Slope of the correlation map at c_star."""
    xi_q: float | None
    """Layers over which the length forgets by a factor e, -1/ln |chi_q|; inf where chi_q is 1."""
    xi_c: float | None
    """The same for the angle, -1/ln chi_c; inf at criticality."""
    phase: Literal["ordered", "critical", "chaotic"] | None
    usable_depth: float | None
    """Layers that remain trainable without skips and norms: about 6 xi_c."""
    reason: str
    """The verdict in one sentence."""
    fixed_points: tuple[FixedPoint, ...]
    """All that were found, by q; none is listed where every q is fixed."""


def phase(act: object, *, weight_var: float, bias_var: float = 0.0, q0: float = 1.0) -> Phase:
    """The fixed point that a signal of mean square q0 is led to, and what follows.

    Q(q) = sigma_w^2 E phi(sqrt(q) z)^2 + sigma_b^2 and C(c) = (sigma_w^2 E[phi phi] + sigma_b^2)/q*
    (Poole et al. 2016, Exponential expressivity in deep neural networks; Schoenholz et al. 2017).
    c* < 1 is the one other root of the convex C(c) = c where C'(1) = chi_1 > 1.

    Args:
        act: as for `activation`.
        weight_var: sigma_w^2, weights have the variance sigma_w^2 / fan_in; positive.
        bias_var: sigma_b^2; not negative.
        q0: mean square of the first pre-activations.

    Raises:
        InputError: the activation or a variance cannot be used.
    """
    of = activation(act)
    weight_var, bias_var, q0 = float(weight_var), float(bias_var), float(q0)
    check_variances(weight_var, bias_var, q0)
    if of.homogeneous:
        return _scale_free(of, weight_var, bias_var, q0)
    table = moments(of)
    found = fixed_points(table, weight_var, bias_var)
    q_star = _led_to(table, found, weight_var, bias_var, q0)
    if q_star is None:
        return _nothing(_endless(table, found), found)
    at = next(point for point in found if point.q == q_star)
    if q_star == 0:
        return _dying(at, found)
    return _at(of, weight_var, at, found, table.at(q_star)[1] * weight_var)


def check_variances(weight_var: float, bias_var: float, q0: float = 1.0) -> None:
    """Refuses what is no variance.

    Raises:
        InputError: weight_var or q0 is not positive, bias_var is negative, or one is not finite.
    """
    for name, value, least in (("weight_var", weight_var, "> 0"), ("q0", q0, "> 0")):
        if not (isfinite(value) and value > 0):
            raise InputError(f"{name} is {value!r}; it must be finite and {least}")
    if not (isfinite(bias_var) and bias_var >= 0):
        raise InputError(f"bias_var is {bias_var!r}; it must be finite and >= 0")


def fixed_points(table: Moments, weight_var: float, bias_var: float) -> tuple[FixedPoint, ...]:
    """All roots of Q(q) = q up to the largest q of the table, 0 among them."""

    def gap(q: float) -> float:
        return weight_var * table.at(q)[0] / q + bias_var / q - 1

    def bend(q: float) -> float:
        square, _, growth = table.at(q)
        return weight_var * (growth - square / q) - bias_var / q

    q, values = table.scan, table.scanned
    gaps = weight_var * values[:, 0] / q + bias_var / q - 1
    bends = weight_var * (values[:, 2] - values[:, 0] / q) - bias_var / q
    # Two roots, or one that only touches, may hide between two points of the scan.
    low, high = (np.minimum(gaps[1:], gaps[:-1]), np.maximum(gaps[1:], gaps[:-1]))
    near = (high < _NEAR) & (low > -_NEAR) & ((low > NOISE) | (high < -NOISE))
    curved = np.maximum(np.abs(bends[1:]), np.abs(bends[:-1])) > NOISE
    turned = np.flatnonzero((np.sign(bends[1:]) != np.sign(bends[:-1])) & near & curved)
    turns = [root(bend, float(q[i]), float(q[i + 1])) for i in turned.tolist()]
    heights = [gap(turn) for turn in turns]
    roots = [one for one, height in zip(turns, heights, strict=True) if abs(height) <= NOISE]
    places, gaps = np.append(q, turns), np.append(gaps, heights)
    order = np.argsort(places, kind="stable")
    order = order[np.abs(gaps[order]) > NOISE]
    places, above = places[order], gaps[order] > 0
    crossed = np.flatnonzero(above[1:] != above[:-1])
    ends = zip(places[crossed].tolist(), places[crossed + 1].tolist(), strict=True)
    roots += [root(gap, *pair) for pair in ends]
    points = [_point(table, weight_var, one) for one in sorted(roots)]
    return (*_zero(table, weight_var, bias_var), *points)


def _zero(table: Moments, weight_var: float, bias_var: float) -> tuple[FixedPoint, ...]:
    """The fixed point at, or closer than the scan to, q = 0."""
    square, _, growth = table.at(SMALLEST_Q)
    start = weight_var * table.start[0] + bias_var
    if start == 0 and weight_var * square < 1e6 * SMALLEST_Q:
        chi = weight_var * table.start[1]
        stable = chi < 1
        if abs(chi - 1) <= CRITICAL:
            gaps = weight_var * table.scanned[:, 0] / table.scan - 1
            far = np.flatnonzero(np.abs(gaps) > 10 * NOISE)
            stable = len(far) == 0 or bool(gaps[far[0]] < 0)
        return (FixedPoint(0.0, chi, stable),)
    if start > 0 and weight_var * square + bias_var < SMALLEST_Q:
        chi = weight_var * growth
        return (FixedPoint(start / (1 - chi), chi, True),)
    return ()


def _point(table: Moments, weight_var: float, q: float) -> FixedPoint:
    chi = weight_var * table.at(q)[2]
    return FixedPoint(q, chi, abs(chi) < 1)


def _led_to(
    table: Moments,
    found: tuple[FixedPoint, ...],
    weight_var: float,
    bias_var: float,
    q0: float,
) -> float | None:
    """The next fixed point in the direction in which a layer moves q0; else the nearest."""
    start = min(max(q0, SMALLEST_Q), table.largest_q)
    rises = weight_var * table.at(start)[0] + bias_var > start
    above = [point.q for point in found if point.q >= start * (1 - _HERE)]
    below = [point.q for point in found if point.q <= start * (1 + _HERE)]
    if rises and above:
        return above[0]
    if below and (not rises or below[-1] > 0):
        return below[-1]
    return None if rises or not above else above[0]


def _at(
    act: Activation,
    weight_var: float,
    at: FixedPoint,
    found: tuple[FixedPoint, ...],
    chi_1: float,
) -> Phase:
    """The phase at a positive fixed point."""
    others = [f"{point.q:.4g}" for point in found if point.q != at.q]
    also = f"; also fixed: q = {', '.join(others)}" if others else ""
    if not at.stable:
        touch = abs(at.chi_q - 1) <= CRITICAL
        how = "held from one side only" if touch else "unstable: lengths leave it"
        why = f"the fixed point q* = {at.q:.4g} is {how} (dQ/dq = {at.chi_q:.4g}){also}"
        return Phase(
            at.q, False, chi_1, at.chi_q, None, None, _scale(at.chi_q), None, None, None, why, found
        )
    kind = classify(chi_1, jumps=bool(act.jumps))
    if kind == "chaotic":
        c_star, chi_c = angle(act, at.q, weight_var)
        why = f"chaotic: gradients grow by {chi_1:.4g} per layer, inputs part to c* = {c_star:.4g}"
        if act.jumps:
            why = f"chaotic: phi jumps, so that inputs part however near, to c* = {c_star:.4g}"
    else:
        c_star, chi_c = 1.0, chi_1
        why = (
            f"ordered: gradients shrink by {chi_1:.4g} per layer, inputs become alike"
            if kind == "ordered"
            else "critical: gradients keep their size"
        )
    xi_c = inf if kind == "critical" else _scale(chi_c)
    return Phase(
        at.q, True, chi_1, at.chi_q, c_star, chi_c, _scale(at.chi_q), xi_c, kind,
        DEPTHS_OF_XI * xi_c, why + also, found,
    )  # fmt: skip


def classify(chi_1: float, *, jumps: bool) -> Literal["ordered", "critical", "chaotic"]:
    """The phase by chi_1; across a jump the slope of the correlation map at 1 is infinite."""
    if jumps:
        return "chaotic"
    if abs(chi_1 - 1) <= CRITICAL:
        return "critical"
    return "ordered" if chi_1 < 1 else "chaotic"


def angle(act: Activation, q: float, weight_var: float) -> tuple[float, float]:
    """(c*, C'(c*)) in the chaotic phase at a fixed point q.

    With q = sigma_w^2 E phi^2 + sigma_b^2 taken off, C(c) = c says that the chord
    (E phi^2 - E[phi phi](c)) / (q (1 - c)) is 1 / sigma_w^2; it rises with c, up to E phi'^2.
    """
    found = series(act, q)
    while True:
        c_star = _by_series(found, weight_var)
        if c_star is not None and not (act.jumps and c_star == 1):
            return c_star, weight_var * found.at(c_star)[1] / q
        near = _near(found, weight_var)
        if found.hopeless(near) or not found.extend():
            return _by_quadrature(act, q, weight_var, float(np.arccos(near)))


def _by_series(found: Series, weight_var: float) -> float | None:
    """c* where it is no larger than what the series is right up to."""
    largest = float(found.largest[0])

    def off(c: float) -> float:
        return float(found.chord([c])[0, 0]) * weight_var - 1

    if off(0.0) >= -1e-14:  # what rounding leaves of 0, as for selu without bias
        return 0.0
    if off(largest) > 0:
        return root(off, 0.0, largest)
    return 1.0 if largest == 1 else None


def _near(found: Series, weight_var: float) -> float:
    """About c*, from what the series has."""
    angles = np.geomspace(np.arccos(float(found.largest[0])), _LEAST_GUESS, _GUESSES)
    heights = 1 / found.chord(np.cos(angles))[0]
    at = int(np.argmax(heights < weight_var))
    if heights[at] >= weight_var:
        return float(np.cos(angles[-1]))
    if at == 0:
        return float(np.cos(angles[0]))
    share = (weight_var - heights[at]) / (heights[at - 1] - heights[at])
    return float(np.cos(angles[at] + share * (angles[at - 1] - angles[at])))


def _by_quadrature(
    act: Activation, q: float, weight_var: float, near: float
) -> tuple[float, float]:
    """(c*, C'(c*)) by Newton's method on 1 / chord, all but linear in the angle, in a bracket."""
    low, high = 0.0, np.pi / 2
    theta = min(max(near, 1e-3), 1.5)
    for _ in range(_MAX_STEPS):
        value, growth = chord(act, q, theta)
        over = 1 - value * weight_var
        low, high = (low, theta) if over > 0 else (theta, high)
        # d chord / d theta = (growth - chord) / tan(theta / 2)
        tilt = (value - growth) * weight_var / float(np.tan(theta / 2))
        step = theta - over * value * weight_var / tilt if tilt > 0 else 0.0
        if abs(step - theta) <= _CLOSE * theta or high - low <= 1e-14 * high:
            break
        theta = step if low < step < high else (low + high) / 2 if low > 0 else high / 4
        if theta <= _LEAST_ANGLE:
            chi_1 = weight_var * moments(act).at(q)[1]
            # Across a jump 1 - C(c) = a sqrt(1 - c) + chi_1 (1 - c): its slope where it is 1 - c.
            return 1.0, (1 + chi_1) / 2 if act.jumps else chi_1
    return float(np.cos(theta)), weight_var * growth


def _scale(chi: float) -> float:
    """-1/ln |chi|: layers per factor e; inf from 1 on."""
    size = abs(chi)
    if size >= 1 - 1e-15:
        return inf
    return -1 / log(size) if size > 0 else 0.0


def _scale_free(act: Activation, weight_var: float, bias_var: float, q0: float) -> Phase:
    """A homogeneous activation: Q(q) = chi q + sigma_b^2, and chi is chi_1 as well."""
    left, right = act.value(np.array([-1.0, 1.0]))
    chi = weight_var * float(left**2 + right**2) / 2
    bent = abs(left + right) > 1e-15 * sqrt(float(left**2 + right**2))
    if abs(chi - 1) <= NOISE and bias_var == 0:
        c_star = 1.0 if bent else None
        angles = "inputs become alike, as 1/depth^2" if bent else "and so is every angle"
        why = f"critical: every q is fixed (scale-invariant), {angles}"
        return Phase(q0, True, chi, chi, c_star, 1.0, inf, inf, "critical", inf, why, ())
    if chi >= 1 - NOISE:
        grows = f"by {chi:.4g} per layer" if chi > 1 + NOISE else f"by {bias_var:.4g} per layer"
        zero = (FixedPoint(0.0, chi, False),) if bias_var == 0 else ()
        return _nothing(f"no fixed point: the mean square grows {grows} without end", zero, chi)
    at = FixedPoint(bias_var / (1 - chi), chi, True)
    return _dying(at, (at,)) if at.q == 0 else _at(act, weight_var, at, (at,), chi)


def _dying(at: FixedPoint, found: tuple[FixedPoint, ...]) -> Phase:
    """The signal goes to 0, where a layer is linear (or homogeneous) and chi_1 is dQ/dq."""
    if not at.stable:
        return _nothing("no fixed point but 0, which is unstable: the length leaves it", found)
    chi = at.chi_q
    if abs(chi - 1) <= CRITICAL:
        why = "critical: the signal shrinks as 1/depth, gradients likewise"
        return Phase(0.0, True, chi, chi, None, None, inf, inf, "critical", inf, why, found)
    why = f"ordered: signal and gradient shrink by {chi:.4g} per layer, to nothing"
    xi = _scale(chi)
    return Phase(0.0, True, chi, chi, None, None, xi, xi, "ordered", DEPTHS_OF_XI * xi, why, found)


def _endless(table: Moments, found: tuple[FixedPoint, ...]) -> str:
    where = f"up to q = {table.largest_q:.3g}"
    if found:
        where += f" but {', '.join(f'{point.q:.4g}' for point in found)}, which it leaves"
    return f"no fixed point {where}: the mean square grows without end"


def _nothing(why: str, found: tuple[FixedPoint, ...], chi_1: float | None = None) -> Phase:
    return Phase(None, None, chi_1, None, None, None, None, None, None, None, why, found)
