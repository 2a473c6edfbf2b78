"""Gates along a residual stream: a gradient knows of the activations that it has passed.

Where relu(u) + v goes through the next relu, the entries with a large relu(u) are those whose
gradient passes, so that both gates are open together more often than if they were independent.
A gradient therefore says how its energy depends on the value of the field that it is of.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from isograd.prediction.functions.gaussian import Nodes
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.pairs import Array

_POINTS = 12


def passed_gate(nodes: Nodes, gradient: Field) -> tuple[Array, Array | None]:
    """(slopes with the gradient's profile, what to divide their products by) of a function.

    Args:
        nodes: of the function that the gradient goes back through.
        gradient: of the function's output; `profile` among its notes is its energy at the nodes,
            over the mean.
    """
    profile = gradient.notes.get("profile")
    if profile is None or profile.shape != nodes.slopes.shape:
        return nodes.slopes, None
    root = np.sqrt(profile)
    return nodes.slopes * root, root


@lru_cache(maxsize=1)
def _nodes() -> tuple[Array, Array]:
    return np.polynomial.hermite_e.hermegauss(_POINTS)


def profile_of(
    gate: tuple[Array, Array], term: Field, other: Field, signs: tuple[float, float] = (1.0, 1.0)
) -> Array | None:
    """Energy of a gradient given the value of one of two terms, over its mean.

    Args:
        gate: (values of the sum, energy there), [classes …, nodes].
        term: a function of a Gaussian; the profile is at its nodes.
        other: the other term, taken as Gaussian.
        signs: of both in the sum.
    """
    nodes = term.nodes
    x, energy = (part.reshape(-1, part.shape[-1]) for part in gate)
    if nodes is None:
        return None
    values = signs[0] * nodes.values.reshape(-1, nodes.values.shape[-1])
    if len(values) != len(x):
        return None
    z, weights = _nodes()
    spread = np.sqrt(max(other.energy - other.average**2, 0.0))
    shifts = signs[1] * other.average + spread * z
    found = np.stack(
        [
            np.interp(row[:, None] + shifts, at, of) @ weights / weights.sum()
            for row, at, of in zip(values, x, energy, strict=True)
        ]
    ).reshape(nodes.values.shape)
    mean = nodes.expectation(found)
    if not (mean > 0).all():
        return None
    return np.asarray(found / mean[..., None])
