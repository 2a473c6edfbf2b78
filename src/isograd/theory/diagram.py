"""Phase diagram: where depth leads, over a grid of weight and bias variances."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isograd.theory.activations import Activation, activation
from isograd.theory.fixed_points import (
    CRITICAL,
    DEPTHS_OF_XI,
    NOISE,
    Phase,
    check_variances,
    phase,
)
from isograd.theory.kernels import Series, chord, chords
from isograd.theory.moments import Moments, chebyshev, moments

Array = NDArray[np.float64]
if TYPE_CHECKING:  # numpy.ma takes a fifth of the time that importing this room takes
    Masked = np.ma.MaskedArray[Any, np.dtype[Any]]

_STEPS = 60
_FOLD, _DEGREE = 4.0, 16
"""Panels of q, and the degree in ln q on each."""
_SPLIT = 0.47
"""Angle from which on Hermite series of kinked activations are right: cos 0.47 = 0.89."""
_WIDE_DEGREE, _CLOSE_DEGREE = 32, 20
"""In the angle, above and below it."""
_CLOSER = (0.15, 0.045, 0.0135)
"""Further borders where several kinks see each other from some angle on only."""


@dataclass(frozen=True, slots=True)
class PhaseDiagram:
    """`Phase` over a grid: the arrays are [weight_vars, bias_vars], masked where it has None."""

    activation: str
    weight_vars: Array
    bias_vars: Array
    q_star: "Masked"
    stable: "Masked"
    chi_1: "Masked"
    chi_q: "Masked"
    c_star: "Masked"
    chi_c: "Masked"
    xi_q: "Masked"
    xi_c: "Masked"
    phase: "Masked"
    """"ordered", "critical" or "chaotic"."""
    usable_depth: "Masked"


def phase_diagram(
    act: object, weight_vars: ArrayLike, bias_vars: ArrayLike, *, q0: float = 1.0
) -> PhaseDiagram:
    """The phase at every pair of a weight and a bias variance, right to 1e-10.

    All points are solved at once: E phi^2 and E phi'^2 are functions of q alone, tabled once; the
    chord of the correlation map (`fixed_points.angle`) is one of q and the angle, tabled over the
    chaotic part of the grid.

    Args:
        act: as for `activation`.
        weight_vars: values of sigma_w^2, positive.
        bias_vars: values of sigma_b^2, not negative.
        q0: mean square of the first pre-activations.

    Raises:
        InputError: the activation or a variance cannot be used.
    """
    of = activation(act)
    weights, biases = (np.atleast_1d(np.asarray(v, np.float64)) for v in (weight_vars, bias_vars))
    for weight_var in weights.tolist():
        check_variances(weight_var, float(biases[0]), q0)
    for bias_var in biases.tolist():
        check_variances(float(weights[0]), bias_var, q0)
    pairs = np.stack(np.meshgrid(weights, biases, indexing="ij"), axis=-1).reshape(-1, 2)
    columns = _Columns(len(pairs))
    left = np.ones(len(pairs), dtype=bool)
    if not of.homogeneous and len(pairs) > 1:
        left = ~_solve(of, pairs, q0, columns)
    for place in np.flatnonzero(left).tolist():
        weight_var, bias_var = pairs[place].tolist()
        columns.put(place, phase(of, weight_var=weight_var, bias_var=bias_var, q0=q0))
    shape = (len(weights), len(biases))
    return PhaseDiagram(of.name, weights, biases, **columns.masked(shape))


class _Columns:
    """The fields of `Phase` that are numbers, one array each."""

    names = "q_star chi_1 chi_q c_star chi_c xi_q xi_c usable_depth".split()

    def __init__(self, count: int) -> None:
        self.values = {name: np.zeros(count) for name in self.names}
        self.stable = np.zeros(count, dtype=bool)
        self.phase = np.full(count, "", dtype="<U8")
        self.known = {
            name: np.zeros(count, dtype=bool) for name in (*self.names, "stable", "phase")
        }

    def put(self, place: int, found: Phase) -> None:
        for name in self.names:
            self.set(name, place, getattr(found, name))
        if found.stable is not None:
            self.stable[place], self.known["stable"][place] = found.stable, True
        if found.phase is not None:
            self.phase[place], self.known["phase"][place] = found.phase, True

    def set(self, name: str, where: Any, value: Any) -> None:
        if value is not None:
            self.values[name][where] = value
            self.known[name][where] = True

    def masked(self, shape: tuple[int, int]) -> dict[str, "Masked"]:
        arrays = {**self.values, "stable": self.stable, "phase": self.phase}
        return {
            name: np.ma.MaskedArray(array.reshape(shape), mask=~self.known[name].reshape(shape))
            for name, array in arrays.items()
        }


def _solve(act: Activation, pairs: Array, q0: float, columns: _Columns) -> NDArray[np.bool_]:
    """Fills in the points that are led to a clear, stable, positive fixed point; says which."""
    table = moments(act)
    start = min(max(q0, table.scan[0]), table.largest_q)
    low, high, clear, endless = _brackets(table, pairs, start)
    q = np.ones(len(pairs))
    q[clear] = _newton(table, pairs[clear], low[clear], high[clear])
    square, slope, growth = table.over(q).T
    chi_1, chi_q = pairs[:, 0] * slope, pairs[:, 0] * growth
    clear &= (np.abs(chi_q) < 1 - 1e-6) & (
        np.abs(pairs[:, 0] * square + pairs[:, 1] - q) < 1e-9 * q
    )
    kinds = _kinds(act, chi_1)
    c_star, chi_c = np.ones(len(q)), chi_1.copy()
    chaotic = clear & (kinds == "chaotic")
    if chaotic.any():
        c_star[chaotic], chi_c[chaotic] = _angles(act, q[chaotic], pairs[chaotic, 0])
        if act.jumps:
            chi_c[c_star == 1] = (1 + chi_1[c_star == 1]) / 2  # as in `angle`
    # 1 is no slope of a clear point: what rounds to it is critical.
    xi_c = _depth_scale(np.where(kinds == "critical", 1.0, chi_c))
    found = {
        "q_star": q,
        "chi_1": chi_1,
        "chi_q": chi_q,
        "c_star": c_star,
        "chi_c": chi_c,
        "xi_q": _depth_scale(np.abs(chi_q)),
        "xi_c": xi_c,
        "usable_depth": DEPTHS_OF_XI * xi_c,
    }
    for name, values in found.items():
        columns.set(name, clear, values[clear])
    columns.stable |= clear
    columns.phase[clear] = kinds[clear]
    columns.known["stable"] |= clear
    columns.known["phase"] |= clear
    return clear | endless


def _kinds(act: Activation, chi_1: Array) -> NDArray[np.str_]:
    """`fixed_points.classify` of many."""
    if act.jumps:
        return np.full(len(chi_1), "chaotic")
    kinds = np.where(chi_1 > 1, "chaotic", "ordered")
    return np.where(np.abs(chi_1 - 1) <= CRITICAL, "critical", kinds)


def _depth_scale(chi: Array) -> Array:
    """-1/ln chi; 0 at 0, infinite from 1 on."""
    inside = (chi > 0) & (chi < 1)
    logs = np.log(np.where(inside, chi, 0.5))
    return np.where(inside, -1 / logs, np.where(chi > 0, np.inf, 0.0))


def _brackets(
    table: Moments, pairs: Array, start: float
) -> tuple[Array, Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """The first change of sign of Q(q) - q in the direction in which a layer moves the start.

    Returns:
        Low and high end; whether there is one; whether Q(q) > q everywhere.
    """
    q = np.append(table.scan, start)
    order = np.argsort(q, kind="stable")
    q = q[order]
    place = int(np.flatnonzero(order == len(q) - 1)[0])
    gaps = pairs[:, :1] * (table.over(q)[:, 0] / q) + pairs[:, 1:] / q - 1
    signs = np.where(np.abs(gaps) <= NOISE, 0, np.sign(gaps)).astype(np.int8)
    rises = signs[:, place] > 0
    # The first column above at which the sign is down, or below at which it is up.
    above = (signs[:, place:] < 0).argmax(axis=1) + place
    below = place - (signs[:, place::-1] > 0).argmax(axis=1)
    found = np.where(
        rises, signs[np.arange(len(pairs)), above] < 0, signs[np.arange(len(pairs)), below] > 0
    )
    near, far = np.where(rises, above - 1, below), np.where(rises, above, below + 1)
    inner = np.where(rises, above, below)
    # A fixed point that only touches may hide on the way: such points are left to `phase`.
    clear = found & (inner > 0) & (signs[:, place] != 0) & ~_touches(gaps, place, inner, rises)
    clear &= (signs[np.arange(len(pairs)), np.clip(near, 0, None)] > 0) & (
        signs[np.arange(len(pairs)), np.clip(far, None, len(q) - 1)] < 0
    )
    endless = (signs > 0).all(axis=1) & ~_touches(gaps, place, inner * 0 + len(q), rises)
    return q[np.clip(near, 0, None)], q[np.clip(far, None, len(q) - 1)], clear, endless


def _touches(
    gaps: Array, place: int, inner: NDArray[np.intp], rises: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether |Q(q)/q - 1| has a small minimum between the start and the change of sign."""
    size = np.abs(gaps)
    dips = np.zeros(gaps.shape, dtype=bool)
    dips[:, 1:-1] = (size[:, 1:-1] < 0.02) & (
        size[:, 1:-1] <= np.minimum(size[:, :-2], size[:, 2:])
    )
    column = np.arange(gaps.shape[1])
    low = np.where(rises, place, inner + 2)[:, None]
    high = np.where(rises, inner - 2, place)[:, None]
    return np.asarray((dips & (column >= low) & (column <= high)).any(axis=1))


