"""Gates along a residual stream: a gradient knows of the activations that it has passed.

Where relu(u) + v goes through the next relu, the entries with a large relu(u) are those whose
gradient passes, so that both gates are open together more often than if they were independent.
A gradient therefore says how its energy depends on the value of the field that it is of.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from isograd.prediction.functions.gaussian import Nodes
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.pairs import Array

_POINTS = 12
_ALONE = 0.05
"""Share of a gradient's energy that places have in common, below which it does not matter."""


PASSING = "passing"
"""Note of a gradient beside its profile: its mean, not its energy, at the nodes, over the mean."""
PROFILES = ("profile", PASSING)


@dataclass(slots=True)
class Gate:
    """Slopes of a function, with what the gradient that goes back through it knows of its value."""

    slopes: Array
    """Times the root of the energy of the gradient there: what one entry's energy goes with."""
    root: Array | None
    """That root; None where the gradient knows nothing."""
    passed: Array
    """Times the mean of the gradient there: what two entries have in common goes with it."""
    mean: Array | None
    """That mean."""
    less: Array | None = None
    """E[m m'] of that mean, per kind of pair, once it has been asked for."""

    def chain(self, nodes: Nodes, origin: Field, factor: Array | float = 1.0) -> Array:
        """E[s s'] per kind of pair of the slopes times something known at the nodes.

        Args:
            nodes: of the function.
            origin: what it is a function of.
            factor: at the nodes.
        """
        if self.root is None or self.mean is None:
            return np.array(nodes.between(self.slopes * factor, origin))
        if self.less is None:
            self.less = np.maximum(nodes.between(self.mean, origin), 1e-300)
        found = nodes.between(self.passed * factor, origin) / self.less
        same = tuple(slice(0, len(cut)) for cut in origin.cuts)
        whole = np.maximum(nodes.expectation(np.square(self.root)), 1e-300)
        found[same] = nodes.expectation(np.square(self.slopes * factor)) / whole
        return np.asarray(found)


def passed_gate(nodes: Nodes, gradient: Field) -> Gate:
    """Slopes of a function that a gradient goes back through, with what that knows of its value.

    Two entries whose gradients are open as often as their gates are: of what they have in common
    each has the mean given its own value. Where only the energy is known, that is its root.

    Args:
        nodes: of the function that the gradient goes back through.
        gradient: of the function's output; `profile` among its notes is its energy at the nodes,
            over the mean.
    """
    profile = gradient.notes.get("profile")
    if profile is None or profile.shape != nodes.slopes.shape:
        return Gate(nodes.slopes, None, nodes.slopes, None)
    root = np.sqrt(profile)
    mean = gradient.notes.get(PASSING, root)
    return Gate(nodes.slopes * root, root, nodes.slopes * mean, mean)


@lru_cache(maxsize=1)
def _nodes() -> tuple[Array, Array]:
    return np.polynomial.hermite_e.hermegauss(_POINTS)


def profile_of(
    gate: tuple[Array, Array], term: Field, other: Field, signs: tuple[float, float] = (1.0, 1.0)
) -> Array | None:
    """Something known of a gradient given the value of one of two terms, over its mean.

    Args:
        gate: (values of the sum, what is known there), [classes …, nodes].
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


def standardized(result: Field, gradient: Field, nodes: Nodes, kept: float) -> None:
    """Profiles through a norm that takes away what goes with the value itself.

    Given the value x, the mean of a gradient that places have in common is A m(x), of which b + a x
    is taken away; what is left has the energy E[g^2 | x] - A^2 (2 m fit - fit^2).

    Args:
        result: the gradient behind the norm.
        gradient: the gradient at its output.
        nodes: the function of a Gaussian that is normalized.
        kept: share of the energy that the norm leaves.
    """
    energy = gradient.notes.get("profile")
    if energy is None or energy.shape != nodes.values.shape:
        return
    mean = gradient.notes.get(PASSING, energy)
    x = nodes.values - nodes.expectation(nodes.values)[..., None]
    x = x / np.sqrt(np.maximum(nodes.expectation(np.square(x)), 1e-300))[..., None]
    fit = nodes.expectation(mean)[..., None] + nodes.expectation(mean * x)[..., None] * x
    size = float(nodes.expectation(np.square(fit)).mean())
    common = min(max(1 - kept, 0.0) / max(size, 1e-300), 1.0)
    left = np.maximum(energy - common * (2 * mean * fit - np.square(fit)), 0.0)
    result.notes["profile"] = left / np.maximum(nodes.expectation(left), 1e-300)[..., None]
    if common < _ALONE:
        result.notes[PASSING] = mean
