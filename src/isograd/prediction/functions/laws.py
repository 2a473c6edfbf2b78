"""Laws of the largest of several correlated Gaussians, alike or not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
import torch

from isograd.prediction.moments.pairs import Array, Indices

_ONE = 1e-4
"""Share of the variance by which entries of a window differ, below which they are one entry."""
_REACH = 8.0
_FINEST = 1024
_STEP = 0.7
"""Of sums over a common part, in standard deviations of the rest: exact to exp(-2 (pi / 0.7)^2)."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """Entries of a window that differ, in units of the nodes of its law."""

    number: Array
    """How many there are of each kind."""
    level: Array
    """Their means."""
    size: Array
    """Their standard deviations."""
    where: tuple[Indices, ...] = ()
    """Their classes."""

    @property
    def share(self) -> Array:
        """Of all entries."""
        return np.asarray(self.number / self.number.sum())


@lru_cache(maxsize=256)
def _common(apart: float) -> tuple[Array, Array]:
    """Nodes and weights of a standard normal, close enough for steps of width sqrt(apart)."""
    number = min(_FINEST, ceil(2 * _REACH / (_STEP * apart**0.5)) + 1)
    z = np.linspace(-_REACH, _REACH, max(number, 65))
    weights = np.exp(-np.square(z) / 2)
    return z, weights / weights.sum()


def law(x: Array, number: int, rho: float) -> tuple[Array, Array]:
    """(distribution function, density) of the largest of standard Gaussians of one correlation.

    x_i = sqrt(rho) z + sqrt(1 - rho) e_i, averaged over z; for one z the e_i are independent.
    """
    if number == 1 or 1 - rho < _ONE:
        return normal(x), np.exp(-np.square(x) / 2) / np.sqrt(2 * np.pi)
    apart = np.sqrt(1 - rho)
    z, weights = _common(round(1 - rho, 3) or _ONE) if rho > 0 else (np.zeros(1), np.ones(1))
    t = (x[:, None] - np.sqrt(rho) * z) / apart
    log = torch.special.log_ndtr(torch.from_numpy(t)).numpy()
    bell = np.exp((number - 1) * log - np.square(t) / 2) * (number / apart / np.sqrt(2 * np.pi))
    return np.exp(number * log) @ weights, bell @ weights


def mixed_law(x: Array, kinds: Kinds, between: float) -> tuple[Array, Array]:
    """(distribution function, density of each kind) of the largest of unlike Gaussians.

    As `law`, x_i = level + size (sqrt(rho) z + sqrt(1 - rho) e_i).

    Args:
        x: where.
        kinds: of the entries.
        between: mean covariance of two different entries.
    """
    n, size = kinds.number, kinds.size
    products = ((n @ size) ** 2 - n @ np.square(size)) / (n.sum() * (n.sum() - 1))
    rho = min(max(between / products, 0.0), 1 - _ONE)
    rounded = (tuple(np.round(part, 3)) for part in (n, kinds.level, size))
    return _mixed_law(x.tobytes(), *rounded, round(1 - rho, 3) or _ONE)


@lru_cache(maxsize=256)
def _mixed_law(
    points: bytes, number: tuple[float, ...], levels: tuple[float, ...],
    sizes_of: tuple[float, ...], rest: float,
) -> tuple[Array, Array]:  # fmt: skip
    """`mixed_law`; classes of channels often have windows that differ by a factor only."""
    x, n = np.frombuffer(points), np.array(number)
    level, size = (np.array(part)[:, None, None] for part in (levels, sizes_of))
    apart = np.sqrt(rest)
    z, weights = _common(rest) if rest < 1 else (np.zeros(1), np.ones(1))
    t = ((x[:, None] - level) / size - np.sqrt(1 - rest) * z) / apart
    log = torch.special.log_ndtr(torch.from_numpy(t)).numpy()
    below = np.tensordot(n, log, 1)
    bell = np.exp(below - log - np.square(t) / 2)
    each = bell @ weights * (n / (size[:, 0, 0] * apart * np.sqrt(2 * np.pi)))[:, None]
    return np.exp(below) @ weights, each


@lru_cache(maxsize=1024)
def _moments(number: int) -> tuple[float, float]:
    x = np.linspace(-9.0, 9.0, 2001)
    _, density = law(x, number, 0.0)
    weights = density / density.sum()
    return float(weights @ x), float(weights @ np.square(x) - (weights @ x) ** 2)


def excess(number: int) -> float:
    """Mean of the largest of independent standard Gaussians."""
    return _moments(number)[0]


def spread(number: int) -> float:
    """Its variance."""
    return _moments(number)[1]


def agreement(alike: Array, number: int) -> Array:
    """How far two windows agree in which of their entries is the largest: 0 by chance, 1 always.

    Exact for two entries, and to first order in the correlation for any number: the entry's excess
    over its window, E D, is known. Beyond, the square of the arcsine fits draws of 3 to 49 entries
    to 0.01.

    Args:
        alike: correlation of deviations from the windows' means.
        number: of entries of a window.
    """
    if number == 1:
        return np.ones_like(alike)
    angle = np.arcsin(np.clip(alike, -1.0, 1.0)) * 2 / np.pi
    slope = np.pi / 2 * excess(number) ** 2 * number / (number - 1) ** 2
    return np.asarray(angle * slope + np.square(angle) * (1 - slope))


def normal(x: Array) -> Array:
    """Distribution function of the standard normal."""
    return np.asarray(torch.special.ndtr(torch.from_numpy(x)).numpy())


def quantile(share: Array) -> Array:
    """Its inverse."""
    inside = np.clip(share, 1e-40, 1 - 1e-16)
    return np.asarray(torch.special.ndtri(torch.from_numpy(inside)).numpy())
