"""Expectations under a Gaussian, by quadrature that is right at kinks and at any scale."""

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_EDGES = (0.0, 2.5, 5.0, 9.0, 13.0)
# The density is 1e-37 at 13, which leaves even exp(4z) right to rounding.
_BENDS = (1.0, 2.0, 4.0, 8.0)
# Arguments around which smooth activations bend: at a large scale they do so in a narrow range.


def expect(
    f: Callable[[Array], Array], *, kinks: Iterable[float] = (), scale: float = 1.0
) -> float:
    """E f(scale z) for a standard normal z.

    Composite Gauss-Legendre quadrature with panels that end wherever f is not smooth.
    Gauss-Hermite converges only as 1/sqrt(order) across a kink: 201 points give the slope of ReLU
    9 % wrong.

    Args:
        f: a function of an array of arguments, entry by entry.
        kinks: arguments at which f or a derivative of it jumps; 0 is always one.
        scale: standard deviation of the argument; positive.
    """
    points, weights = rule(tuple(kinks), float(scale))
    return float(weights @ f(points))


@lru_cache(maxsize=256)
def rule(kinks: tuple[float, ...], scale: float) -> tuple[Array, Array]:
    """Arguments and weights of the rule, the density included."""
    inner = np.array([*kinks, *_BENDS, *(-bend for bend in _BENDS)]) / scale
    outer = np.array([*_EDGES, *(-edge for edge in _EDGES)])
    edges = distinct(np.concatenate([outer, inner[np.abs(inner) < _EDGES[-1]]]))
    half, middle = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
    z = (middle + half * _NODES).ravel()
    weights = (half * _WEIGHTS).ravel() * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return scale * z, weights


def distinct(values: Array) -> Array:
    """Sorted, each number once; np.unique would first import numpy.ma, which takes longer."""
    values = np.sort(values)
    return np.asarray(values[np.diff(values, prepend=-np.inf) > 0])


def panels(edges: Array, nodes: int) -> tuple[Array, Array]:
    """Nodes and weights of composite Gauss-Legendre quadrature between rising edges.

    Args:
        edges: [..., edge]; panels of no width weigh nothing.
        nodes: per panel.

    Returns:
        Points and weights, both [..., panel * node], rising.
    """
    z, w = _legendre(nodes)
    half, middle = np.diff(edges) / 2, (edges[..., 1:] + edges[..., :-1]) / 2
    shape = (*edges.shape[:-1], -1)
    x = (middle[..., None] + half[..., None] * z).reshape(shape)
    return x, (half[..., None] * w).reshape(shape)


@lru_cache(maxsize=8)
def _legendre(nodes: int) -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(nodes)
