"""Means over pairs of entries, and how far apart they are."""

from collections.abc import Container
from functools import lru_cache

import numpy as np

from isograd.prediction.pairs import Array, Line, Sizes, counts, labels, same_shares, shares, ways


def averaged(table: Array, cuts: tuple[Sizes, ...], every: Container[int]) -> float:
    """Mean of a number per kind of pair.

    Args:
        table: one axis per factor.
        cuts: classes of the factors.
        every: factors along which all pairs count; along the others, an index and itself.
    """
    for place in reversed(range(len(cuts))):
        share = shares(cuts[place]) if place in every else same_shares(cuts[place])
        table = np.tensordot(table, share, (place, 0))
    return float(table)


@lru_cache(maxsize=1024)
def distances(sizes: Sizes) -> Array:
    """Positions between the entries of a pair, per way; infinite where they are not told."""
    if isinstance(sizes, Line):
        at = np.arange(sum(sizes))
        apart = np.bincount(labels(sizes).ravel(), np.abs(at[:, None] - at).ravel())
        return np.asarray(apart / counts(sizes))
    return np.where(np.arange(ways(sizes)) < len(sizes), 0.0, np.inf)
