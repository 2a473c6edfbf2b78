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

import numpy as np

from isograd.prediction.functions.gaussian import Nodes, Quadrature
from isograd.prediction.functions.laws import Kinds, agreement, law, mixed_law, quantile, spread
from isograd.prediction.moments import pairs
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.axes import along
from isograd.prediction.moments.axismaps import carried, cut_of, mapped, transitions
from isograd.prediction.moments.fields import Field, _canonical
from isograd.prediction.moments.pairs import Array, Sizes
from isograd.prediction.moments.windows import Counted, Windows, overlaps, sizes

Axes = tuple[Windows, ...]
_BORDERS = 2
"""Most changes of size along an axis for which windows of each size are a class."""
_ALIKE = 0.02
"""Standard deviations by which entries of a window may differ in mean and size and be alike."""
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
    cuts: tuple[Sizes, ...]
    """Classes of the axes with windows."""
    odds: Array | None
    """[classes of windows …, classes of entries …]: how much more often than by its number an
    entry is where the gradient goes; None where all entries are alike."""


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
    at, odds = laws.largest(rho, between, counted)

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
    same = tuple(slice(0, len(cut)) for cut in center.cuts)
    if odds is not None:  # of unlike entries the larger ones count for more than in the mean
        size = whole / np.sqrt(np.maximum(second[same], 1e-300))
        left, right = center.per_pair(size)
        second = second * left * right
    second[same] = np.square(whole)
    for place, cut in enumerate(center.cuts):
        second = _canonical(second, place, cut)
    result = center.like(second, at.quadrature.mean.reshape(shape))
    result.second = second + result.products()
    return Largest(result, laid(at, shape), alike, cuts, odds)


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
    if found.odds is not None:
        own = iter([cut for cut in found.cuts if sum(cut) > 1])
        fine = [pairs.common(cut, next(own)) for cut in g.cuts[lead:]]
        g = g.recut([*g.cuts[:lead], *fine])
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
    favor = None if found.odds is None else _favor(found, meeting, lead, axes, into, cuts)
    for axis, (one, out, cut) in enumerate(zip(axes, into, cuts, strict=True)):
        table, _ = transitions(one, out, cut, True)
        table = table[:, : apart.shape[lead + axis]]
        apart = along(apart, lead + axis, table)
        meeting = along(meeting, lead + axis, table)
    entries = (slice(None),) * lead + tuple(slice(0, len(cut)) for cut in into)
    apart[entries] = meeting[entries]
    if favor is not None:
        apart = apart * favor
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


