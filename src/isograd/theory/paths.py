"""Paths: how gradient energy spreads over the path lengths of a residual network."""

from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
from numpy.typing import NDArray

from isograd.errors import InputError
from isograd.theory.averages import number, whole

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Paths:
    """Binomial distribution of the number of branches that gradient energy has passed."""

    depth: int
    share: float
    """p, the part of a block's gradient energy that comes through its branch."""
    weight: Array
    """Part of the energy by path length, [depth + 1]."""
    mean: float
    """Mean path length, depth times p."""
    std: float
    """Its standard deviation."""

    def between(self, shortest: int, longest: int) -> float:
        """Part of the energy on paths of a length within both bounds, these included."""
        return float(self.weight[max(shortest, 0) : max(longest + 1, 0)].sum())


def paths(depth: int, *, branch: float = 1.0, branch_scale: float = 1.0) -> Paths:
    """Path lengths of independent branches: weight Binomial(depth, p) at p = a/(1 + a).

    a = branch_scale^2 branch is the gradient energy that a branch passes back, relative to its
    skip. Where every branch passes what its skip does, p = 1/2 and the energy is spread as the
    number of paths (Veit, Wilber and Belongie, Residual networks behave like ensembles of
    relatively shallow networks, 2016, section 4.1); at branch_scale = 1/sqrt(depth) the lengths
    become Poisson of mean `branch`.

    Args:
        depth: number of blocks, at most a million.
        branch: chi of the branch at scale 1, `weight_var` E phi'^2 for one layer.
        branch_scale: alpha.

    Raises:
        InputError: an argument out of its range.
    """
    from scipy.special import gammaln, xlog1py, xlogy

    depth = whole("depth", depth, 0, 1_000_000)
    scale = number("branch_scale", branch_scale)
    ratio = number("branch", branch) * scale * scale
    if ratio > 1e300:
        raise InputError(f"branch_scale^2 branch is {ratio:g}; it has to be below 1e300")
    share = ratio / (1 + ratio)
    k = np.arange(depth + 1)
    ways = gammaln(depth + 1) - gammaln(k + 1) - gammaln(depth - k + 1)
    weight = np.exp(ways + xlogy(k, share) + xlog1py(depth - k, -share))
    # What gammaln loses at a large depth.
    weight /= weight.sum()
    return Paths(depth, share, weight, depth * share, sqrt(depth * share * (1 - share)))


def poisson(mean: float, longest: int) -> Array:
    """The limit of many weak branches: weight of the path lengths 0 to `longest`, [longest + 1]."""
    k = np.arange(whole("longest", longest, 0, 1_000_000) + 1)
    from scipy.special import gammaln, xlogy

    return np.asarray(np.exp(xlogy(k, number("mean", mean)) - gammaln(k + 1)) * exp(-mean))
