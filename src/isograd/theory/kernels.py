"""Kernels: expectations of one activation at two correlated Gaussian arguments."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import count, islice
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isograd.errors import InputError
from isograd.theory.activations import Activation
from isograd.theory.gaussian import expect, panels
from isograd.theory.moments import REACH, moments
from isograd.theory.resolution import NODES, features

Array = NDArray[np.float64]

_ORDERS = (48, 112, 256)
"""Terms of a Hermite series: few where they are enough, as for most smooth activations. Across a
kink they never are."""
_UNIT = 16.0
_EXACT, _ROUNDING = 3e-14, 1e-15
_NARROW = 0.7
"""Panels narrower than this share of a standard deviation are bends to split at."""


class Series:
    """phi(sqrt(q) z) in orthonormal Hermite polynomials of z, for several q at once.

    E[phi(u1) phi(u2)] = sum a_k^2 c^k at equal variances (Mehler). What the series leaves out is
    known from E phi^2 (Parseval), so it is used only where that is nothing.
    """

    def __init__(self, act: Activation, q: Array) -> None:
        self.q = q
        self._kinked = bool(act.kinks)
        # Half of what n terms leave lies beyond 4 n where it falls as n^-1/2, across a jump.
        self._beyond = 4.0 if act.jumps else 1.5
        self.square = np.array([moments(act).at(float(one))[0] for one in q])
        scale = np.sqrt(q)[:, None]
        bends = _bends(act, float(scale.max()), _NARROW * float(scale.max()))
        inner = np.clip(bends / scale, -REACH, REACH)
        # Whole numbers resolve the polynomials: their wavelength is 2 pi / sqrt(k).
        grid = np.broadcast_to(np.arange(-REACH, REACH + 1), (len(q), int(2 * REACH) + 1))
        z, w = panels(np.sort(np.concatenate([grid, inner], axis=1), axis=1), NODES)
        weighted = w * np.exp(-np.square(z) / 2) / np.sqrt(2 * np.pi) * act.value(scale * z)
        self._terms = _hermite(z, weighted)
        self.coefficients = np.empty((len(q), 0))
        self._before: tuple[int, Array] | None = None
        self.extend()

    def extend(self) -> bool:
        """Takes more terms, up to the next of `_ORDERS`; whether there are more."""
        have = self.coefficients.shape[1]
        more = next((order for order in _ORDERS if order > have), have) - have
        if more:
            if have:
                self._before = have, self._share
            new = np.stack(list(islice(self._terms, more)), axis=1)
            self.coefficients = np.concatenate([self.coefficients, new], axis=1)
            found = np.square(self.coefficients).sum(axis=1)
            rest = self.square - found
            self.rest = np.where(rest > _ROUNDING * self.square, rest, 0.0)
        return more > 0

    def reach(self, c: float) -> bool:
        """Takes terms until all q are right up to c; whether they are."""
        while not (enough := bool(np.all(c <= self.largest))) and self.extend():
            pass
        return enough

    @property
    def largest(self) -> Array:
        """The correlation up to which the series is right to rounding, [q]."""
        return self._right_up_to(self.coefficients.shape[1], self._share)

    @property
    def _share(self) -> Array:
        share = self.rest / np.where(self.square > 0, self.square, 1.0)
        return np.asarray(np.maximum(share, 1e-300))

    def _right_up_to(self, order: int, share: Array) -> Array:
        share = np.maximum(share, 1e-300)
        return np.where(share <= 4e-15, 1.0, np.minimum(1.0, (_EXACT / share) ** (1 / order)))

    def hopeless(self, c: float) -> bool:
        """Whether more terms are not worth their time: none will make it right up to c.

        What is left falls no faster than from the last order to this one. Across a kink the squares
        fall as a power of the order: k^-2.5 where phi' jumps, k^-3.5 where phi'' does, so that what
        they leave falls no faster than k^-3.
        """
        order, share, last = self.coefficients.shape[1], self._share, _ORDERS[-1]
        least = share * (order / last) ** 3 if self._kinked else np.zeros_like(share)
        if self._before is not None:
            earlier, larger = self._before
            falls = (share / larger) ** ((last - order) / (order - earlier))
            least = np.maximum(least, share * falls)
        return bool(np.any(c > self._right_up_to(last, least)))

    def chord(self, c: ArrayLike) -> Array:
        """(E phi^2 - E[phi phi](c)) / (q (1 - c)), [q, c]; E phi'^2 at c = 1."""
        c = np.asarray(c, dtype=np.float64)
        order = self.coefficients.shape[1]
        # What is left out counts as one term of about its order: for a guess, beyond `largest`.
        k = np.append(np.arange(order), self._beyond * order)[:, None]
        gap = np.maximum(1 - c, 1e-300)
        fall = np.where(c < 1, -np.expm1(k * np.log(np.maximum(c, 1e-300))) / gap, k)
        missing = self.rest[:, None] * fall[-1] * (c < 1)
        return np.asarray((np.square(self.coefficients) @ fall[:-1] + missing) / self.q[:, None])

    def at(self, c: float) -> tuple[float, float]:
        """(E[phi phi], its derivative by c) for the first q."""
        squares = np.square(self.coefficients[0])
        k = np.arange(len(squares))
        powers = np.power(float(c), k)
        return float(squares @ powers), float((squares[1:] * k[1:]) @ powers[:-1])


