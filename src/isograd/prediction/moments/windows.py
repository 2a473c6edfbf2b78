"""Windows: which entries of an axis each output of a pooling looks at, and how windows overlap."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

import numpy as np

from isograd.prediction.moments import pairs
from isograd.prediction.moments.pairs import Array, Sizes

Bounds = tuple[tuple[int, int], ...]
Counted = tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class Windows:
    """Windows on one axis."""

    entries: int
    """Length of the axis."""
    bounds: Bounds
    """First entry of each window and the one after its last; they may lie outside."""
    step: int = 1
    """Distance of two entries of a window."""
    divisors: tuple[float, ...] | None = None
    """What the sum of each window is divided by; the number of its entries where None."""

    def members(self) -> Array:
        """(windows, entries): 1 where an entry is in a window."""
        result = np.zeros((len(self.bounds), self.entries))
        for row, (start, stop) in zip(result, self.bounds, strict=True):
            at = np.arange(start, stop, self.step)
            row[at[(at >= 0) & (at < self.entries)]] = 1.0
        return result

    def matrix(self) -> Array:
        """(windows, entries): the mean over each window."""
        found = self.members()
        divisors = found.sum(axis=1) if self.divisors is None else np.array(self.divisors)
        return np.asarray(found / divisors[:, None])


@lru_cache(maxsize=4096)
def sliding(
    entries: int, size: int, stride: int, padding: int, dilation: int, ceil: bool
) -> Windows:
    """Windows of a pooling with a kernel; those over the border are cut off."""
    reach = dilation * (size - 1) + 1
    left = entries + 2 * padding - reach
    number = (left + (stride - 1 if ceil else 0)) // stride + 1
    if ceil and (number - 1) * stride >= entries + padding:  # it would start in the padding
        number -= 1
    starts = [i * stride - padding for i in range(number)]
    return Windows(entries, tuple((start, start + reach) for start in starts), dilation)


@lru_cache(maxsize=4096)
def padded(windows: Windows, padding: int) -> Windows:
    """The same windows, dividing by what of them lies in the entries or the padding."""
    most = windows.entries + padding
    divisors = tuple(float(min(stop, most) - start) for start, stop in windows.bounds)
    return Windows(windows.entries, windows.bounds, windows.step, divisors)


@lru_cache(maxsize=4096)
def adaptive(entries: int, number: int) -> Windows:
    """Windows of an adaptive pooling to `number` outputs."""
    return Windows(
        entries,
        tuple((i * entries // number, -(-(i + 1) * entries // number)) for i in range(number)),
    )


@dataclass(frozen=True, eq=False)
class Overlap:
    """How much pairs of windows have in common: one array axis per axis, ways of its windows."""

    chance: Array
    """Probability that entries of the one and of the other, drawn freely, are the same."""
    winner: Array
    """Probability that both have the same largest entry, if entries are alike."""
    squares: Array
    """Squared correlation of the sums of squared deviations from the windows' means."""


@lru_cache(maxsize=1024)
def overlaps(axes: tuple[Windows, ...], cuts: tuple[Sizes, ...]) -> Overlap:
    """Averages over the pairs of windows of each way.

    Args:
        axes: windows per axis.
        cuts: their classes.
    """
    total = [np.ones(()) for _ in range(4)]
    for one, cut in zip(axes, cuts, strict=True):
        table = _pairs_of(one, cut)
        most = max(map(len, table))
        rows = np.array([[*row, *[(0.0, 1.0, 1.0, 0.0)] * (most - len(row))] for row in table])
        total = [np.multiply.outer(whole, rows[..., i]) for i, whole in enumerate(total)]
    share, k, other, common = total
    mean = np.sqrt(k * other)
    squares = (common * (1 - 2 / mean) + np.square(common / mean)) / np.maximum(mean - 1, 1)
    found = common / (k * other), common / (k + other - common), squares
    alternatives = tuple(range(1, 2 * len(axes), 2))
    return Overlap(*((share * one).sum(alternatives) for one in found))


@lru_cache(maxsize=1024)
def sizes(axes: tuple[Windows, ...], cuts: tuple[Sizes, ...]) -> dict[tuple[int, ...], Counted]:
    """Per classes of windows, one per axis: (share of the windows, number of their entries)."""
    tables = [_pairs_of(one, cut)[: len(cut)] for one, cut in zip(axes, cuts, strict=True)]
    result = {}
    for classes in product(*(range(len(cut)) for cut in cuts)):
        found: dict[int, float] = {}
        for each in product(*(table[c] for table, c in zip(tables, classes, strict=True))):
            size = int(prod(one[1] for one in each))
            found[size] = found.get(size, 0.0) + prod(one[0] for one in each)
        result[classes] = tuple((share, size) for size, share in sorted(found.items()))
    return result


@lru_cache(maxsize=1024)
def _pairs_of(one: Windows, cut: Sizes) -> list[list[tuple[float, ...]]]:
    """Per way (share, size, other size, common entries) of pairs of windows of one axis."""
    members = one.members()
    size, common = members.sum(axis=1), members @ members.T
    k = len(cut)
    every = np.stack([*np.broadcast_arrays(size[:, None], size, common)], axis=-1)
    ways = pairs.labels(cut)
    result: list[list[tuple[float, ...]]] = []
    for way in range(pairs.ways(cut)):
        chosen = every[ways == way]
        if not len(chosen):  # a class of one window: by agreement the window itself
            result.append(result[(way - k) // k])
            continue
        rows, counted = np.unique(chosen, axis=0, return_counts=True)
        result.append([(n / len(chosen), *row) for row, n in zip(rows, counted, strict=True)])
    return result