def _favor(
    found: Largest, meeting: Array, lead: int, axes: Axes, into: tuple[Sizes, ...],
    cuts: tuple[Sizes, ...],
) -> Array:  # fmt: skip
    """How much more of the gradient pairs of entries get than if all of a window were alike."""
    assert found.odds is not None
    entries = tuple(slice(0, len(cut)) for cut in cuts)
    energy = meeting.reshape(-1, *meeting.shape[lead:])[0][entries]
    odds = found.odds
    for axis, (own, cut) in enumerate(zip(found.cuts, cuts, strict=True)):
        odds = odds.take(pairs.parents(own, cut), axis)
    whole = np.broadcast_to(energy[(..., *([None] * len(axes)))], odds.shape)
    for axis, (one, out, cut) in enumerate(zip(axes, into, cuts, strict=True)):
        table = transitions(one, out, cut, True)[0][: len(out), : len(cut)].T
        shape = [1] * whole.ndim
        shape[axis], shape[len(axes) + axis] = table.shape
        whole = whole * table.reshape(shape)
    over = tuple(range(len(axes)))
    plain = whole.sum(over)
    root = np.sqrt((whole * odds).sum(over) / np.where(plain > 0, plain, 1.0))
    first, other = zip(*(pairs.ends(cut) for cut in into), strict=True)
    return np.asarray(root[np.ix_(*first)] * root[np.ix_(*other)])


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
    found = carried(one, entries)
    if isinstance(found, pairs.Line):
        return pairs.of_positions(one.members() @ pairs.indicator(entries), strict=True)
    size = one.members().sum(axis=1)
    edges = np.flatnonzero(np.diff(size)) + 1
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

    def largest(
        self, rho: Array, between: Array, counted: dict[tuple[int, ...], Counted]
    ) -> tuple[Nodes, Array | None]:
        """The function at nodes that are placed and weighted for the largest entry; the odds.

        Args:
            rho: correlation of the entries of a window.
            between: their covariance.
            counted: how many there are.
        """
        steps = [slope for _, slope in self.nodes.steps]
        shape = (*rho.shape, self.nodes.values.shape[-1])
        new = object.__new__(Quadrature)
        new.mean, new.deviation = np.empty(rho.shape), np.empty(rho.shape)
        new.z, new.weights, new.x = np.empty(shape), np.empty(shape), np.empty(shape)
        found = np.empty((2 + len(steps), *shape))
        lead = rho.ndim - len(self.axes)
        members = _members(self.axes, self.cuts, _cuts(self.field, self.axes))
        odds, unlike = np.zeros(members.shape), False
        for at in np.ndindex(rho.shape):
            z, w, known = self._entries(at, lead, [self.nodes.values, self.nodes.slopes, *steps])
            density, cdf = np.zeros_like(z), np.zeros_like(z)
            rising = (np.diff(known[0]) >= 0).all()
            kinds = self._kinds(at, lead, members[at[lead:]]) if rising else None
            if kinds is None:
                if not rising:  # the largest by value: nodes in the order of values
                    order = known[0].argsort(kind="stable")
                    w, known = w[order], known[:, order]
                    z = quantile(np.cumsum(w) - w / 2)
                for share, number in counted[at[lead:]]:
                    one, its = law(z, number, float(rho[at]))
                    cdf, density = cdf + share * one, density + share * its
            else:
                cdf, each = mixed_law(z, kinds, float(between[at] / self.deviation[at] ** 2))
                density = each.sum(axis=0)
            weights = density * (w / np.exp(-np.square(z) / 2))
            if kinds is None:
                odds[at[lead:]] += 1.0
            else:
                unlike = True
                chance = each / np.maximum(density, 1e-300)
                went = chance @ (weights * np.square(known[1]))
                odds[(*at[lead:], *kinds.where)] += went / max(went.sum(), 1e-300) / kinds.share
            weights /= weights.sum()
            new.x[at] = x = self.mean[at] + self.deviation[at] * z
            new.mean[at] = center = weights @ x
            new.deviation[at] = np.sqrt(weights @ np.square(x - center))
            new.z[at], new.weights[at] = quantile(cdf), weights
            found[(slice(None), *at)] = known
        fields = [where for where, _ in self.nodes.steps]
        nodes = Nodes(new, found[0], found[1], list(zip(fields, found[2:], strict=True)))
        leading = rho.size / np.prod([len(cut) for cut in self.cuts])
        return nodes, odds / leading if unlike else None

    def _kinds(self, at: tuple[int, ...], lead: int, members: Array) -> Kinds | None:
        """The unlike entries of the windows of one class; None where all are alike."""
        where = np.nonzero(members > 0)
        number = members[where]
        if len(number) < 2 or number.sum() < 1.5 or not self.deviation[at] > 0:
            return None
        f, into = self.field, _cuts(self.field, self.axes)
        shape = (*f.mean.shape[:lead], *(len(cut) for cut in into))
        mean = f.mean.reshape(shape)[at[:lead]][where]
        square = f.energies.reshape(shape)[at[:lead]][where]
        size = np.sqrt(np.maximum(square - np.square(mean), 0.0)) / self.deviation[at]
        level = (mean - self.mean[at]) / self.deviation[at]
        if (np.ptp(size) < _ALIKE and np.ptp(level) < _ALIKE) or not size.min() > 0:
            return None
        return Kinds(number, level, size, where)

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


@lru_cache(maxsize=1024)
def _members(axes: Axes, cuts: tuple[Sizes, ...], into: tuple[Sizes, ...]) -> Array:
    """[classes of windows …, classes of entries …]: how many a window has on average."""
    result = np.ones(())
    for one, out, cut in zip(axes, cuts, into, strict=True):
        table = pairs.indicator(out).T @ one.members() @ pairs.indicator(cut)
        result = np.multiply.outer(result, table / np.array(out)[:, None])
    n = len(axes)
    return result.transpose([*range(0, 2 * n, 2), *range(1, 2 * n, 2)])


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
