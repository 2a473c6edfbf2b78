"""Samples: Gaussian values drawn from a field, and the field counted from values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod

import numpy as np
import torch

from isograd.prediction.moments import pairs
from isograd.prediction.moments.axes import along
from isograd.prediction.moments.fields import Field, Shape
from isograd.prediction.moments.known import empirical
from isograd.prediction.moments.pairs import Array, Sizes

_FEW = 64
"""Numbers up to which a component is stratified over the repetitions, not drawn blindly."""


def draw(f: Field, repeats: int, generator: torch.Generator) -> Array:
    """Gaussian values of a field, (repeats, factors …).

    Along each factor an entry is the mean of its class plus its own part, which adds up to zero
    over the class: 2^factors independent components, of which each is drawn with exactly its
    second moments (averaged over repetitions and entries).
    """
    d = len(f.cuts)
    covariance = f.second - f.products()
    result = np.zeros((repeats, *f.sizes))
    scale = max(float(np.abs(f.second).max()), 1e-300)
    for subset in range(2**d):
        own = [place for place in range(d) if subset >> place & 1]
        root = _root(covariance, f.cuts, own)
        if float(np.abs(root).max(initial=0.0)) > 1e-8 * math.sqrt(scale):
            result += _component(root, f.cuts, own, repeats, generator)
    mean = f.mean
    for place, cut in enumerate(f.cuts):
        mean = mean.take(np.repeat(np.arange(len(cut)), cut), place)
    return result + mean


def _root(covariance: Array, cuts: Sequence[Sizes], own: Sequence[int]) -> Array:
    """Square root of a component's covariance: own classes …, then a matrix of the others."""
    found = covariance
    for place, cut in enumerate(cuts):
        k = len(cut)
        same, other = np.eye(k), np.zeros((k, k * k))
        other[range(k), [c * k + c for c in range(k)]] = 1.0
        apart = np.hstack([same, -other])  # same entry less another one of the class
        if place in own:
            found = along(found, place, apart)
        else:
            share = apart / np.array(cut)[:, None]
            between = np.hstack([np.zeros((k * k, k)), np.eye(k * k)])
            between[[c * k + c for c in range(k)]] += share
            found = along(found, place, between)
    shape, rows, columns = [], [], []
    for place, cut in enumerate(cuts):
        if place in own:
            shape.append(len(cut))
        else:
            rows.append(len(shape))
            columns.append(len(shape) + 1)
            shape += [len(cut), len(cut)]
    kept = [axis for axis in range(len(shape)) if axis not in (*rows, *columns)]
    size = prod(shape[axis] for axis in rows)
    matrices = found.reshape(shape).transpose([*kept, *rows, *columns])
    matrices = matrices.reshape(*(shape[axis] for axis in kept), size, size)
    values, vectors = np.linalg.eigh((matrices + np.swapaxes(matrices, -1, -2)) / 2)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :])


def _component(
    root: Array, cuts: Sequence[Sizes], own: Sequence[int], repeats: int, generator: torch.Generator
) -> Array:
    """One component, (repeats, entries or 1 …)."""
    for at, place in enumerate(own):
        if len(cuts[place]) > 1:
            root = root.take(np.repeat(np.arange(len(cuts[place])), cuts[place]), at)
    z = _standard((repeats, *(sum(cuts[place]) for place in own), root.shape[-1]), generator)
    free = float(repeats)
    for at, place in enumerate(own):
        share = pairs.indicator(cuts[place]) / np.array(cuts[place])
        means = along(z, at + 1, share.T)
        z = z - means.take(np.repeat(np.arange(len(cuts[place])), cuts[place]), at + 1)
        free *= sum(cuts[place]) - len(cuts[place])
    if not own:
        z = z - z.mean(axis=0)
    flat = z.reshape(-1, z.shape[-1])
    gram = flat.T @ flat / free
    if len(flat) >= 4 * len(gram):  # independent numbers are made so, and of variance one
        z = (flat @ np.linalg.inv(np.linalg.cholesky(gram)).T).reshape(z.shape)
    x = np.einsum("...k,...lk->...l", z, np.broadcast_to(root, (*z.shape, z.shape[-1])))
    others = [place for place in range(len(cuts)) if place not in own]
    x = x.reshape(*x.shape[:-1], *(len(cuts[place]) for place in others))
    order = [*own, *others]
    x = x.transpose(0, *(1 + order.index(place) for place in range(len(cuts))))
    for place in others:
        if len(cuts[place]) > 1:
            x = x.take(np.repeat(np.arange(len(cuts[place])), cuts[place]), place + 1)
    return np.asarray(x)


def _standard(shape: Shape, generator: torch.Generator) -> Array:
    """Standard normal numbers; where they are few, spread evenly over the repetitions."""
    z = torch.randn(shape, generator=generator, dtype=torch.float64)
    if prod(shape[1:]) <= _FEW:
        within = torch.rand(shape, generator=generator, dtype=torch.float64)
        z = torch.special.ndtri((z.argsort(0).argsort(0) + within) / shape[0])
    return np.asarray(z.numpy())


def origin_of(f: Field) -> Field:
    """The field whose values determine those of `f`; itself if there is no other."""
    return f if f.origin is None or (f.nodes is None and f.affine is None) else f.origin


def mapped(f: Field, values: Array) -> Array:
    """A function of a field's origin at values of the origin."""
    if f.nodes is not None:
        return interpolated(f, f.nodes.values, values)
    factor, offset = f.affine or (1.0, 0.0)
    return factor * values + offset


def slopes_at(f: Field, values: Array) -> list[tuple[Field, Array]]:
    """Derivatives of a function of an origin at values of the origin.

    Returns:
        The origin and all functions of it that this one is a function of, itself included, each
        with the derivative by it.
    """
    one = np.ones_like(values)
    if f.nodes is None:
        return [(origin_of(f), one * (f.affine or (1.0, 0.0))[0]), (f, one)]
    steps = [(where, slope) for where, slope in f.nodes.steps if where is not f.origin]
    found = [(where, interpolated(f, slope, values)) for where, slope in steps]
    return [(origin_of(f), interpolated(f, f.nodes.slopes, values)), (f, one), *found]


def interpolated(f: Field, y: Array, values: Array) -> Array:
    """What is known at the nodes of a field, at values of its origin."""
    assert f.nodes is not None
    x = f.nodes.quadrature.x
    result = np.empty_like(values)
    edges = [np.concatenate([[0], np.cumsum(cut)]) for cut in f.cuts]
    for at in np.ndindex(*f.mean.shape):
        block = tuple(slice(e[c], e[c + 1]) for e, c in zip(edges, at, strict=True))
        inside = (slice(None), *block)
        result[inside] = np.interp(values[inside], x[at], y[at])
    return result


def counted(values: Array, cuts: Sequence[Sizes], groups: tuple[int, ...]) -> Field:
    """The field of an array (repetitions, factors …); entries of two repetitions are no pair."""
    found = empirical(values, [(len(values),), *cuts])
    result = Field(found.second[0], tuple(cuts), groups, found.mean[0])
    energy = result.energy
    if energy > 0:
        result.notes["kurtosis"] = float(np.mean(np.square(np.square(values)))) / energy**2
    return result
