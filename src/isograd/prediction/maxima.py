"""The largest entry of each window: its law, its moments, and where its gradient goes.

The entries of a window are Gaussians of one variance and one correlation. The largest of them is
X = (mean of the window) + D, where D, the largest deviation from it, is independent of that mean.
Means of two windows have the covariance that averaging gives; D is even to first order, and
correlated as the sums of squared deviations are. A function f of the entries that never falls has
its largest value f(X), and is kept at nodes for X. The gradient goes to the entry that is the
largest: selection and slope of f are taken together, because they depend on each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
import torch

from isograd.prediction import pairs
from isograd.prediction.aligning import aligned
from isograd.prediction.axismaps import carried, cut_of, mapped, transitions
from isograd.prediction.fields import Field, _canonical, along
from isograd.prediction.gaussian import Nodes, Quadrature
from isograd.prediction.pairs import Array, Sizes
from isograd.prediction.windows import Counted, Windows, overlaps, sizes

Axes = tuple[Windows, ...]
_ONE = 1e-4
"""Share of the variance by which entries of a window differ, below which they are one entry."""
_BORDERS = 2
"""Most changes of size along an axis for which windows of each size are a class."""
_REACH = 8.0
_FINEST = 1024
_LENIENT = 1e-9
"""Relative difference of two normal laws for which the nodes of the one do for the other."""


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest entries of windows."""

    field: Field
    """Moments of the largest entries."""
    nodes: Nodes
    """The function of the entries at nodes for the largest of them."""
    alike: Field
    """How deviations from the windows' means correlate, per way of the axes without windows."""


def largest(f: Field, nodes: Nodes, axes: Axes) -> Largest:
    """The largest entries of the windows of a field.

    Args:
        f: Gaussian entries; each axis with windows has at most one factor.
        nodes: of a function of them.
        axes: windows on the last axes.
    """
    first = len(f.groups) - len(axes)
    lead = sum(f.groups[:first])
    cuts = tuple(_classes(one, cut) for one, cut in zip(axes, _cuts(f, axes), strict=True))
    center = mapped(f.like(f.second - f.products()), first, axes, cuts)
    # One array axis per axis with windows, also for those of length one.
    counted = sizes(axes, cuts)
    near = _averaged(f, axes, cuts, f.second - f.products(), first, same=True)
    mean = _averaged(f, axes, cuts, f.mean, first, same=False)
    pooled = _of_same(center, lead).reshape(near.shape)
    inverse = np.empty([len(cut) for cut in cuts])
    for classes, numbers in counted.items():
        inverse[classes] = sum(share / size for share, size in numbers)
    lone = inverse > 1 - 1e-12
    far = np.where(lone, near, (pooled - near * inverse) / np.where(lone, 1.0, 1 - inverse))

    own = tuple(slice(0, len(cut)) for cut in f.cuts[:lead])
    variance, between = np.maximum(near[own], 0.0), far[own]
    rho = np.clip(between / np.where(variance > 0, variance, 1.0), 0.0, 1.0)
    laws = _Laws(f, nodes, axes, cuts, first, mean, np.sqrt(variance))
    at = laws.largest(rho, counted)

    alike = _alike(f, lead, axes, near, far, cuts)
    free = len(center.cuts) - lead
    shape = center.mean.shape
    apart = np.maximum(variance - between, 0.0)
    for classes, numbers in counted.items():
        apart[(..., *classes)] *= sum(share * (spread(k) - 1 / k) for share, k in numbers)
    left, right = center.per_pair(np.sqrt(np.maximum(apart, 0.0)).reshape(shape))
    squares = overlaps(axes, cuts).squares
    squares = squares[tuple(slice(None) if sum(cut) > 1 else 0 for cut in cuts)]
    agreeing = np.square(alike.second)[(..., *([None] * free))]
    second = np.array(center.second + agreeing * squares * left * right)
    whole = at.quadrature.deviation.reshape(shape)
    second[tuple(slice(0, len(cut)) for cut in center.cuts)] = np.square(whole)
    for place, cut in enumerate(center.cuts):
        second = _canonical(second, place, cut)
    result = center.like(second, at.quadrature.mean.reshape(shape))
    result.second = second + result.products()
    return Largest(result, laid(at, shape), alike)


