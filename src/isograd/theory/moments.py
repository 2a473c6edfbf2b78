"""Moments: Gaussian expectations of one activation at every scale, from one set of nodes."""

from functools import cached_property, lru_cache
from math import inf, isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isograd.errors import InputError
from isograd.theory.activations import Activation
from isograd.theory.gaussian import panels
from isograd.theory.resolution import NODES, features

Array = NDArray[np.float64]

REACH = 13.0
"""Standard deviations that a quadrature covers: the density is 1e-37 there."""
SMALLEST_Q, LARGEST_Q = 1e-14, 1e8
"""Mean squares between which fixed points are looked for."""
_SMALLEST_EDGE = -24
_FOLD, _DEGREE = 4.0, 20
# E phi(sqrt(q) z)^2 is analytic in ln q where |Im ln q| < pi/2, whatever kinks phi has: on a
# panel of a factor 4 a polynomial of degree 20 is right to 1e-13.


class Moments:
    """E phi^2, E phi'^2 and d(E phi^2)/dq as functions of q, for phi(sqrt(q) z).

    phi is evaluated once, on panels of x that end at its kinks, resolve its bends, and halve
    towards 0; each q then only weighs the nodes. The density is even: the two values at x and -x
    are added up beforehand, and only x > 0 is weighed.
    """

    def __init__(self, act: Activation) -> None:
        self.act = act
        edges = features(act).edges
        reach = float(min(edges[-1], -edges[0]))
        dyadic = 2.0 ** np.arange(_SMALLEST_EDGE, np.log2(reach))
        sizes = np.abs(edges)
        self._x, self._w = panels(np.union1d(sizes[sizes <= reach], [0.0, *dyadic]), NODES)
        self._rows = _rows(act, self._x) + _rows(act, -self._x)
        self.largest_q = self._largest_q(reach)
        self._count = int(np.ceil(np.log(self.largest_q / SMALLEST_Q) / np.log(_FOLD)))
        self._fold = (self.largest_q / SMALLEST_Q) ** (1 / self._count)
        self._coefficients: Array | None = None

    @cached_property
    def start(self) -> tuple[float, float]:
        """(phi(0)^2, E phi'^2) for q to 0, where half of the arguments lie on either side of 0."""
        near = np.array([-SMALLEST_Q, SMALLEST_Q])
        return float(self.act.value(np.zeros(1))[0]) ** 2, float(
            np.square(self.act.slope(near * 1e-10)).mean()
        )

    def at(self, q: float) -> tuple[float, float, float]:
        """(E phi^2, E phi'^2, dE phi^2/dq) at one q."""
        square, slope, growth, _ = self._at(np.array([max(q, SMALLEST_Q)]))[0].tolist()
        if q < SMALLEST_Q:
            return self.start[0] + growth * q, self.start[1], growth
        return square, slope, growth

    def mean(self, q: float) -> float:
        """E phi."""
        return float(self._at(np.array([q]))[0, 3])

    def _at(self, q: Array) -> Array:
        """The same for a range of q, [q, 4]."""
        high = np.searchsorted(self._x, REACH * np.sqrt(q.max()))
        x, rows = self._x[:high], self._rows[:high]
        weights = np.exp(np.square(x) * (-0.5 / q)[:, None]) * self._w[:high]
        norm = 1 / np.sqrt(2 * np.pi * q)[:, None]
        moments = (weights @ rows) * norm
        if self.act.jumps:
            # Across a jump phi phi' misses a delta; derive the density instead.
            moments[:, 2] = (moments[:, 2] / q - moments[:, 0]) / (2 * q)
        else:
            moments[:, 2] /= q
        return moments

    def _largest_q(self, reach: float) -> float:
        """The largest q at which what lies beyond 13 standard deviations is nothing."""
        q = min(LARGEST_Q, (reach / REACH) ** 2)
        while q > 1e-3:
            high = np.searchsorted(self._x, REACH * np.sqrt(q))
            x, rows = self._x[:high], np.abs(self._rows[:high, :3])
            heights = rows * np.exp(np.square(x) * (-0.5 / q))[:, None]
            ends = heights[-1] * np.sqrt(q)
            if np.all(ends <= 1e-16 * (self._w[:high] @ heights)):
                break
            q /= 1.5
        return q

    def over(self, q: ArrayLike) -> Array:
        """The three moments at many q between `SMALLEST_Q` and `largest_q`, [..., 3]."""
        q = np.asarray(q, dtype=np.float64)
        if self._coefficients is None:
            self._coefficients = self._table()
        place = np.log(q / SMALLEST_Q) / np.log(self._fold)
        panel = np.clip(place.astype(np.intp), 0, len(self._coefficients) - 1)
        t = 2 * (place - panel) - 1
        basis = np.polynomial.chebyshev.chebvander(t, _DEGREE)
        return np.asarray(np.einsum("...k,...km->...m", basis, self._coefficients[panel]))

    def _table(self) -> Array:
        """Chebyshev coefficients in ln q, [panel, degree + 1, 3]."""
        nodes, transform = chebyshev(_DEGREE)
        table = np.empty((self._count, _DEGREE + 1, 3))
        for panel in range(self._count):
            q = SMALLEST_Q * self._fold ** (panel + (nodes + 1) / 2)
            table[panel] = transform @ self._at(q)[:, :3]
        return table

    @cached_property
    def scan(self) -> Array:
        """The q of a dense scan, rising."""
        return np.asarray(np.geomspace(SMALLEST_Q, self.largest_q, 400))

    @cached_property
    def scanned(self) -> Array:
        """The three moments at the scan."""
        return self.over(self.scan)


def _rows(act: Activation, x: Array) -> Array:
    """What is weighed: phi^2, phi'^2, x phi phi' (x^2 phi^2 where phi jumps), phi, [x, 4]."""
    value, slope = act.value(x), act.slope(x)
    growth = np.square(x * value) if act.jumps else value * slope * x
    return np.stack([value**2, slope**2, growth, value], axis=1)


@lru_cache(maxsize=8)
def chebyshev(degree: int) -> tuple[Array, Array]:
    """Chebyshev nodes on [-1, 1] and the matrix from values there to coefficients."""
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    basis = np.polynomial.chebyshev.chebvander(nodes, degree)
    return nodes, np.asarray(np.linalg.inv(basis), dtype=np.float64)


@lru_cache(maxsize=64)
def moments(act: Activation) -> Moments:
    """The moments of an activation, kept for the next question."""
    return Moments(act)


def moments_at(act: Activation, q: float) -> tuple[float, float]:
    """(E phi^2, E phi'^2) at any q >= 0, in closed form where there is one.

    Raises:
        InputError: they are not finite, or q is negative or beyond what is resolved.
    """
    if not 0 <= q < inf:
        raise InputError(f"q is {q!r}; a mean square is finite and not negative")
    if act.closed is not None:
        try:
            square, slope = act.closed(q, q, q)
        except OverflowError:
            square = slope = inf
        if not (isfinite(square) and isfinite(slope)):
            raise InputError(f"activation {act.name}: E phi^2 overflows at q = {q:.4g}")
        return square, slope
    if act.homogeneous:
        left, right = act.value(np.array([-1.0, 1.0])).tolist()
        half = (left**2 + right**2) / 2
        return half * q, half
    table = moments(act)
    if not 0 <= q <= table.largest_q:
        raise InputError(
            f"activation {act.name}: no moments at q = {q:.4g}; "
            f"they are known for 0 <= q <= {table.largest_q:.3g}"
        )
    return table.at(q)[:2]