def _newton(table: Moments, pairs: Array, low: Array, high: Array) -> Array:
    """Roots of Q(q) - q between low, where it is positive, and high; all at once."""
    q = np.sqrt(low * high)
    for _ in range(_STEPS):
        square, _, growth = table.over(q).T
        gap = pairs[:, 0] * square + pairs[:, 1] - q
        low, high = np.where(gap > 0, q, low), np.where(gap > 0, high, q)
        step = q - gap / (pairs[:, 0] * growth - 1)
        step = np.where((step > low) & (step < high), step, (low + high) / 2)
        done = np.abs(step - q) <= 2e-15 * q
        q = step
        if done.all():
            break
    return q


def _angles(act: Activation, q: Array, weight_var: Array) -> tuple[Array, Array]:
    """(c*, C'(c*)) of chaotic points, from the chord tabled in ln q and the angle.

    From wide angles to close ones: a point that ends at the lower border of a table goes on.
    """
    theta, chi_c = np.empty(len(q)), np.empty(len(q))
    # With one kink the chord is analytic from 0 on.
    closer = _CLOSER if len(act.kinks) > 1 else ()
    left = np.arange(len(q))
    for high, low in pairwise((np.pi / 2, _SPLIT, *closer, 0.0)):
        chord = _Chord(act, q[left], (low, high))
        theta[left], chi_c[left] = chord.settle(q[left], weight_var[left])
        left = left[theta[left] <= low + 1e-12]
        if not len(left):
            break
    return np.cos(theta), chi_c


