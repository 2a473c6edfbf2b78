"""Known targets in a gradient of logits: what two losses, or two sides of one product, share.

The gradient of a cross-entropy is softmax - target. Where logits meet their targets twice, as in a
symmetric loss over pairs (Radford et al. 2021: the cross-entropies of L and of its transpose), or
where both factors of L = z z' are the same, the targets' parts of two gradients are the same
numbers and add up: they count four times, not twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.moments.known import empirical

if TYPE_CHECKING:
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.moments.pairs import Array, Indices

_TARGET = "target"
_LARGEST = 4_000_000
"""Logits that are looked at one by one."""


@dataclass(frozen=True, slots=True)
class Target:
    """The part of a gradient of (rows, classes), or its transpose, that is known."""

    ids: Indices
    """Class of each row."""
    number: int
    factor: float
    turned: bool = False

    def written_out(self) -> Array:
        """All entries, less what an even softmax takes away from them."""
        found = np.full((len(self.ids), self.number), -self.factor / self.number)
        found[range(len(self.ids)), self.ids] += self.factor
        return found.T if self.turned else found


def note(gradient: Field, ids: Indices, factor: float) -> None:
    """The gradient of logits (rows, classes) holds `factor` at the class of each row."""
    square = len(gradient.shape) == 2 and ids.shape == gradient.shape[:1]
    if square and 1 < np.prod(gradient.shape) <= _LARGEST and min(ids) >= 0:
        gradient.notes[_TARGET] = Target(ids, gradient.shape[1], factor)


def times(result: Field, gradient: Field, factor: float) -> Field:
    """Of a gradient times a number."""
    before: Target | None = gradient.notes.get(_TARGET)
    if before is not None:
        result.notes[_TARGET] = replace(before, factor=before.factor * factor)
    return result


def turned(result: Field, gradient: Field) -> Field:
    """Of the transpose."""
    before: Target | None = gradient.notes.get(_TARGET)
    if before is not None and len(result.shape) == 2:
        result.notes[_TARGET] = replace(before, turned=not before.turned)
    return result


def add(result: Field, first: Field, second: Field) -> None:
    """Of a sum of two gradients at one field: what both have of the targets."""
    one, two = (f.notes.get(_TARGET) for f in (first, second))
    if one is None or two is None or any(len(cut) > 1 for cut in result.cuts):
        return
    a, b = one.written_out(), two.written_out()
    if a.shape == b.shape == result.shape and len(result.cuts) == 2:
        shared = empirical(a + b).second - empirical(a).second - empirical(b).second
        result.second = result.second + shared


def symmetry(gradient: Field) -> float:
    """E g_ij g_ji over E g_ij^2, of what the targets make of it."""
    target: Target | None = gradient.notes.get(_TARGET)
    if target is None or gradient.energy <= 0:
        return 0.0
    known = target.written_out()
    if known.shape[0] != known.shape[1]:
        return 0.0
    return min(float((known * known.T).mean()) / gradient.energy, 1.0)