def routed(gradient: Field, found: Largest, axes: Axes, like: Field) -> Field:
    """The gradient's field of the entries: that of each window goes to its largest one.

    Args:
        gradient: of the windows' largest entries.
        found: these.
        axes: windows on the last axes.
        like: the entries.
    """
    first = len(like.groups) - len(axes)
    g, same = aligned(single(gradient, first), found.alike)
    lead = sum(g.groups[:first])
    cuts = _cuts(g, axes)
    overlap = overlaps(axes, cuts)
    number = max(size for one in sizes(axes, cuts).values() for _, size in one)
    alike = same.second.reshape((*same.second.shape[:lead], -1))[..., 0]
    share = agreement(alike, number).reshape((*alike.shape, *([1] * len(axes))))
    # Of a single window there is one way only.
    ways = tuple(slice(None) if sum(cut) > 1 else slice(1) for cut in cuts)
    chance, winner = overlap.chance[ways], overlap.winner[ways]
    equal = chance + share * (winner - chance)
    whole = g.second.reshape((*g.second.shape[:lead], *chance.shape))
    other = np.where(chance < 1, chance, 0.0)
    apart = np.where(chance < 1, whole * (1 - equal) / (1 - other), 0.0)
    meeting = np.where(chance > 0, whole * equal / np.maximum(chance, 1e-300), 0.0)
    into = _cuts(like, axes)
    for axis, (one, out, cut) in enumerate(zip(axes, into, cuts, strict=True)):
        table, _ = transitions(one, out, cut, True)
        table = table[:, : apart.shape[lead + axis]]
        apart = along(apart, lead + axis, table)
        meeting = along(meeting, lead + axis, table)
    entries = (slice(None),) * lead + tuple(slice(0, len(cut)) for cut in into)
    apart[entries] = meeting[entries]
    for axis, cut in enumerate(into):
        apart = _canonical(apart, lead + axis, cut)
    for axis in reversed(range(len(into))):
        if sum(into[axis]) == 1:
            apart = apart.take(0, lead + axis)
    result = g.like(np.asarray(apart))
    result.cuts = (*g.cuts[:lead], *(cut for cut in into if sum(cut) > 1))
    result.groups = (*g.groups[:first], *(int(sum(cut) > 1) for cut in into))
    result.mean = np.zeros(tuple(len(cut) for cut in result.cuts))
    return result


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


def single(f: Field, first: int) -> Field:
    """The axes from `first` on as one factor each."""
    for axis in range(first, len(f.groups)):
        f = f.as_one(axis) if f.groups[axis] > 1 else f
    return f


# -- moments of the entries, per classes of windows ------------------------------------------------


def _cuts(f: Field, axes: Axes) -> tuple[Sizes, ...]:
    """Classes of the axes with windows."""
    first = len(f.groups) - len(axes)
    return tuple(cut_of(f, axis) for axis in range(first, len(f.groups)))


@lru_cache(maxsize=1024)
def _classes(one: Windows, entries: Sizes) -> Sizes:
    """Classes of windows: of their entries, and apart those that are cut off at an end."""
    size = one.members().sum(axis=1)
    edges = np.flatnonzero(np.diff(size)) + 1
    found = carried(one, entries)
    if 0 < len(edges) <= _BORDERS:
        found = pairs.common(found, tuple(np.diff([0, *edges, len(size)]).tolist()))
    return found


def _averaged(
    f: Field, axes: Axes, cuts: tuple[Sizes, ...], values: Array, first: int, *, same: bool
) -> Array:
    """Values of the entries per class (or, if `same`, per way) averaged over classes of windows."""
    place = sum(f.groups[:first])
    for one, into, out in zip(axes, _cuts(f, axes), cuts, strict=True):
        if sum(into) == 1:
            values = np.expand_dims(values, place)
        if same:
            values = values.take(range(len(into)), place)
        values = along(values, place, transitions(one, out, into, False)[1])
        place += 1
    return values


def _of_same(f: Field, lead: int) -> Array:
    entries = (slice(None),) * lead + tuple(slice(0, len(cut)) for cut in f.cuts[lead:])
    return np.asarray(f.second[entries])


def _alike(
    f: Field, lead: int, axes: Axes, near: Array, far: Array, cuts: tuple[Sizes, ...]
) -> Field:
    deviations = near - far
    for cut in reversed(cuts):
        deviations = deviations @ (np.array(cut) / sum(cut))
    made = [len(cut) for cut in f.cuts[:lead]]
    groups = (*f.groups[: len(f.groups) - len(axes)], *([0] * len(axes)))
    result = Field(deviations, f.cuts[:lead], groups, np.zeros(made))
    own = np.sqrt(np.maximum(result.energies, 0.0)).reshape(made)
    left, right = result.per_pair(own)
    scale = left * right
    found = np.where(scale > 0, deviations / np.where(scale > 0, scale, 1.0), 1.0)
    result.second = np.clip(found, -1.0, 1.0)
    return result