class _Chord:
    """(E phi^2 - E[phi phi]) / (q (1 - c)) over a range of q and of the angle arccos c.

    Chebyshev coefficients, [panel of q, degree in ln q, degree in the angle], where points are.
    Across a jump the chord is infinite at c = 1, and what is tabled is its product with
    sin(angle / 2).
    """

    def __init__(self, act: Activation, q: Array, angles: tuple[float, float]) -> None:
        self._jumps = bool(act.jumps)
        self._angles = angles
        self._low = np.log(q.min()) - 1e-9
        span = np.log(q.max()) + 1e-9 - self._low
        self._count = max(1, int(np.ceil(span / np.log(_FOLD))))
        self._width = span / self._count
        close = angles[1] <= _SPLIT
        self._degree = _DEGREE if span > 0.5 else _DEGREE // 2
        nodes, to_q = chebyshev(self._degree)
        self._panels = np.unique(self._place(q)[0])
        places = self._panels[:, None] + (nodes + 1) / 2
        self._sharp = _CLOSE_DEGREE if close else _WIDE_DEGREE
        at, to_angle = chebyshev(self._sharp)
        theta = angles[0] + (angles[1] - angles[0]) * (at + 1) / 2
        q = np.exp(self._low + self._width * places)
        values = _close_chords(act, q, theta, self._width) if close else _chords(act, q, theta)
        if self._jumps:
            values = values * np.sin(theta / 2)
        self._table = np.einsum("dk,pka,sa->pds", to_q, values, to_angle)

    def _place(self, q: Array) -> tuple[NDArray[np.intp], Array]:
        """The panel of each q, and its place there from -1 to 1."""
        place = (np.log(q) - self._low) / self._width
        panel = np.clip(place.astype(np.intp), 0, self._count - 1)
        return panel, 2 * (place - panel) - 1

    def settle(self, q: Array, weight_var: Array) -> tuple[Array, Array]:
        """The angle at which the chord, falling with it, is 1 / sigma_w^2, and C'(c) there."""
        panel, at = self._place(q)
        basis = np.polynomial.chebyshev.chebvander(at, self._degree)
        rows = np.einsum("nd,nds->ns", basis, self._table[np.searchsorted(self._panels, panel)])
        theta = np.full(len(q), self._angles[0])
        inside = np.flatnonzero(self._at(rows, theta)[0] * weight_var > 1)
        theta[inside] = self._cross(rows[inside], weight_var[inside])
        value, slope = self._at(rows, theta)
        # E[phi phi] = E phi^2 - q (1 - c) chord, and d/dc = -d/dtheta / sin theta.
        tilt = np.tan(theta / 2)
        return theta, weight_var * (value + tilt * slope)

    def _cross(self, rows: Array, weight_var: Array) -> Array:
        """The angles at which sigma_w^2 chord - 1 falls through 0; else the high end."""
        low, high = (np.full(len(rows), end) for end in self._angles)
        theta: Array = (low + high) / 2
        for _ in range(_STEPS):
            value, slope = self._at(rows, theta)
            over = value * weight_var - 1
            low, high = np.where(over > 0, theta, low), np.where(over > 0, high, theta)
            with np.errstate(divide="ignore", invalid="ignore"):
                step = theta - over / (weight_var * slope)
            step = np.where((step > low) & (step < high), step, (low + high) / 2)
            done = np.abs(step - theta) <= 1e-15
            theta = step
            if done.all():
                break
        return theta

    def _at(self, rows: Array, theta: Array) -> tuple[Array, Array]:
        """The chord and its derivative by the angle."""
        low, high = self._angles
        t = np.clip(2 * (theta - low) / (high - low) - 1, -1, 1)
        first = np.polynomial.chebyshev.chebvander(t, self._sharp)
        k = np.arange(1, self._sharp + 1)
        second = _second_kind(t, self._sharp - 1)  # dT_k/dt = k U_{k-1}
        value = (first * rows).sum(axis=1)
        slope = (second * k * rows[:, 1:]).sum(axis=1) * 2 / (high - low)
        if self._jumps:
            half = np.sin(np.maximum(theta, 1e-12) / 2)
            slope = (slope - value * np.cos(theta / 2) / (2 * half)) / half
            value = value / half
        return value, slope


