"""Field: what is known of a tensor that is never computed, its mean and its second moments.

For every pair of entries, grouped by how their indices are related on each axis (see
`isograd.prediction.moments.pairs`), a field holds E[x_i x_j] over the draw of weights and inputs.
The entry where all indices are the same is the energy E x^2; "another sample, everything else the
same" is the covariance of two samples, and so on. The gradient of a tensor is a field too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from isograd.prediction.moments import pairs
from isograd.prediction.moments.axes import along, dotted, of_entries, weighed
from isograd.prediction.moments.pairs import Array, Sizes

if TYPE_CHECKING:
    from isograd.prediction.functions.gaussian import Nodes

Shape = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Field:
    """First and second moments of a tensor's entries."""

    second: Array
    """E[x_i x_j]; one axis per factor, of length `pairs.ways(cuts[factor])`."""
    cuts: tuple[Sizes, ...]
    """Classes of each factor. A factor is an axis of exchangeable entries, longer than one."""
    groups: tuple[int, ...]
    """Per axis of the tensor, how many consecutive factors make it up; none for length one."""
    mean: Array
    """E x per class; one axis per factor, of length `len(cuts[factor])`."""
    origin: Field | None = None
    """The nearly Gaussian field of which this one is an elementwise function."""
    nodes: Nodes | None = None
    """That function at quadrature nodes of the origin."""
    affine: tuple[float, float] | None = None
    """Factor and offset, where this field is factor * origin + offset."""
    averaged: Field | None = None
    """The field of which this one is the mean over some axes, kept as axes of length one."""
    visible: Any = None
    """Of attention logits: which entries are not masked, an array that broadcasts to the shape."""
    noise: float = 0.0
    """Variance of the log of the energy from the draw of finitely many weights."""
    common: float = 0.0
    """Of a gradient: the same of the energy of its sum over samples and places; 0 if not known."""
    condition: float = 0.0
    """d ln(energy) / d ln(energy of any field before): how far a deviation carries on."""
    notes: dict[str, Any] = field(default_factory=dict)

    # -- what it is ----------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """Shape of the tensor."""
        return pairs.shape_of(self.cuts, self.groups)

    @property
    def sizes(self) -> Shape:
        """Length of each factor."""
        return pairs.lengths(self.cuts)

    @property
    def energy(self) -> float:
        """E x^2, averaged over all entries."""
        return self._over_entries(self.second if self.mean.size == 1 else self.energies)

    @property
    def average(self) -> float:
        """E x, averaged over all entries."""
        return self._over_entries(self.mean)

    def _over_entries(self, values: Array) -> float:
        if self.mean.size == 1:
            return float(values.item(0))
        return dotted(values, pairs.every_entry(self.cuts))

    @property
    def is_centered(self) -> bool:
        """Whether E x is 0 everywhere."""
        return not (self.mean.item() if self.mean.size == 1 else self.mean.any())

    @property
    def energies(self) -> Array:
        """E x^2 per class; one axis per factor."""
        return self.second[tuple([slice(0, len(cut)) for cut in self.cuts])]

    def factors_of(self, axis: int) -> range:
        """Factors that make up one axis of the tensor."""
        axis %= len(self.groups)
        start = sum(self.groups[:axis])
        return range(start, start + self.groups[axis])

    def products(self) -> Array:
        """Products of the means of both entries of each pair; shaped as `second`."""
        if self.mean.size == 1:
            return np.full(self.second.shape, self.mean.item() ** 2)
        first, other = pairs.places(self.cuts)
        mean = self.mean.ravel()
        return np.asarray(mean[first] * mean[other])

    def per_pair(self, values: Array) -> tuple[Array, Array]:
        """Values per class, as those of the first and of the second entry of each pair.

        Args:
            values: one axis per factor, of length one where all classes have the same; more axes
                may follow.

        Returns:
            Two arrays that broadcast against `second`.
        """
        if values.size == 1 or all(size == 1 for size in values.shape[: len(self.cuts)]):
            return values, values
        classes = tuple(len(cut) for cut in self.cuts)
        if values.shape[: len(classes)] == classes:
            one, two = pairs.places(self.cuts)
            flat = values.reshape(-1, *values.shape[len(classes) :])
            return flat[one], flat[two]
        alone = np.zeros(1, dtype=np.intp)
        ends = [
            pairs.ends(cut) if values.shape[place] > 1 else (alone, alone)
            for place, cut in enumerate(self.cuts)
        ]
        first, other = zip(*ends, strict=True)
        return values[np.ix_(*first)], values[np.ix_(*other)]

    def centered(self, places: Sequence[int]) -> Array:
        """Second moments of x - mean of x over some factors.

        E x x' - E x mean' - E mean x' + E mean^2; with one class per factor the three means are
        all the same.
        """
        whole = self.second
        for place in places:
            whole = weighed(whole, place, pairs.shares(self.cuts[place]), keep=True)
        if all(len(self.cuts[place]) == 1 for place in places):
            return np.asarray(self.second - whole)
        sided = self.second
        for place in places:
            sided = along(sided, place, pairs.given_first(self.cuts[place]))
        first, other = [], []
        for place, cut in enumerate(self.cuts):
            every = np.arange(sided.shape[place])
            a, b = pairs.ends(cut) if place in places else (every, every)
            first.append(a)
            other.append(b)
        return np.asarray(self.second - sided[np.ix_(*first)] - sided[np.ix_(*other)] + whole)

    # -- the same thing otherwise --------------------------------------------------------------

    def like(self, second: Array, mean: Array | None = None) -> Field:
        """A field of the same axes with other moments."""
        if mean is None:
            mean = np.zeros(self.mean.shape)
        return self._with(second, mean, self.cuts, self.groups)

    def scaled(self, factor: float) -> Field:
        """All entries times a number."""
        return self.like(self.second * (factor * factor), self.mean * factor)

    def recut(self, cuts: Sequence[Sizes]) -> Field:
        """The same field on other classes: split where finer, averaged where coarser."""
        second, mean = self.second, self.mean
        nodes = self.nodes
        for place, (old, new) in enumerate(zip(self.cuts, cuts, strict=True)):
            if old == new:
                continue
            fine = pairs.common(old, new)
            if fine != old:
                second = second.take(pairs.refining(old, fine), place)
                parents = pairs.parents(old, fine)
                mean = mean.take(parents, place)
                nodes = None if nodes is None else nodes.take(parents, place)
            if fine != new:
                second = along(second, place, pairs.coarsening(fine, new))
            if fine != new and pairs.in_order(fine) != new:
                share = pairs.indicator(fine).T @ pairs.indicator(new) / np.array(new)
                mean = along(mean, place, share.T)
                nodes = None
            elif fine != new and nodes is not None:  # distances are averaged, classes stay
                nodes = nodes.take(np.arange(len(new)), place)
        if second is self.second:
            return self
        return self._with(second, mean, tuple(cuts), self.groups, nodes)

    def _with(
        self,
        second: Array,
        mean: Array,
        cuts: tuple[Sizes, ...],
        groups: tuple[int, ...],
        nodes: Nodes | None = None,
    ) -> Field:
        noise, condition = self.noise, self.condition
        return Field(second, cuts, groups, mean, nodes=nodes, noise=noise, condition=condition)

    def permuted(self, order: Sequence[int]) -> Field:
        """Axes of the tensor in another order."""
        factors = [place for axis in order for place in self.factors_of(axis)]
        return self._with(
            self.second.transpose(factors),
            self.mean.transpose(factors),
            tuple(self.cuts[place] for place in factors),
            tuple(self.groups[axis] for axis in order),
            None if self.nodes is None else self.nodes.permuted(factors),
        )

    def regrouped(self, groups: tuple[int, ...]) -> Field:
        """The same factors as other axes."""
        return self._with(self.second, self.mean, self.cuts, groups, self.nodes)

    def plain(self, places: Iterable[int] | None = None) -> Field:
        """Without distances along some factors, or in the same classes along all."""
        at = set(range(len(self.cuts)) if places is None else places)
        if not any(isinstance(self.cuts[place], pairs.Line) for place in at):
            return self
        to = pairs.in_order if places is None else pairs.plain
        return self.recut([to(c) if place in at else c for place, c in enumerate(self.cuts)])

    def merged(self, place: int) -> Field:
        """Factors `place` and `place + 1` as one; the classes of the inner one are averaged."""
        whole = self.plain([place, place + 1])
        outer, inner = whole.cuts[place : place + 2]
        if len(inner) > 1:
            whole = whole.recut(_replaced(whole.cuts, place + 1, (sum(inner),)))
        b = sum(inner)
        cut = tuple(size * b for size in outer)
        second = np.moveaxis(whole.second, place, 0)  # outer, …, inner at `place + 1`, …
        inner_axis = place + 1
        equal = np.asarray(second.take(0, inner_axis))
        other = np.asarray(second.take(1, inner_axis))
        k = len(outer)
        mixed = equal / b + other * (1 - 1 / b)
        rows = np.concatenate([equal[:k], mixed[k:]])
        for c, size in enumerate(outer):
            near = other[c] * (b - 1) + mixed[k + c * k + c] * (b * (size - 1))
            rows[k + c * k + c] = near / (size * b - 1)
        mean = np.asarray(whole.mean.take(0, place + 1))
        cuts = (*self.cuts[:place], cut, *self.cuts[place + 2 :])
        groups = _less_one(self.groups, place)
        nodes = None if whole.nodes is None else whole.nodes.squeezed(place + 1)
        return self._with(np.moveaxis(rows, 0, place), mean, cuts, groups, nodes)

    def split(self, place: int, outer: int) -> Field:
        """A factor of n entries as `outer` by n / outer."""
        whole = self.plain([place])
        cut = whole.cuts[place]
        n = sum(cut)
        b = n // outer
        if len(cut) > 1:
            fits = tuple(size // b for size in cut) if all(size % b == 0 for size in cut) else None
            if fits is None:  # classes end inside a row: what they share is averaged
                return whole._halved(place, outer)
        first = tuple(size // b for size in cut)
        k = len(cut)
        equal = np.moveaxis(whole.second, place, 0)
        near = np.concatenate([equal[[k + c * k + c for c in range(k)]], equal[k:]])
        second = np.moveaxis(np.stack([equal, near], axis=1), (0, 1), (place, place + 1))
        # Classes of one outer entry: another outer entry of the class does not exist.
        mean = np.expand_dims(whole.mean, place + 1)
        cuts = (*self.cuts[:place], first, (b,), *self.cuts[place + 1 :])
        groups = _more_one(self.groups, place)
        nodes = None if whole.nodes is None else whole.nodes.expanded(place + 1)
        return self._with(_canonical(second, place, first), mean, cuts, groups, nodes)

    def _halved(self, place: int, outer: int) -> Field:
        """As `split`, for any classes; none are left."""
        cut = self.cuts[place]
        second = along(self.second, place, pairs.halving(cut, outer))
        shape = self.second.shape
        mean = along(self.mean, place, of_entries(cut)[None])
        return self._with(
            second.reshape(*shape[:place], 2, 2, *shape[place + 1 :]),
            np.expand_dims(mean, place),
            (*self.cuts[:place], (outer,), (sum(cut) // outer,), *self.cuts[place + 1 :]),
            _more_one(self.groups, place),
        )

    def expanded(self, shape: Shape) -> Field:
        """Broadcast to a shape: axes of length one, or none, are repeated."""
        missing = len(shape) - len(self.groups)
        groups = [*([0] * missing), *self.groups]
        second, mean, cuts, nodes = self.second, self.mean, list(self.cuts), self.nodes
        for axis, size in enumerate(shape):
            if groups[axis] == 0 and size > 1:
                place = sum(groups[:axis])
                rows = second.shape
                second = second.reshape(*rows[:place], 1, *rows[place:]).repeat(2, place)
                mean = mean.reshape(*mean.shape[:place], 1, *mean.shape[place:])
                nodes = None if nodes is None else nodes.expanded(place)
                cuts.insert(place, (size,))
                groups[axis] = 1
        if len(cuts) == len(self.cuts) and not missing:
            return self
        return self._with(second, mean, tuple(cuts), tuple(groups), nodes)

    def summed(self, at: Sequence[int], *, average: bool = False) -> Field:
        """Sum or mean over factors, which disappear; their axes get length one."""
        second, mean = self.second, self.mean
        groups = list(self.groups)
        for place in sorted(at, reverse=True):
            cut = self.cuts[place]
            weights = pairs.shares(cut) if average else pairs.counts(cut)
            share = of_entries(cut) if average else np.array(cut, dtype=np.float64)
            second = weighed(second, place, weights)
            mean = weighed(mean, place, share)
            groups[_axis_of(self.groups, place)] -= 1
        cuts = tuple(cut for place, cut in enumerate(self.cuts) if place not in set(at))
        return self._with(np.asarray(second), np.asarray(mean), cuts, tuple(groups))

    def summed_to(self, shape: Shape) -> Field:
        """Adjoint of `expanded`: sums over the axes that were repeated."""
        extra = len(self.groups) - len(shape)
        places = [
            place
            for axis, number in enumerate(self.groups)
            if number and (axis < extra or shape[axis - extra] == 1)
            for place in self.factors_of(axis)
        ]
        result = self.summed(places) if places else self
        return result.regrouped(result.groups[extra:]) if extra else result

    def as_one(self, axis: int) -> Field:
        """An axis as a single factor (or none, at length one)."""
        result = self
        factors = self.factors_of(axis)
        for _ in range(len(factors) - 1):
            result = result.merged(factors[0])
        return result

    def reshaped(self, shape: Shape) -> Field:
        """Another shape of the same entries, in the same order."""
        result = self.regrouped((len(self.cuts),))
        place, groups = 0, []
        for size in shape:
            start, left = place, size
            while left > 1:
                n = sum(result.cuts[place])
                if left % n == 0:
                    left //= n
                elif n % left == 0:
                    result, left = result.split(place, left), 1
                else:  # the axes do not nest: what reaches over the border becomes one factor
                    result = result.merged(place)
                    continue
                place += 1
            groups.append(place - start)
        return result.regrouped(tuple(groups))

    def mapped(self, place: int, matrix: Array, cut: Sizes) -> Field:
        """Y = matrix @ x along one factor; its outputs have the classes `cut`."""
        old = self.cuts[place]
        second = along(self.second, place, pairs.transition(matrix, cut, old))
        mean = along(self.mean, place, pairs.means_of(matrix, cut, old))
        return self._with(second, mean, _replaced(self.cuts, place, cut), self.groups)


def _replaced(cuts: Sequence[Sizes], place: int, cut: Sizes) -> tuple[Sizes, ...]:
    return (*cuts[:place], cut, *cuts[place + 1 :])


def _axis_of(groups: Sequence[int], place: int) -> int:
    at = 0
    for axis, number in enumerate(groups):
        at += number
        if place < at:
            return axis
    raise IndexError(place)


def _less_one(groups: Sequence[int], place: int) -> tuple[int, ...]:
    first, second = _axis_of(groups, place), _axis_of(groups, place + 1)
    result = list(groups)
    result[second] -= 1
    if first != second:
        raise ValueError("factors of different axes do not merge")
    return tuple(result)


def _more_one(groups: Sequence[int], place: int) -> tuple[int, ...]:
    result = list(groups)
    result[_axis_of(groups, place)] += 1
    return tuple(result)


def _canonical(second: Array, place: int, cut: Sizes) -> Array:
    """Where a class has one entry, "another entry of it" means itself; lines have no such way."""
    rows = np.moveaxis(second, place, 0)
    k = len(cut)
    for c, size in enumerate(cut):
        if size == 1 and not isinstance(cut, pairs.Line):
            rows[k + c * k + c] = rows[c]
    return second
