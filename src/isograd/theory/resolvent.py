"""Resolvent: free products of weights and slopes, followed along the real eigenvalues."""

from math import exp, inf, log, pi

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NEAREST = 60.0
"""-ln(1 - x d_max), as near as the resolvent variable x is brought to its pole."""
_MAX_NEWTON = 20
_LEAST_DENSITY = 1e-4
"""Of ln lambda; where it has fallen to this, the rest is left out."""
_MAX_STEP = 0.5
"""Of ln lambda between two points of the density: the small s^2 of GELU have a long tail."""


class Curve:
    """ln lambda as a function of the resolvent variable x of D^2, at E s^2 = 1.

    With M(x) = E[x d / (1 - x d)] over d = phi'^2 / E phi'^2, S_{D^2}(M) = (1 + M) x / M and
    lambda = (1 + M)/M [M / x]^L (Gaussian), (1 + M)/M [M / (x (1 + M))]^L (orthogonal). The
    coordinate is v = ln(1 - x d_max), which stays exact where x nears the pole at 1/d_max.
    """

    def __init__(self, squares: Array, shares: Array, depth: int, gaussian: bool) -> None:
        alive = squares > 0
        self._p, self._dead = shares[alive], float(shares[~alive].sum())
        self._top = float(squares.max())
        self._ratio = squares[alive] / self._top
        self._gap = 1 - self._ratio
        self._depth, self._gaussian = depth, gaussian

    @property
    def edge_mass(self) -> float:
        """Share of s^2 at the edge: the spaces on which every layer is at its largest meet."""
        tops = float(self._p[self._gap < 1e-12].sum())
        return 0.0 if self._gaussian else max(0.0, 1 - self._depth * (1 - tops))

    def edge(self) -> tuple[float, float]:
        """(v, ln lambda) at the largest s^2: the least of ln lambda over 0 < x < 1/d_max."""
        from scipy.optimize import minimize_scalar

        best = minimize_scalar(
            lambda t: self._at(complex(-exp(t)))[0].real,
            bounds=(log(1e-12), log(_NEAREST)),
            method="bounded",
            options={"xatol": 1e-9},
        )
        end = self._at(complex(-_NEAREST))[0].real
        return (-exp(best.x), float(best.fun)) if best.fun < end else (-_NEAREST, end)

    def follow(self, steps: int) -> tuple[Array, Array] | None:
        """(ln lambda, -Im M / pi) from the edge down, or None where the curve is lost."""
        turn = pi / (steps + 1)
        start, target = self.edge()
        _, _, m, dm = self._at(complex(start))
        v = start + 1j * turn * abs(m / dm)
        found: list[tuple[float, float]] = []
        with np.errstate(all="ignore"):
            for _ in range(2 * steps):
                target = min(target, self._at(v)[0].real) if not found else target
                for _ in range(_MAX_NEWTON):
                    height, slope, m, dm = self._at(v)
                    if not (np.isfinite(height) and slope) or abs(height - target) < 1e-11:
                        break
                    v -= (height - target) / slope
                if not abs(height - target) < 1e-7 or m.imag >= 0:
                    break
                found.append((target, -m.imag / pi))
                if found[-1][1] < _LEAST_DENSITY and m.real < -0.5 * abs(m):
                    break
                rate = abs((dm / m / slope).imag)
                if not 0 < rate < inf:
                    break
                step = min(turn / rate, _MAX_STEP)
                v -= step / slope
                target -= step
        if len(found) < 0.6 * steps:
            return None
        at, values = np.array(found).T
        return at, values

    def _at(self, v: complex) -> tuple[complex, complex, complex, complex]:
        """(ln lambda, its derivative by v, M, dM/dv)."""
        s = np.exp(v)
        rest = self._gap + self._ratio * s
        share = self._p / rest
        # 1 + M apart from M: one is small where the other is not.
        m, n = complex(share @ (1 - rest)), complex(share.sum()) + self._dead
        dm = -complex((share / rest) @ self._ratio) * s
        w = np.log(-np.expm1(v)) - log(self._top)
        dw = -s / (1 - s)
        height = np.log(n) - np.log(m) + self._depth * (np.log(m) - w)
        slope = dm / n - dm / m + self._depth * (dm / m - dw)
        if not self._gaussian:
            height -= self._depth * np.log(n)
            slope -= self._depth * dm / n
        return complex(height), complex(slope), m, dm
