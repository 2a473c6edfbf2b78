"""Reductions: mean, sum, deviation or norm of many entries of a draw.

Exact to first order in one over the number of entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from isograd.prediction.drawing import draws
from isograd.prediction.drawing.draws import Draw


def _average(x: Draw, n: float) -> Draw:
    link = (x.root, x.scale * x.base.variance / n) if x.scale else None
    return draws.opaque("unknown", mean=x.mean, variance=x.variance / n, mean_of=link)


def _fourth(x: Draw, about: float) -> float:
    """E (x - about)^4; that of a normal variable where the shape is not known."""
    if (nodes := x.nodes()) is not None:
        return float((nodes[1] * (nodes[0] - about) ** 4).sum())
    m, v = x.mean - about, x.variance
    return m**4 + 6 * m**2 * v + 3 * v**2


def _spread(x: Draw, n: float) -> Draw:
    noise = (_fourth(x, x.mean) - x.variance**2) / n
    return draws.opaque("unknown", mean=x.variance, variance=noise)


def _root(x: Draw) -> Draw:
    """Square root of values close to their mean (delta method)."""
    if x.mean <= 0:
        return draws.constant(0.0)
    return draws.opaque("unknown", mean=math.sqrt(x.mean), variance=x.variance / (4 * x.mean))


def _energy(x: Draw, n: float) -> Draw:
    second = x.variance + x.mean**2
    noise = _fourth(x, 0.0) - second**2
    return draws.opaque("unknown", mean=n * second, variance=n * noise)


REDUCTIONS: dict[str, Callable[[Draw, float], Draw]] = {
    "mean": _average,
    "sum": lambda x, n: draws.affine(_average(x, n), n, 0.0),
    "var": _spread,
    "std": lambda x, n: _root(_spread(x, n)),
    "norm": lambda x, n: _root(_energy(x, n)),
}
"""Reduction of n entries, by name."""