# -- the law of the largest -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Laws:
    """A function of Gaussian entries, and what entries the classes of windows have."""

    field: Field
    nodes: Nodes
    axes: Axes
    cuts: tuple[Sizes, ...]
    first: int
    mean: Array
    """Of the entries, per classes: leading factors, then axes with windows."""
    deviation: Array

    def largest(self, rho: Array, counted: dict[tuple[int, ...], Counted]) -> Nodes:
        """The function at nodes that are placed and weighted for the largest entry."""
        steps = [slope for _, slope in self.nodes.steps]
        shape = (*rho.shape, self.nodes.values.shape[-1])
        new = object.__new__(Quadrature)
        new.mean, new.deviation = np.empty(rho.shape), np.empty(rho.shape)
        new.z, new.weights, new.x = np.empty(shape), np.empty(shape), np.empty(shape)
        found = np.empty((2 + len(steps), *shape))
        lead = rho.ndim - len(self.axes)
        for at in np.ndindex(rho.shape):
            z, w, known = self._entries(at, lead, [self.nodes.values, self.nodes.slopes, *steps])
            if (np.diff(known[0]) < 0).any():  # the largest by value: nodes in the order of values
                order = known[0].argsort(kind="stable")
                w, known = w[order], known[:, order]
                z = quantile(np.cumsum(w) - w / 2)
            density, cdf = np.zeros_like(z), np.zeros_like(z)
            for share, number in counted[at[lead:]]:
                one, its = law(z, number, float(rho[at]))
                cdf, density = cdf + share * one, density + share * its
            weights = density * (w / np.exp(-np.square(z) / 2))
            weights /= weights.sum()
            new.x[at] = x = self.mean[at] + self.deviation[at] * z
            new.mean[at] = center = weights @ x
            new.deviation[at] = np.sqrt(weights @ np.square(x - center))
            new.z[at], new.weights[at] = quantile(cdf), weights
            found[(slice(None), *at)] = known
        fields = [where for where, _ in self.nodes.steps]
        return Nodes(new, found[0], found[1], list(zip(fields, found[2:], strict=True)))

    def _entries(
        self, at: tuple[int, ...], lead: int, functions: list[Array]
    ) -> tuple[Array, Array, Array]:
        """(nodes, weights, functions at them) for the entries of one class of windows."""
        place = list(at[:lead])
        into = _cuts(self.field, self.axes)
        for one, cut, out, c in zip(self.axes, into, self.cuts, at[lead:], strict=True):
            if sum(cut) > 1:
                place.append(int(transitions(one, out, cut, False)[1][c].argmax()))
        here = tuple(place)
        old = self.nodes.quadrature
        mean, deviation = float(self.mean[at]), float(self.deviation[at])
        z, w = old.z[here], old.weights[here]
        known = np.stack([function[here] for function in functions])
        scale = _LENIENT * max(float(old.deviation[here]), 1e-300)
        if abs(mean - old.mean[here]) <= scale and abs(deviation - old.deviation[here]) <= scale:
            return z, w, known
        x = old.mean[here] + old.deviation[here] * z
        new = Quadrature.plain(np.array([mean]), np.array([deviation]))
        if new.z.shape[-1] != len(z):
            new = Quadrature(np.array([mean]), np.array([deviation]))
        moved = np.stack([np.interp(new.x[0], x, function) for function in known])
        return new.z[0], new.weights[0], moved


@lru_cache(maxsize=256)
def _common(apart: float) -> tuple[Array, Array]:
    """Nodes and weights of a standard normal, close enough for steps of width sqrt(apart)."""
    number = min(_FINEST, ceil(2 * _REACH / (0.25 * apart**0.5)) + 1)
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


def normal(x: Array) -> Array:
    """Distribution function of the standard normal."""
    return np.asarray(torch.special.ndtr(torch.from_numpy(x)).numpy())


def quantile(share: Array) -> Array:
    """Its inverse."""
    inside = np.clip(share, 1e-40, 1 - 1e-16)
    return np.asarray(torch.special.ndtri(torch.from_numpy(inside)).numpy())


def laid(nodes: Nodes, shape: tuple[int, ...]) -> Nodes:
    """The same nodes with axes of length one added or left out."""
    old, wide = nodes.quadrature, (*shape, nodes.values.shape[-1])
    new = object.__new__(Quadrature)
    new.mean, new.deviation = old.mean.reshape(shape), old.deviation.reshape(shape)
    new.z, new.weights, new.x = (part.reshape(wide) for part in (old.z, old.weights, old.x))
    steps = [(where, slope.reshape(wide)) for where, slope in nodes.steps]
    return Nodes(new, nodes.values.reshape(wide), nodes.slopes.reshape(wide), steps)


def turned(nodes: Nodes, origin: Field, order: Sequence[int]) -> Nodes:
    """The same nodes for the axes of their origin in another order."""
    if list(order) == sorted(order):
        return nodes
    factors = [place for axis in order for place in origin.factors_of(axis)]

    def move(array: Array, extra: int) -> Array:
        return array.transpose([*factors, *([array.ndim - 1] * extra)])

    steps = [(where, move(slope, 1)) for where, slope in nodes.steps]
    values, slopes = move(nodes.values, 1), move(nodes.slopes, 1)
    return Nodes(nodes.quadrature.moved(move), values, slopes, steps)