def _second_kind(t: Array, degree: int) -> Array:
    """U_0 … U_degree at t, [t, degree + 1]."""
    rows = [np.ones_like(t), 2 * t]
    for _ in range(degree - 1):
        rows.append(2 * t * rows[-1] - rows[-2])
    return np.stack(rows[: degree + 1], axis=-1)


def _chords(act: Activation, q: Array, theta: Array) -> Array:
    """The chord at every q and angle, by series where that is right, else by quadrature."""
    c, flat = np.cos(theta), q.ravel()
    series = Series(act, flat)
    series.reach(float(c.max()))
    values = series.chord(c)
    for i, j in np.argwhere(c > series.largest[:, None]).tolist():
        values[i, j] = chord(act, float(flat[i]), float(theta[j]))[0]
    return values.reshape(*q.shape, len(theta))


def _close_chords(act: Activation, q: Array, theta: Array, width: float) -> Array:
    """The same at small angles, [panel, q, angle], where the length of the mean is close to q.

    It is tabled by that length first, in panels of a width in its logarithm, which does all angles
    at once, and read off at each q.
    """
    length = np.log(q)[..., None] + 2 * np.log(np.cos(theta / 2))
    low, degree = length.min() - 1e-9, q.shape[1] - 1
    place = (length - low) / width
    panels, panel = np.unique(place.astype(np.intp), return_inverse=True)
    nodes, to_length = chebyshev(degree)
    lengths = np.exp(low + width * (panels[:, None] + (nodes + 1) / 2))
    rows = np.array([chords(act, one, theta) for one in lengths.ravel().tolist()])
    table = np.einsum("dk,pka->pad", to_length, rows.reshape(len(panels), degree + 1, -1))
    panel = panel.reshape(place.shape)
    basis = np.polynomial.chebyshev.chebvander(2 * (place - panels[panel]) - 1, degree)
    return np.asarray(np.einsum("pqad,pqad->pqa", basis, table[panel, np.arange(len(theta))]))
