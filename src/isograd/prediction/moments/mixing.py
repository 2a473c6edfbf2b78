"""Mixing: sums with known weights along one axis, such as messages between the nodes of a graph.

What is gathered, added up and divided by the number of neighbors is one known matrix M along the
axis of the nodes. Step by step, each with the mean over all entries, a node of many neighbors is
divided by the number that others have; M as a whole knows which goes with which:

    E y_o y_o' = sum over i, i' of M_oi M_o'i' E x_i x_i'.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isograd.prediction.moments.axes import along
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.pairs import Line
from isograd.prediction.ops import Outcome

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array, Indices
    from isograd.prediction.propagation import Call

_MIXED = "mixed"
_LARGEST = 4_000_000
"""Entries of a known matrix that are looked at."""


@dataclass(frozen=True, slots=True)
class Mixing:
    """A known matrix along one axis of a field, by its entries that are not 0."""

    source: Field
    axis: int
    shape: tuple[int, int]
    rows: Indices
    columns: Indices
    values: Array

    def after(self, before: Mixing | None) -> Mixing:
        """This one of what another one has made."""
        if before is None or before.axis != self.axis:
            return self
        inner = _Joined.of(before, self.columns)
        return Mixing(
            before.source, self.axis, (self.shape[0], before.shape[1]),
            self.rows[inner.which], inner.columns, self.values[inner.which] * inner.values,
        )  # fmt: skip

    def moments(self) -> Array:
        """[2, 2] from (same entry, two entries) of the source to the same of the output."""
        out, _ = self.shape
        key = self.rows * self.shape[1] + self.columns
        _, place = np.unique(key, return_inverse=True)
        cells = np.bincount(place, self.values)
        squares = float(np.square(cells).sum())
        rows = float(np.square(np.bincount(self.rows, self.values)).sum())
        columns = float(np.square(np.bincount(self.columns, self.values)).sum())
        total = float(self.values.sum()) ** 2
        apart = out * (out - 1)
        return np.array(
            [
                [squares / out, (rows - squares) / out],
                [(columns - squares) / apart, (total - rows - columns + squares) / apart],
            ]
        )

    @property
    def turned(self) -> Mixing:
        """The transpose."""
        return Mixing(
            self.source, self.axis, self.shape[::-1], self.columns, self.rows, self.values
        )

    def of(self, f: Field) -> Field:
        """Moments of the matrix times a field like the source."""
        f = f.as_one(self.axis) if f.groups[self.axis] > 1 else f
        place = f.factors_of(self.axis)[0]
        f = f.recut((*f.cuts[:place], (self.shape[1],), *f.cuts[place + 1 :]))
        mean = along(f.mean, place, np.full((1, 1), self.values.sum() / self.shape[0]))
        cuts = (*f.cuts[:place], (self.shape[0],), *f.cuts[place + 1 :])
        return Field(along(f.second, place, self.moments()), cuts, f.groups, mean)


@dataclass(frozen=True, slots=True)
class _Joined:
    """Entries of an inner matrix for each row that is asked for."""

    which: Indices
    """Which question an entry answers."""
    columns: Indices
    values: Array

    @classmethod
    def of(cls, inner: Mixing, rows: Indices) -> _Joined:
        """Those of the given rows."""
        order = np.argsort(inner.rows, kind="stable")
        starts = np.searchsorted(inner.rows[order], rows, side="left")
        number = np.searchsorted(inner.rows[order], rows, side="right") - starts
        which = np.repeat(np.arange(len(rows)), number)
        within = np.arange(len(which)) - np.repeat(np.cumsum(number) - number, number)
        at = order[starts[which] + within]
        return cls(which, inner.columns[at], inner.values[at])


def matrix_of(x: Field, axis: int, known: Tensor) -> Mixing | None:
    """A known matrix times `x`; None where it is none, or not along a plain axis."""
    if known.ndim != 2 or known.numel() > _LARGEST or min(known.shape) < 2:
        return None
    values = _values(known)
    rows, columns = values.nonzero()
    shape = (values.shape[0], values.shape[1])
    return _along(x, axis, shape, rows, columns, values[rows, columns])


def weights_of(x: Field, known: Tensor) -> Mixing | None:
    """Known numbers by which `x` is multiplied along one axis; None where they are none such."""
    extra = len(x.groups) - known.ndim
    axes = [axis for axis, size in enumerate(known.shape) if size > 1]
    if len(axes) != 1 or extra < 0 or known.numel() > _LARGEST:
        return None
    axis, values = axes[0] + extra, _values(known).ravel()
    each = np.arange(len(values))
    return _along(x, axis, (len(values), len(values)), each, each, values)


def picked(x: Field, axis: int, index: Indices) -> Mixing | None:
    """Entries of `x` taken by known indices."""
    n = x.shape[axis]
    columns = np.where(index < 0, index + n, index)
    return _along(x, axis, (len(index), n), np.arange(len(index)), columns, np.ones(len(index)))


def added_up(x: Field, axis: int, index: Indices, size: int) -> Mixing | None:
    """Entries of `x` added up by known indices."""
    number = len(index)
    return _along(x, axis, (size, number), index, np.arange(number), np.ones(number))


def scaled_rows(mixing: Mixing, factors: Array) -> Mixing:
    """Every row times a number."""
    return replace(mixing, values=mixing.values * factors[mixing.rows])


def _along(
    x: Field, axis: int, shape: tuple[int, int], rows: Indices, columns: Indices, values: Array
) -> Mixing | None:
    if min(shape) < 2 or x.shape[axis] != shape[1] or x.groups[axis] != 1:
        return None
    cut = x.cuts[x.factors_of(axis)[0]]
    if len(cut) > 1 or isinstance(cut, Line):
        return None
    return Mixing(x, axis, shape, rows, columns, values)


def noted(done: Outcome, mixing: Mixing | None) -> Outcome:
    """An outcome that is such a matrix times a field, as its own rule has it."""
    if mixing is not None and isinstance(done.out, Field) and done.out is not mixing.source:
        done.out.notes[_MIXED] = mixing
    return done


def mixed(call: Call, mixing: Mixing | None, *, always: bool = False) -> Outcome | None:
    """The outcome of a known matrix times a field that is one itself; None for any other.

    Args:
        call: under way.
        mixing: the matrix times the field; None for nothing.
        always: whether it may be any field.
    """
    if mixing is None:
        return None
    x = mixing.source
    before: Mixing | None = x.notes.get(_MIXED)
    if before is not None and before.axis != mixing.axis:
        before = None
    if before is None and not always:
        return None
    whole = mixing.after(before)
    source = whole.source
    out = whole.of(source)
    out.noise, out.condition = x.noise, x.condition
    out.notes[_MIXED] = whole

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        if x is not source:
            call.run.arrive(x, mixing.turned.of(gradient), passed_on=True)
        return [(source, whole.turned.of(gradient))]

    return Outcome(out, back, [source], formula="known matrix M: sum of M M' E x x'")


def _values(known: Tensor) -> Any:
    with torch._C.DisableTorchFunction():
        return known.detach().double().numpy()
