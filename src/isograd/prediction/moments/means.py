"""Means over pairs of entries, and how far apart they are."""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.moments.axes import dotted
from isograd.prediction.moments.pairs import (
    Array,
    Line,
    Sizes,
    counts,
    every_share,
    labels,
    outer,
    same_shares,
    shares,
    ways,
)

if TYPE_CHECKING:
    from isograd.prediction.moments.fields import Field


def averaged(table: Array, cuts: tuple[Sizes, ...], every: Container[int]) -> float:
    """Mean of a number per kind of pair.

    Args:
        table: one axis per factor.
        cuts: classes of the factors.
        every: factors along which all pairs count; along the others, an index and itself.
    """
    return dotted(table, _weights(cuts, tuple(p in every for p in range(len(cuts)))))


@lru_cache(maxsize=4096)
def _weights(cuts: tuple[Sizes, ...], every: tuple[bool, ...]) -> Array:
    return outer([shares(c) if e else same_shares(c) for c, e in zip(cuts, every, strict=True)])


@lru_cache(maxsize=1024)
def distances(sizes: Sizes) -> Array:
    """Positions between the entries of a pair, per way; infinite where they are not told."""
    if isinstance(sizes, Line):
        at = np.arange(sum(sizes))
        apart = np.bincount(labels(sizes).ravel(), np.abs(at[:, None] - at).ravel())
        return np.asarray(apart / counts(sizes))
    return np.where(np.arange(ways(sizes)) < len(sizes), 0.0, np.inf)


def fluctuation(x: Field) -> float:
    """Variance of ln of the mean square of one draw of a field: finitely many entries.

    Mean over pairs of entries of cov(x^2, x'^2) / (E x^2)^2, which for Gaussian entries of
    covariance c and mean m is 2 c^2 + 4 m^2 c; c^2 counts (kurtosis - 1) times otherwise.
    """
    energy = x.energy
    if energy <= 0:
        return 0.0
    if x.nodes is not None and x.origin is not None and x.origin.cuts == x.cuts:
        return x.nodes.value_noise(x.origin)
    shared = x.second / energy
    fourth: float = x.notes.get("kurtosis", 3.0) - 1
    if x.is_centered:
        return max(fourth * dotted(np.square(shared), every_share(x.cuts)), 0.0)
    products = x.products() / energy
    shared = shared - products
    excess = fourth * np.square(shared) + 4 * products * shared
    return max(dotted(excess, every_share(x.cuts)), 0.0)
