"""Polynomials in the correlation of two entries, whose coefficients go with the classes of both.

There are many kinds of pairs and few pairs of classes, so that products of coefficients are made
per pair of classes, order by order.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.moments import pairs

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array, Indices, Sizes


def products(first: Array, other: Array) -> Array:
    """(orders, pairs of classes): products of coefficients of each two classes.

    Args:
        first: (classes …, orders) of the first entry.
        other: likewise of the second.
    """
    a, b = (part.reshape(-1, part.shape[-1]).T for part in (first, other))
    return (a[:, :, None] * b[:, None, :]).reshape(len(a), -1)


def evaluated(
    cuts: tuple[Sizes, ...], classes: tuple[int, ...], coefficients: Array, at: Array
) -> Array:
    """Values of the polynomials, per kind of pair.

    Args:
        cuts: of the factors.
        classes: per factor, how many are told apart: all, or one.
        coefficients: (orders, pairs of classes), as `products` makes them.
        at: the argument per kind of pair.
    """
    terms = coefficients.take(_both(cuts, classes), axis=1)
    result = np.empty(at.shape)
    result[...] = terms[-1]
    for term in terms[-2::-1]:
        result *= at
        result += term
    return result


@lru_cache(maxsize=1024)
def _both(cuts: tuple[Sizes, ...], classes: tuple[int, ...]) -> Indices:
    """Flat index of the classes of both entries, per kind of pair."""
    alone = np.zeros(1, dtype=np.intp)
    ends = [
        pairs.ends(cut) if number > 1 else (alone, alone)
        for cut, number in zip(cuts, classes, strict=True)
    ]
    place = np.arange(prod(classes)).reshape(classes)
    first, other = (place[np.ix_(*(end[side] for end in ends))] for side in (0, 1))
    return np.asarray(first * prod(classes) + other)
