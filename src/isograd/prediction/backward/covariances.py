"""Covariances of functions, multiples and sums of fields, from those of what they are made of."""

from __future__ import annotations

from isograd.prediction.functions.series import cross_series
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.fields import Field


def of_functions(a: Field, b: Field, shared: Field | None) -> Field | None:
    """Covariance of two functions of fields with a known covariance."""
    if shared is None:
        return None
    assert a.nodes is not None
    assert b.nodes is not None
    assert a.origin is not None
    if a.nodes.values.shape != b.nodes.values.shape:  # other classes: to first order
        return times(shared, a.nodes.mean_slope() * b.nodes.mean_slope())
    values = (a.nodes.value_coefficients(), b.nodes.value_coefficients())
    mean, second = cross_series(a.nodes.quadrature, b.nodes.quadrature, *values, a.origin, shared)
    return a.origin.like(second - mean)


def times(f: Field | None, factor: float) -> Field | None:
    """A multiple of a covariance; None stays zero."""
    if f is None or (factor == 1.0 and f.is_centered and not f.notes):
        return f
    return f.like(f.second * factor)


def fit(a: Field, b: Field) -> bool:
    """Whether two fields have the same shape; mostly one is laid out by the other."""
    return (a.cuts is b.cuts and a.groups is b.groups) or a.shape == b.shape


def total_of(parts: list[Field | None]) -> Field | None:
    """The sum of covariances, on the classes that all of them need; None for zero."""
    known = [one for one in parts if one is not None]
    if not known:
        return None
    total = known[0]
    for one in known[1:]:
        p, q = aligned(total, one)
        total = p.like(p.second + q.second)
    return total