def _hermite(z: Array, weighted: Array) -> Iterator[Array]:
    """Sums of weights times He_k(z) / sqrt(k!) for k = 0, 1, …, each [q]."""
    # He_k / 16^k: its recurrence has factors that are exact, and 16^256 / sqrt(256!) is a number.
    step, norm = z / _UNIT, 1.0
    before, now = np.zeros_like(z), np.ones_like(z)
    for k in count():
        yield np.einsum("qn,qn->q", weighted, now) * norm
        after = step * now
        before *= k / _UNIT**2
        after -= before
        before, now = now, after
        norm *= _UNIT / sqrt(k + 1)


@lru_cache(maxsize=256)
def series(act: Activation, q: float) -> Series:
    """The series of one q, kept."""
    return Series(act, np.array([q]))


@lru_cache(maxsize=512)
def _bends(act: Activation, reach: float, width: float) -> Array:
    """Kinks, and edges of curved panels narrower than a width, as far as a quadrature sees."""
    edges = features(act).edges
    slopes = act.slope(edges[:-1, None] + np.diff(edges)[:, None] * np.array([0.2, 0.5, 0.9]))
    narrow = (np.diff(edges) < width) & (np.ptp(slopes, axis=1) != 0)
    kept = edges[np.append(narrow, False) | np.append(False, narrow)]
    # Interpolation on 16 nodes made these panels; integration does with half as many.
    kept = np.union1d(kept[::2], np.array(act.kinks))
    return np.asarray(kept[np.abs(kept) <= REACH * reach])


_BASE = np.array([0.0, 2.2, 4.6, 8.0, 13.0])
_BOTH = np.concatenate([-_BASE[:0:-1], _BASE])
_POINTS = 12
_LEAST_SINE = 1e-9
_MAX_KINKS = 40
_MAX_LINES = 500_000
"""Of kinks in the plane, times points across them: 12 million points in all."""


def _plane(act: Activation, q1: float, q2: float, c: float) -> tuple[Array, Array, Array]:
    """Points and weights for E f(u1, u2), split along all lines where phi kinks or bends.

    In the rotated coordinates u = sqrt(q) (cos(t/2) a +- sin(t/2) b), cos t = c, the two arguments
    are close together where b is small, so nothing is lost near c = 1. For c < 0 the second
    argument is mirrored. At equal variances and c >= 0 only b > 0 is kept: f must be symmetric.
    """
    sign = -1.0 if c < 0 else 1.0
    half = np.arccos(min(1.0, abs(c))) / 2
    long, short = float(np.cos(half)), float(np.sin(half))
    roots = np.sqrt([q1, q2])
    first, second = (_bends(act, root, _NARROW * root) / root for root in roots.tolist())
    second = sign * second
    kinks = np.array(act.kinks if len(act.kinks) <= _MAX_KINKS else ())
    crossing = (sign * kinks / roots[1] - (kinks / roots[0])[:, None]).ravel()
    symmetric = q1 == q2 and sign > 0
    gaps = np.concatenate([np.diff(first), np.abs(np.diff(second))])
    b, wb = panels(_outer(gaps, crossing, short, symmetric=symmetric), _POINTS)
    _check_lines(act, len(first), len(b), float(roots.max()))
    inner = np.concatenate(
        [
            np.broadcast_to(_BOTH, (len(b), len(_BOTH))),
            np.clip((first - short * b[:, None]) / long, -REACH, REACH),
            np.clip((second + short * b[:, None]) / long, -REACH, REACH),
        ],
        axis=1,
    )
    a, wa = panels(np.sort(inner, axis=1), _POINTS)
    weights = wa * np.exp(-np.square(a) / 2) * (wb * np.exp(-np.square(b) / 2))[:, None]
    kept = weights > 1e-24
    weights = weights[kept] * ((2 if symmetric else 1) / (2 * np.pi))
    near, far = long * a[kept], np.broadcast_to(short * b[:, None], kept.shape)[kept]
    return roots[0] * (near + far), sign * roots[1] * (near - far), weights


