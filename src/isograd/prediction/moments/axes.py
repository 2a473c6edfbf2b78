"""Sums along one axis of an array, by the shortest way: arrays of moments are small and many."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.moments import pairs

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array, Sizes

_ALONE = 8192
"""Largest number of products that BLAS leaves to one thread."""


def along(array: Array, axis: int, matrix: Array) -> Array:
    """A matrix applied along one axis."""
    order, back = _in_front(array.ndim, axis)
    moved = array.transpose(order)
    done: Array = np.dot(matrix, moved.reshape(len(moved), -1))
    return done.reshape(-1, *moved.shape[1:]).transpose(back)


def weighed(array: Array, axis: int, weights: Array, *, keep: bool = False) -> Array:
    """Sum over one axis, its entries with weights; the axis disappears, or keeps length one."""
    moved = array.transpose(_in_front(array.ndim, axis)[0])
    done: Array = np.dot(weights, moved.reshape(len(moved), -1))
    if keep:
        return done.reshape(*array.shape[:axis], 1, *array.shape[axis + 1 :])
    return done.reshape(moved.shape[1:])


def dotted(values: Array, weights: Array) -> float:
    """Sum over all entries, with flat weights.

    BLAS shares out what is larger among threads, which then wait for more without rest: 10 us of
    sums cost 20 ms of each other core.
    """
    flat = values.ravel()
    return float(flat @ weights if flat.size <= _ALONE else np.einsum("i,i", flat, weights))


@lru_cache(maxsize=4096)
def of_entries(sizes: Sizes) -> Array:
    """Share of the entries per class."""
    return np.array(sizes, dtype=np.float64) / sum(sizes)


@lru_cache(maxsize=4096)
def of_others(sizes: Sizes) -> Array:
    """Share of the pairs of different indices per way."""
    found = pairs.counts(sizes) - pairs.same_counts(sizes)
    return np.asarray(found / found.sum())


@lru_cache(maxsize=256)
def _in_front(number: int, axis: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The order of axes that puts one of them in front, and the one that puts it back."""
    rest = [place for place in range(number) if place != axis % number]
    order = (axis % number, *rest)
    return order, tuple(order.index(place) for place in range(number))
