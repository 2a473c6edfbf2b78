"""Resolution: panels on which an activation is a polynomial to rounding, and where it is none."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from isograd.errors import InputError
from isograd.theory.activations import Activation
from isograd.theory.gaussian import distinct, panels

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

NODES = 16
"""Gauss-Legendre nodes per panel."""
_OUTERMOST = 17
# 2^17 is 13 standard deviations of q = 1e8.
_TOLERANCE = 1e-12
_MAX_PANELS = 4096
_ENOUGH_PANELS, _FAR, _FAR_PANELS = 2048, 256.0, 512
"""Once kinks are known, up to any reach and beyond |x| = 256, q = 400: what oscillates without end
costs, and is asked for at no larger q."""
_MAX_LEVELS = 60


@dataclass(frozen=True, slots=True)
class Features:
    """Where an activation bends: panel edges, rising, symmetric in reach."""

    edges: Array
    unresolved: Array
    """Centers of panels that no halving resolved: kinks that were not declared."""


@lru_cache(maxsize=64)
def features(act: Activation) -> Features:
    """The panels of an activation; its declared kinks are edges.

    Raises:
        InputError: it oscillates too fast to be resolved within 13 standard deviations.
    """
    return resolve(act.value, act.slope, act.kinks, act.name, most=_ENOUGH_PANELS, far=_FAR_PANELS)


def resolve(
    value: Function,
    slope: Function,
    kinks: tuple[float, ...],
    name: str,
    *,
    most: int = _MAX_PANELS,
    far: int = _MAX_PANELS,
) -> Features:
    """Halves panels until value and slope are polynomials of degree 15 on each, or points."""
    dyadic = 2.0 ** np.arange(0, _OUTERMOST + 1)
    start = distinct(np.array([*-dyadic, *dyadic, *kinks], dtype=np.float64))
    left, right = start[:-1], start[1:]
    done: list[Array] = [start]
    unresolved: list[Array] = []
    ruler = _Ruler((value, slope))
    reach = np.inf
    for _ in range(_MAX_LEVELS):
        rough, good = ruler.rough(left, right)
        nearest = np.minimum(np.abs(left), np.abs(right))
        reach = min(reach, float(nearest[~good].min(initial=np.inf)))
        rough &= good & (nearest < reach)
        middle = (left + right) / 2
        thin = right - left < 1e-13 * np.maximum(1.0, np.abs(middle))
        unresolved.append(middle[rough & thin])
        rough &= ~thin
        done.append(middle[rough])
        reach = _affordable(np.concatenate(done), reach, most, far)
        rough &= np.abs(middle) < reach
        if not rough.any():
            break
        left, right = (
            np.concatenate([left[rough], middle[rough]]),
            np.concatenate([middle[rough], right[rough]]),
        )
    return Features(_within(np.concatenate(done), reach, name), np.concatenate(unresolved))


class _Ruler:
    """Tells on which panels one of several functions is no polynomial to rounding."""

    def __init__(self, functions: tuple[Function, ...]) -> None:
        self._functions = functions
        self._scales = [0.0] * len(functions)
        """What is large for each function near 0: rounding is measured by it, not by a tail."""

    def rough(self, left: Array, right: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which panels are not resolved, and on which all functions are finite."""
        x = panels(np.stack([left, right], axis=-1), NODES)[0]
        with np.errstate(all="ignore"):
            values = [f(x.ravel()).reshape(x.shape) for f in self._functions]
            good = np.all([(np.abs(y) < 1e150).all(axis=1) for y in values], axis=0)
        size = np.maximum(np.abs(left), np.abs(right))
        rough = np.zeros(len(left), dtype=bool)
        for i, y in enumerate(values):
            inner = float(np.abs(y[good & (size <= 1)]).max(initial=0))
            outer = float(np.abs(y[good & (size <= 16)]).max(initial=0))
            self._scales[i] = max(self._scales[i], inner, 1e-3 * outer)
            safe = np.where(good[:, None], y, 0.0)
            tail = np.abs(safe @ _tail()).max(axis=1)
            rough |= tail > _TOLERANCE * np.maximum(np.abs(safe).max(axis=1), self._scales[i])
        return rough, good


def _affordable(edges: Array, reach: float, most: int, far: int) -> float:
    """The reach, halved until panels are few enough: the outer ones only matter at a large q."""
    while reach > 1 and (np.abs(edges) <= reach).sum() > (most if reach <= _FAR else far):
        reach = min(reach, 2.0**_OUTERMOST) / 2
    return reach


def _within(edges: Array, reach: float, name: str) -> Array:
    """Edges up to a reach, as far on either side."""
    edges = distinct(edges)
    if reach < np.inf:
        edges = edges[np.abs(edges) <= reach]
        edges = edges[np.abs(edges) <= min(-edges[0], edges[-1])] if len(edges) > 1 else edges
    if len(edges) < 2 or edges[-1] < 8:
        raise InputError(
            f"activation {name}: changes too fast to be integrated: "
            f"it must be resolved up to |x| = 8 at least, and is up to {reach:.3g}"
        )
    return edges


@lru_cache(maxsize=1)
def _tail() -> Array:
    """From values at the nodes to the last three Legendre coefficients, [node, 3]."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    order = np.arange(NODES - 3, NODES)
    basis = np.polynomial.legendre.legvander(nodes, NODES - 1)[:, order]
    return basis * weights[:, None] * (order + 0.5)