def _check_lines(act: Activation, bends: int, across: int, root: float) -> None:
    if bends * across > _MAX_LINES:
        raise InputError(
            f"activation {act.name}: bends {bends} times within {REACH * root:.3g}; "
            "two correlated inputs cannot be integrated over that"
        )


def _outer(gaps: Array, crossing: Array, short: float, *, symmetric: bool) -> Array:
    """Edges in b: where lines of kinks cross, and halving towards 0 where phi is narrow."""
    gap = float(gaps[gaps > 0].min(initial=np.inf))
    spread = 2 * short
    steps = int(np.log2(spread * _BASE[1] / gap)) + 1 if gap < spread * _BASE[1] else 0
    halving = gap / spread * 2.0 ** np.arange(steps) if steps else np.empty(0)
    edges = -crossing[np.abs(crossing) < spread * REACH] / max(spread, 1e-300)
    every = np.concatenate([edges, -halving, halving, _BOTH])
    return np.unique(every[every >= 0] if symmetric else every)


def product(act: Activation, q1: float, q2: float, c: float) -> tuple[float, float]:
    """(E[phi(u1) phi(u2)], E[phi'(u1) phi'(u2)]) for variances q1, q2 and correlation c."""
    if act.closed is not None:
        return act.closed(q1, q2, c * float(np.sqrt(q1 * q2)))
    if q1 == q2 and not act.jumps:
        found = series(act, q1)
        if found.reach(abs(c)):
            value, slope = found.at(c)
            return value, slope / q1
    u1, u2, w = _plane(act, q1, q2, c)
    return (
        float(w @ (act.value(u1) * act.value(u2))),
        float(w @ (act.slope(u1) * act.slope(u2))),
    )


def derivative(act: Activation, q1: float, q2: float, angle: float) -> float:
    """dE[phi(u1) phi(u2)] / dCov(u1, u2) at correlation cos(angle): E[phi' phi'], jumps included.

    Price's theorem (1958) holds for distributions: a jump of height J at k adds J delta(u - k) to
    phi'. Each delta is the density of its argument times the mean of the other phi', given it.
    """
    c, sine = float(np.cos(angle)), max(float(np.sin(angle)), _LEAST_SINE)
    smooth = product(act, q1, q2, c)[1]
    if not act.jumps:
        return smooth
    places = np.array(act.jumps)
    step = 1e-13 * np.maximum(1.0, np.abs(places))
    heights = act.value(places + step) - act.value(places - step)
    one, two = float(np.sqrt(q1)), float(np.sqrt(q2))
    total = smooth
    for this, other in ((one, two), (two, one)):
        given, rest = c * other / this * places, other * sine
        slopes = np.array([_mean_slope(act, mean, rest) for mean in given.tolist()])
        met = _density(places - given[:, None], rest) @ heights
        total += float((heights * _density(places, this)) @ (slopes + met / 2))
    return total


def _mean_slope(act: Activation, mean: float, deviation: float) -> float:
    def slope(z: Array) -> Array:
        return act.slope(mean + z)

    return expect(slope, kinks=np.array([*act.kinks, *act.bends]) - mean, scale=deviation)


def _density(x: Array, deviation: float) -> Array:
    return np.asarray(np.exp(-np.square(x / deviation) / 2) / (deviation * np.sqrt(2 * np.pi)))


