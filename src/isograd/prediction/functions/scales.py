"""A tensor over the root of its own mean square, written out: x * rsqrt(mean x^2 + eps).

The factors depend on each other, so that the product is not that of independent ones: it is a
norm, and is treated as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.moments.fields import Field
from isograd.prediction.ops import Outcome

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call

POWER = "power"
"""Note of a field that is a power of its origin: the exponent."""

DEVIATION, SPREAD = "deviation", "spread"
"""Notes of x - mean(x), and of the mean of its squares: x."""


def own_scale(call: Call, name: str, a: Field, b: Field) -> Outcome | None:
    """The outcome of a product or quotient, if it is a tensor over its own scale.

    Args:
        call: under way.
        name: mul or div.
        a: first operand.
        b: second operand.

    Returns:
        None for anything else.
    """
    pairs = [(a, b), (b, a)] if name == "mul" else [(a, b)]
    wanted = -0.5 if name == "mul" else 0.5
    for x, scale in pairs:
        mean = scale.origin
        if scale.nodes is None or mean is None or scale.notes.get(POWER) != wanted:
            continue
        square = mean.averaged
        if square is None or square.notes.get(POWER) != 2 or square.origin is not x:
            continue
        axes = [axis for axis, size in enumerate(mean.shape) if size == 1 and x.shape[axis] > 1]
        if len(mean.shape) == len(x.shape) and axes:
            return _as_norm(call, x, scale, axes, wanted)
    return None


def _as_norm(call: Call, x: Field, scale: Field, axes: list[int], power: float) -> Outcome:
    from isograd.prediction.ops.normalization import normalized

    assert scale.nodes is not None
    quadrature = scale.nodes.quadrature
    at = quadrature.x.reshape(-1, quadrature.x.shape[-1])[0]
    values = scale.nodes.values.reshape(-1, at.shape[-1])[0]
    center = float(quadrature.mean.reshape(-1)[0])
    value = float(np.interp(center, at, values))
    added = value ** (1 / power) - center  # what was added to the mean square
    found = normalized(call, x, axes, max(added, 0.0), centered=False)
    found.formula = "x over its own rms: " + found.formula
    found.inputs = [x, scale]
    return found


def of_own_spread(x: Field, scale: Field) -> float:
    """By how much the energy of a product exceeds that of independent factors.

    That is E[r f(r)^2] / (E r E f(r)^2) where `x` holds deviations from a mean, r is the mean of
    their squares over some axes and `scale` is f(r): not 1 where there are few entries.
    """
    spread = scale.origin
    source = x.notes.get(DEVIATION)
    if source is None or spread is None or scale.nodes is None:
        return 1.0
    if spread.notes.get(SPREAD) is not source:
        return 1.0
    nodes = scale.nodes
    at, square = nodes.quadrature.x, np.square(nodes.values)
    whole = nodes.expectation(np.maximum(at, 0.0)) * nodes.expectation(square)
    joint = nodes.expectation(np.maximum(at, 0.0) * square)
    return float((joint / np.maximum(whole, 1e-300)).mean())
