"""Transforms: constants around an activation that let a plain network be deep (DKS and TAT)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from math import acos, exp, expm1, inf, log, pi, sqrt
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from isograd.errors import InputError
from isograd.theory.activations import Activation, activation
from isograd.theory.averages import number, slope_jumps, whole
from isograd.theory.roots import root

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[np.float64]
Residuals = Callable[[Array], Array]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_LIMITS = np.array([0.0, 2.5, 5.0, 9.0])
_BENDS = np.array([1.0, 2.0, 4.0, 8.0])
_ACCURACY = 1e-9
_MAX_NEWTON = 30
_MAX_STARTS = 12
_EASY_TARGET = 0.02
"""Distance from a linear activation up to which the linear limit is a good enough start."""
_MAX_DEPTH = 100_000
_FAMILIES = {
    "dks": [(2.0, 2.0, 0.0)],
    "tat": [(side * sqrt(2), 1.0, (side * sqrt(2) - 1) / 2) for side in (1, -1)],
}
"""Of solutions at a small target: where they sit, their width and offset; see `_starts`."""


@dataclass(frozen=True, slots=True)
class Transform:
    """x -> output_scale (phi(input_scale x + input_shift) + output_shift)."""

    method: str
    depth: int
    input_scale: float
    input_shift: float
    output_shift: float
    output_scale: float
    negative_slope: float | None
    """Of the leaky ReLU that phi is; None for other activations."""
    residuals: dict[str, float]
    """How far each condition is from what it should be, for a standard normal input."""
    act: object = field(repr=False, default=None)
    """What was transformed: a name, a torch module or function."""

    def module(self) -> "nn.Module":
        """The transformed activation, a new `torch.nn.Module`; it can be pickled.

        Raises:
            InputError: the activation was handed in as a function of arrays.
        """
        from isograd.theory.transformed import transformed

        return transformed(self)


def transform(
    act: object,
    method: Literal["dks", "tat"] = "dks",
    *,
    depth: int,
    zeta: float = 1.5,
    eta: float = 0.9,
    tau: float = 0.3,
) -> Transform:
    """Constants that make `depth` layers of an activation trainable without skips and norms.

    Conditions on the transformed f, for x standard normal. Both: E f^2 = 1 and d(E f^2)/dq =
    E[x f f'] = 1 at q = 1. `dks` (Martens et al., Rapid training of deep neural networks without
    skip connections or normalization layers using deep kernel shaping, 2021, section 11): E f = 0,
    E f'^2 = zeta^(1/depth). `tat` (Zhang, Botev and Martens, Deep learning without shortcuts:
    shaping the kernel with tailored rectifiers, 2022, section 4): E f'^2 = 1, E f''^2 = tau/depth;
    for the ReLU family instead a leaky ReLU whose `depth`-fold correlation map takes 0 to eta,
    scaled by sqrt(2/(1 + slope^2)).

    Weights are to be orthogonal of gain 1, biases 0, and the weights of every sum have squares that
    add to 1. Constants are not unique: those whose input shift is nearest to 0 are returned, the
    positive one of a mirrored pair. A large output_scale amplifies what finite width adds.

    Args:
        act: whatever `activation` takes.
        method: 'dks' or 'tat'.
        depth: nonlinear layers on the longest path, at most 100,000.
        zeta: slope of the network's correlation map at 1, above 1; of `dks`.
        eta: what the network makes of correlation 0, between 0 and 1; of `tat` for ReLUs.
        tau: curvature of the network's correlation map at 1, above 0; of `tat` for others.

    Raises:
        InputError: an argument out of its range, an activation that is linear or has kinks, or a
            target that cannot be reached.
    """
    phi = activation(act)
    depth = whole("depth", depth, 1, _MAX_DEPTH)
    number("zeta", zeta, above=1)
    number("tau", tau, above=0)
    if not 0 < eta < 1:
        raise InputError(f"eta is between 0 and 1; got {eta!r}")
    if method not in ("dks", "tat"):
        raise InputError(f"method is 'dks' or 'tat'; got {method!r}")
    if method == "tat" and phi.homogeneous:
        return _leaky(phi, depth, eta)
    if slope_jumps(phi):
        raise InputError(
            f"{method} needs E phi''^2 finite, and the slope of {phi.name} jumps; "
            "use a smooth activation, or method='tat' with a leaky ReLU"
        )
    # DKS holds the distance from linear by its slope, TAT by its curvature.
    target = expm1(log(zeta) / depth) if method == "dks" else tau / depth
    return _smooth(act, phi, method, depth, target)


def _leaky(phi: Activation, depth: int, eta: float) -> Transform:
    left, right = (abs(float(phi.value(np.array([x]))[0])) for x in (-1.0, 1.0))
    if left == right:
        raise InputError(f"{phi.name} is linear, or turns into |x|: no leaky ReLU to shape")

    def after(slope: float) -> float:
        share, c = (1 - slope) ** 2 / (1 + slope**2), 0.0
        for _ in range(depth):
            c += share * (sqrt(max(0.0, 1 - c * c)) - acos(min(1.0, c)) * c) / pi
        return c

    most = after(0.0)
    if most < eta:
        raise InputError(
            f"eta = {eta:g} is out of reach in {depth} layers: a plain ReLU comes to {most:.4f}; "
            "ask for a lower eta, or leave the ReLU as it is"
        )
    slope = root(lambda a: after(a) - eta, 0.0, 1.0)
    return Transform(
        method="tat",
        depth=depth,
        input_scale=1.0,
        input_shift=0.0,
        output_shift=0.0,
        output_scale=sqrt(2 / (1 + slope**2)),
        negative_slope=slope,
        residuals={"eta": after(slope) - eta},
    )


def _smooth(act: object, phi: Activation, method: str, depth: int, target: float) -> Transform:
    conditions = _dks if method == "dks" else _tat
    for start in _starts(phi, method):
        solution = _follow(phi, conditions, start, target)
        if solution is None:
            continue
        a, b = exp(solution[0]), float(solution[1])
        shift, scale, residuals = _finish(phi, method, solution, target)
        if max(map(abs, residuals.values())) < _ACCURACY:
            source = phi.name if isinstance(act, str) else act
            return Transform(method, depth, a, b, shift, scale, None, residuals, source)
    raise InputError(
        f"no constants found by which {phi.name} meets {method}'s conditions at depth {depth}: "
        "its values, slopes and curvatures do not balance; choose another activation"
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """Moments of f = phi(a x + b) less its value at 0, x standard normal."""

    mean: float
    square: float
    variance: float
    growth: float
    """E[x f f']."""
    tilt: float
    """E[x f']."""
    slope: float
    """E f'^2."""
    curvature: float
    """E f''^2."""


def _parts(phi: Activation, a: float, b: float) -> _Parts:
    inner = (np.array([*phi.kinks, *phi.bends, *_BENDS, *-_BENDS]) - b) / a
    edges = np.unique([*_LIMITS, *-_LIMITS, *inner[np.abs(inner) < _LIMITS[-1]]])
    half = np.diff(edges)[:, None] / 2
    x = (edges[1:] + edges[:-1])[:, None] / 2 + half * _NODES
    w = half * _WEIGHTS * np.exp(-x * x / 2) / sqrt(2 * pi)
    f = phi.value(a * x + b) - phi.value(np.array([b]))
    slope = a * phi.slope(a * x + b)
    # The derivative of the polynomial through a panel's nodes.
    second = slope @ _differentiation().T / half
    mean = float((w * f).sum())
    return _Parts(
        mean=mean,
        square=float((w * f * f).sum()),
        variance=float((w * (f - mean) ** 2).sum()),
        growth=float((w * x * f * slope).sum()),
        tilt=float((w * x * slope).sum()),
        slope=float((w * slope**2).sum()),
        curvature=float((w * second**2).sum()),
    )


@lru_cache(maxsize=1)
def _differentiation() -> Array:
    """From values at the nodes of [-1, 1] to derivatives there, [node, node] (barycentric)."""
    gaps = _NODES[:, None] - _NODES
    np.fill_diagonal(gaps, 1)
    weights = 1 / gaps.prod(axis=1)
    matrix = weights / weights[:, None] / gaps
    np.fill_diagonal(matrix, 0)
    np.fill_diagonal(matrix, -matrix.sum(axis=1))
    return np.asarray(matrix)


def _dks(phi: Activation, at: Array, target: float) -> Array:
    """Distance from the conditions at (ln a, b); offset and scale meet the first two exactly."""
    of = _parts(phi, exp(at[0]), at[1])
    growth = of.growth - of.mean * of.tilt
    found = np.array([growth, of.slope]) / of.variance
    return np.asarray((found - np.array([1, 1 + target])) / target)


def _tat(phi: Activation, at: Array, target: float) -> Array:
    """Distance from the conditions at (ln a, b, offset / a^2); the scale meets the third."""
    a = exp(at[0])
    of = _parts(phi, a, at[1])
    offset = a * a * at[2]
    square = of.square + 2 * offset * of.mean + offset**2
    found = np.array([square, of.growth + offset * of.tilt, of.curvature]) / of.slope
    return np.asarray((found - np.array([1, 1, target])) / target)


def _finish(
    phi: Activation, method: str, at: Array, target: float
) -> tuple[float, float, dict[str, float]]:
    """Output shift, output scale, and what is left of the conditions."""
    a = exp(at[0])
    of = _parts(phi, a, at[1])
    offset = -of.mean if method == "dks" else a * a * at[2]
    norm = of.variance if method == "dks" else of.slope
    scale = 1 / sqrt(norm)
    square = of.square + 2 * offset * of.mean + offset**2
    residuals = {
        "second_moment": square / norm - 1,
        "growth": (of.growth + offset * of.tilt) / norm - 1,
    }
    if method == "dks":
        residuals |= {"mean": (of.mean + offset) * scale, "slope": of.slope / norm - 1 - target}
    else:
        residuals |= {"slope": of.slope / norm - 1, "curvature": of.curvature / norm - target}
    return float(offset - phi.value(np.array([at[1]]))[0]), scale, residuals


def _starts(phi: Activation, method: str) -> list[Callable[[float], Array]]:
    """Solutions in the limit of a small target, the one whose shift is nearest to 0 first.

    There f is its third-order expansion at b, with derivatives p1, p2, p3. The conditions leave
    p2^2 + 2 p1 p3 = 0 and a^2 = 2 target (p1/p2)^2 (DKS), or p2^2 = -+sqrt(2) p1 p3 and
    a^2 = target (p1/p2)^2, offset (-1 +- sqrt(2))/2 a^2 p2 (TAT).
    """
    edges = np.array([*np.arange(-8, 8.25, 0.5), *phi.kinks, *phi.bends])
    edges = np.unique(edges[np.abs(edges) <= 8])
    half = np.diff(edges)[:, None] / 2
    b = (edges[1:] + edges[:-1])[:, None] / 2 + half * _NODES
    first = phi.slope(b)
    second = first @ _differentiation().T / half
    third = second @ _differentiation().T / half
    alive = np.abs(first) > 1e-3 * np.abs(first).max()
    if np.abs(second[alive]).max(initial=0) < 1e-9:
        raise InputError(f"{phi.name} is linear where it is not flat: there is nothing to shape")
    b, first, second, third = (y.ravel() for y in (b, first, second, third))
    alive = alive.ravel()
    # From one panel to the next too: a solution may sit on their edge. At a kink it is none.
    smooth = np.diff(np.searchsorted(np.sort(phi.kinks), b)) == 0
    found: list[tuple[tuple[float, float], Callable[[float], Array]]] = []
    for factor, spread, offset in _FAMILIES[method]:
        height = second**2 + factor * first * third
        crossing = (height[:-1] * height[1:] < 0) & alive[:-1] & alive[1:] & smooth
        for at in np.flatnonzero(crossing):
            low, high = height[at : at + 2]
            share = low / (low - high)
            place, p1, p2 = (float(y[at] + share * (y[at + 1] - y[at])) for y in (b, first, second))
            if abs(p2) > 1e-6 * abs(p1):
                start = _start(place, abs(p1 / p2) * sqrt(spread), 0.0, offset * p2)
                found.append(((round(abs(place), 2), -place), start))
    found.sort(key=lambda one: one[0])
    return [start for _, start in found[:_MAX_STARTS]] + _bent_starts(phi, method)


def _bent_starts(phi: Activation, method: str) -> list[Callable[[float], Array]]:
    """Guesses around points at which phi'' jumps: there f stays bent as it is made small."""
    starts = []
    for kink in phi.kinks:
        step = 1e-4 * max(1.0, abs(kink))
        far, near, other, beyond = phi.slope(kink + step * np.array([-2.0, -1.0, 1.0, 2.0]))
        p2 = max(abs(near - far), abs(beyond - other)) / step
        if p2 > 1e-6 * abs(near):
            width = abs(near) / p2 or 1.0  # squared ReLU is flat on one side
            starts += [
                _start(kink, factor * width * sqrt(spread), shift, offset * p2)
                for factor in (1.0, 2.0)
                for shift in (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0)
                for _, spread, offset in _FAMILIES[method]
            ]
    return starts


def _start(place: float, spread: float, shift: float, offset: float) -> Callable[[float], Array]:
    """Target -> (ln a, b), and the offset / a^2 of TAT: a = spread sqrt(target)."""

    def start(target: float) -> Array:
        a = spread * sqrt(target)
        return np.array([log(a), place + shift * a, *([offset] if offset else [])])

    return start


def _follow(
    phi: Activation,
    conditions: Callable[[Activation, Array, float], Array],
    start: Callable[[float], Array],
    target: float,
) -> Array | None:
    """The solution at a target, led there from an easy one by doublings."""
    at_target = min(target, _EASY_TARGET)
    at = _newton(lambda z: conditions(phi, z, at_target), start(at_target))
    while at is not None and at_target < target:
        grown = min(target, 2 * at_target)
        guess = at + np.eye(1, len(at))[0] * log(grown / at_target) / 2
        at_target = grown
        at = _newton(lambda z: conditions(phi, z, at_target), guess)  # noqa: B023
    return at


def _newton(f: Residuals, at: Array) -> Array | None:
    """A root of f near `at`; the Jacobian by differences, steps halved until they help."""
    here = f(at)
    best = inf
    for _ in range(_MAX_NEWTON):
        size = float(np.abs(here).max())
        # A step that no longer halves what is left has met rounding.
        if size < 1e-13 or (size < 1e-7 and size > best / 2):
            return at
        best = min(best, size)
        columns = [(f(at + h) - here) / 1e-6 for h in 1e-6 * np.eye(len(at))]
        jacobian = np.stack(columns, axis=1)
        if not np.isfinite(jacobian).all() or abs(np.linalg.det(jacobian)) < 1e-12:
            return None
        step = -np.linalg.solve(jacobian, here)
        step *= min(1.0, 1.0 / float(np.abs(step).max() + 1e-300))
        for _ in range(8):
            ahead = f(at + step)
            if np.isfinite(ahead).all() and np.abs(ahead).max() < max(size, 1e-9):
                break
            step /= 2
        else:
            return None
        at, here = at + step, ahead
    return None