def chord(act: Activation, q: float, angle: float) -> tuple[float, float]:
    """((E phi^2 - E[phi phi]) / (q (1 - c)), dE[phi phi] / dCov) at c = cos(angle) < 1.

    With G = E(phi(m + d) - phi(m - d))^2, a function of Var m and Var d (`chords`), the second is
    (dG/dVar d - dG/dVar m) / 4, where both are taken of the densities: jumps do no harm.
    """
    cosine, sine = float(np.cos(angle / 2)), float(np.sin(angle / 2))
    apart = _Apart(act, q * cosine**2, np.array([sine / cosine]))
    weighted = apart.weights[0] * apart.given
    # In units of Var m both; E[(x^2 / Var - 1) / (2 Var) f] is the derivative by the variance.
    by_d = weighted @ (np.square(apart.d * cosine / sine) - 1) * np.square(cosine / sine) / 2
    by_m = apart.weights[0] @ apart.heat / 2
    length = q * cosine**2
    return float(weighted.sum()) / (4 * q * sine**2), float(by_d - by_m) / (4 * length)


def chords(act: Activation, length: float, angles: Array) -> Array:
    """The chord at many angles t = arccos c, without cancellation, for one length of the mean.

    m = (u1 + u2)/2 and d = (u1 - u2)/2 are independent, of variances q cos^2(t/2) and q sin^2(t/2).
    At a fixed Var m, E[(phi(m+d) - phi(m-d))^2 | d] is one function of d for all angles: it is
    computed once, on panels of d that halve towards 0, and every angle only weighs it.

    Args:
        act: the activation.
        length: Var m; q = length / cos^2(t/2) is another one at every angle.
        angles: [t], above 0 and below pi.
    """
    spread = np.tan(angles / 2)
    apart = _Apart(act, length, spread)
    # q (1 - c) = 2 Var d
    return np.asarray(apart.weights @ apart.given / (4 * length * np.square(spread)))


class _Apart:
    """E[(phi(m + d) - phi(m - d))^2 | d] at nodes of d > 0, in units of sqrt(Var m).

    Attributes:
        d: the nodes, [d].
        weights: of the nodes at every spread sqrt(Var d / Var m), [spread, d].
        given: the mean over m, [d].
    """

    def __init__(self, act: Activation, length: float, spreads: Array) -> None:
        root = float(np.sqrt(length))
        least, most = float(spreads.min()), float(spreads.max())
        reach = float(np.hypot(1, most))
        bends = _bends(act, root * reach, _NARROW * root) / root
        d, wd = panels(_halving(np.array(act.kinks) / root, bends, least, most), _POINTS)
        _check_lines(act, len(bends), len(d), root)
        inner = [np.clip(bends + shift, -REACH, REACH) for shift in (d[:, None], -d[:, None])]
        both = np.broadcast_to(_BOTH, (len(d), len(_BOTH)))
        m, wm = panels(np.sort(np.concatenate([both, *inner], axis=1), axis=1), _POINTS)
        # What lies outside weighs nothing, but may overflow.
        u1, u2 = (
            np.clip(m + shift, -REACH * reach, REACH * reach) for shift in (d[:, None], -d[:, None])
        )
        apart = np.square(act.value(root * u1) - act.value(root * u2))
        self._m, self._parts = m, wm * np.exp(-np.square(m) / 2) * apart / np.sqrt(2 * np.pi)
        self.d, self.given = d, self._parts.sum(axis=1)
        spread = spreads[:, None]
        self.weights = wd * np.exp(-np.square(d / spread) / 2) * np.sqrt(2 / np.pi) / spread

    @property
    def heat(self) -> Array:
        """The mean of (m^2 - 1) times the square: twice its derivative by ln Var m, [d]."""
        return np.asarray(np.einsum("dm,dm->d", np.square(self._m) - 1, self._parts))


def _halving(kinks: Array, bends: Array, least: float, most: float) -> Array:
    """Edges in d > 0: from all that matters by halves to the smallest width, and at crossings."""
    gaps = np.diff(bends)
    least = float(gaps[gaps > 0].min(initial=least))
    octaves = np.arange(np.floor(np.log2(least)), np.ceil(np.log2(most * REACH)) + 1)
    edges = np.append(0.0, 2.0**octaves)
    crossing = (kinks - kinks[:, None]).ravel() / 2 if len(kinks) <= _MAX_KINKS else np.empty(0)
    return np.union1d(edges, crossing[(crossing > 0) & (crossing < edges[-1])])
