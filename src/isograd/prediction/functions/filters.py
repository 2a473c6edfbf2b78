"""Filters of few weights: how alike two positions of a channel are differs among channels.

Of a depthwise convolution each channel has one filter w of few taps. Given it, two positions of its
output correlate by rho = w A w / w B w, A and B being the covariances of the inputs that they read;
over a draw of w this has the variance 2 tr (A - rho B)^2 / (tr B)^2. What follows is not linear in
rho: E f(u) f(v) is a mean over rho. Backward, the gradients of two positions are alike where rho is
large, and there their products with w do not cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from math import prod, sqrt
from typing import Any

import numpy as np

from isograd.prediction.functions.spread import half_line
from isograd.prediction.moments import pairs
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.axes import of_others, weighed
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.pairs import Array, Indices, Sizes
from isograd.prediction.moments.sweeps import Sweep, contracted

VARIED = "varied correlations"
"""Note of a field: gives the variance of the correlations over channels, per kind of pair."""
TILT = "tilt"
"""Note of a gradient: E of it times how far the correlation lies above its mean."""
_MOST = 128
"""Weights of a filter from which on its channels are alike."""
_LEAST = 1e-6
"""Variance of a correlation below which it is the same everywhere."""


def note(out: Field, wide: Field, sweeps: Sequence[Sweep], kurtosis: float) -> None:
    """Notes of the output of a convolution how its correlations vary.

    Args:
        out: its output.
        wide: its input, (samples, groups, channels of one group, spatial axes).
        sweeps: one per spatial axis.
        kurtosis: of the weights.
    """
    taps = prod(sweep.taps for sweep in sweeps)
    if taps > 1 and taps * wide.shape[2] <= _MOST:
        out.notes[VARIED] = _once(partial(_varied, out, wide, sweeps, kurtosis))


def handed_on(out: Field, f: Field) -> None:
    """Of a norm of each channel, which takes away what all of its entries have in common."""
    if VARIED in f.notes:
        out.notes[VARIED] = partial(f.notes[VARIED], centered=True)


def variance(f: Field) -> Array | None:
    """The variances of a field's correlations over its channels; None for none."""
    return _noted(f, 0)


def shift(f: Field) -> Array | None:
    """By how much their mean lies above the ratio of means; None for nothing."""
    return _noted(f, 1)


def around(correlation: Array, spread: Array) -> list[tuple[float, Array]]:
    """Correlations that stand for those of all channels, with weights."""
    away = np.sqrt(3 * spread)
    sides = [np.clip(correlation + sign * away, -1.0, 1.0) for sign in (-1.0, 1.0)]
    return [(2 / 3, correlation), (1 / 6, sides[0]), (1 / 6, sides[1])]


def _noted(f: Field, which: int) -> Array | None:
    found = f.notes.get(VARIED)
    if found is None:
        return None
    made: Field = found()[which]
    return made.second if made.cuts == f.cuts else None


def _once(find: Any) -> Any:
    known: dict[bool, tuple[Field, Field]] = {}

    def found(*, centered: bool = False) -> tuple[Field, Field]:
        if centered not in known:
            known[centered] = find(centered)
        return known[centered]

    return found


def _varied(
    out: Field, wide: Field, sweeps: Sequence[Sweep], kurtosis: float, centered: bool
) -> tuple[Field, Field]:
    """Variance of the correlations, and the shift of their mean where channels are normalized.

    The variance is to leading order in the number of weights, but for what the length of w does.
    """
    moments = _of_channel(wide, centered)
    coarse = [_coarse(out, len(out.groups) - len(sweeps) + axis) for axis in range(len(sweeps))]
    reads = [
        [_read(sweep, wide, axis, *_example(cut, way)) for way in range(_number(cut))]
        for axis, (sweep, cut) in enumerate(zip(sweeps, coarse, strict=True), 3)
    ]
    found = np.zeros((2, 2, *(len(one) for one in reads)))
    for at in np.ndindex(*found.shape[2:]):
        both = [one[way] for one, way in zip(reads, at, strict=True)]
        own = [_matrix(moments[0], [one[side] for one in both]) for side in (1, 2)]
        sizes = [float(np.trace(one)) for one in own]
        if min(sizes) <= _LEAST * float(np.abs(moments[0]).max()):
            continue
        own_mean = (own[0] / sizes[0] + own[1] / sizes[1]) / 2
        scales, basis = np.linalg.eigh(own_mean)
        for other, table in enumerate(moments):
            if not any(at) and not other:
                continue
            cross = _matrix(table, [one[0] for one in both]) / np.sqrt(sizes[0] * sizes[1])
            away = (cross + cross.T) / 2 - np.trace(cross) * own_mean
            length = 1 + _covariance(own_mean, own_mean, kurtosis)
            found[(0, other, *at)] = min(_covariance(away, away, kurtosis) / length, 1.0)
            found[(1, other, *at)] = _ratio(np.einsum("ij,ia,ja->a", away, basis, basis), scales)
    found /= wide.shape[2]
    spread = _laid_out(out, found[0], coarse)
    return spread, _laid_out(out, found[1] if centered else np.zeros_like(found[1]), coarse)


def cumulant(table: Field, sweeps: Sequence[Sweep], kurtosis: float) -> float | None:
    """A third of the excess kurtosis that few weights leave in channels, each over its own rms.

    That is sum over pairs of taps of E[w_i^2 w_j^2] / (sum w^2)^2 cum(x_i, x_i, x_j, x_j), which is
    cum / n (n + 2) for n Gaussian weights; a mean over the places of the output.

    Args:
        table: cumulants of its channels' deviations over their rms, laid out as the input of a
            convolution of one channel per group.
        sweeps: one per spatial axis.
        kurtosis: of the weights.
    """
    if prod(sweep.taps for sweep in sweeps) > _MOST:
        return None
    values = _of_channel(table, False)[0]
    kinds = [_kinds(sweep) for sweep in sweeps]
    total = 0.0
    for chosen in product(*kinds):
        weight = prod(share for _, share in chosen)
        reads = [
            _read(sweep, table, axis, step, step)[1]
            for axis, (sweep, (step, _)) in enumerate(zip(sweeps, chosen, strict=True), 3)
        ]
        found = _matrix(values, reads)
        n = int(prod(float(np.diagonal(exist).sum()) for _, exist in reads))
        alone = float(np.trace(found))
        rest = float(found.sum()) - alone
        total += weight * (rest + alone * kurtosis / 3) / (n * (n + kurtosis - 1))
    return total


def _kinds(sweep: Sweep) -> list[tuple[int, float]]:
    """Steps that stand for those that read as much, with their shares."""
    there = sweep.places()[1].sum(axis=1)
    result = []
    for n in np.unique(there):
        at = np.flatnonzero(there == n)
        result.append((int(at[(len(at) - 1) // 2]), len(at) / len(there)))
    return result


def _ratio(diagonal: Array, scales: Array) -> float:
    """E (w a w) / (w b w) of standard Gaussians w, b being diagonal.

    int over t of sum a_ii / (1 + 2 t b_i) prod (1 + 2 t b_j)^(-1/2), as 1 / s = int exp(-s t).
    """
    t, weights = half_line()
    damped = 1 + 2 * np.maximum(scales, 0.0)[:, None] * t
    whole = np.exp(-np.log(damped).sum(axis=0) / 2)
    return float(((diagonal[:, None] / damped).sum(axis=0) * whole) @ weights)


def _covariance(a: Array, b: Array, kurtosis: float) -> float:
    """Cov(w a w, w b w) of independent weights of variance one."""
    both = a * b
    alone = float(np.trace(both))
    return 2 * (float(both.sum()) - alone) + (kurtosis - 1) * alone


def _coarse(out: Field, axis: int) -> Sizes:
    """One class for all positions of an axis."""
    n = out.shape[axis]
    line = any(isinstance(out.cuts[place], pairs.Line) for place in out.factors_of(axis))
    return pairs.Mirror((n,)) if line else (n,)


def _number(cut: Sizes) -> int:
    return pairs.ways(cut) if sum(cut) > 1 else 1


def _example(cut: Sizes, way: int) -> tuple[int, int]:
    """Two positions that are related in a way: as far apart as most, as far inside as can be."""
    n = sum(cut)
    if n > pairs.LONGEST:  # half of all pairs are nearer than n (1 - sqrt(1/2))
        apart = round(n * (1 - sqrt(0.5))) if way else 0
        return (n - apart) // 2, (n + apart) // 2
    of = pairs.labels(cut)
    first, other = np.nonzero(of == way)
    if not len(first):
        return 0, 0
    apart = np.abs(first - other)
    usual = np.abs(apart - np.median(apart)) * len(of)
    best = (usual + np.abs(first + other - (len(of) - 1))).argmin()
    return int(first[best]), int(other[best])


def _read(
    sweep: Sweep, wide: Field, axis: int, one: int, two: int
) -> tuple[tuple[Indices, Array], ...]:
    """How what two steps read is related: of the one with the other, and of each with itself."""
    at, there = sweep.places()
    cut = wide.cuts[wide.factors_of(axis)[0]] if wide.groups[axis] else (1,)
    safe = np.where(there, at, 0)
    return tuple(
        (
            _related(cut, safe[a][:, None], safe[b]),
            np.multiply.outer(there[a], there[b]).astype(float),
        )
        for a, b in ((one, two), (one, one), (two, two))
    )


def _related(cut: Sizes, a: Indices, b: Indices) -> Indices:
    """The ways in which two indices are related, as `pairs.labels` has them."""
    if sum(cut) <= pairs.LONGEST:
        return np.asarray(pairs.labels(cut)[a, b])
    owner, k = pairs.owners(cut), len(cut)
    return np.where(a == b, owner[a], k + owner[a] * k + owner[b])


def _matrix(table: Array, read: Sequence[tuple[Indices, Array]]) -> Array:
    """(taps of all axes, the same): second moments of what is read."""
    d = len(read)
    ways, there = [], np.ones(())
    for axis, (of, exist) in enumerate(read):
        shape = [1] * (2 * d)
        shape[axis], shape[d + axis] = of.shape
        ways.append(of.reshape(shape))
        there = there * exist.reshape(shape)
    found = table[tuple(ways)] * there
    number = int(np.prod(found.shape[:d]))
    return np.asarray(found.reshape(number, number))


def _of_channel(wide: Field, centered: bool) -> Array:
    """[sample, another one; ways of the spatial axes]: second moments within one channel."""
    values = wide.second
    if centered:
        over = [
            place for axis in (0, *range(3, len(wide.groups))) for place in wide.factors_of(axis)
        ]
        values = wide.centered(over)
    for axis in (2, 1):
        for place in reversed(wide.factors_of(axis)):
            values = weighed(values, place, pairs.same_shares(wide.cuts[place]))
    rows = [values, values]
    for place in reversed(wide.factors_of(0)):
        same = pairs.same_shares(wide.cuts[place])
        rows[0] = weighed(rows[0], place, same)
        rows[1] = weighed(rows[1], place, of_others(wide.cuts[place]))
    found = np.stack(rows)
    for axis in range(3, len(wide.groups)):
        if not wide.groups[axis]:
            found = np.expand_dims(found, 1 + axis - 3)
    return found


def _laid_out(out: Field, found: Array, coarse: Sequence[Sizes]) -> Field:
    """On the kinds of pairs of the output; zero for two channels."""
    first = len(out.groups) - len(coarse)
    found = found.reshape([size for size in found.shape if size > 1])
    start = sum(out.groups[:first])
    kept = [cut for cut in coarse if sum(cut) > 1]
    for axis, (cut, fine) in enumerate(zip(kept, out.cuts[start:], strict=True), 1):
        found = found.take(pairs.refining(cut, fine), axis)
    second = np.zeros_like(out.second)
    channels = tuple(slice(0, len(out.cuts[place])) for place in out.factors_of(first - 1))
    samples = out.factors_of(0) if first == 2 else range(0)
    for other in range(2):  # the same sample, then another one
        at = [
            slice(len(out.cuts[p]), None) if other else slice(0, len(out.cuts[p])) for p in samples
        ]
        if not other or at:
            second[(*at, *channels)] = found[other]
    return out.like(second)


def tilted(rate: Field, kernel: Field, like: Field, sweeps: Sequence[Sweep]) -> Field:
    """What of a gradient products of different weights do not cancel, per entry of the input.

    Of two taps t, t' that read one entry, w_t w_t' / w w has with the correlation of both outputs
    the covariance 1 / k (k + 2) over directions of k weights, so that E[g g' w_t w_t'] is that
    times the slope of E g g' by the correlation: its tilt over the variance of the correlation.

    Args:
        rate: that slope, (samples, groups, channels of one group, spatial axes).
        kernel: the weights, (groups, channels, channels of one group, taps).
        like: the gradient of the input without it.
        sweeps: one per spatial axis.
    """
    taps = prod(np.count_nonzero(sweep.places()[1]) / sweep.steps for sweep in sweeps)
    mixing = sum(kernel.groups[:3])
    one = tuple(slice(0, len(cut)) for cut in kernel.cuts[:mixing])
    every = np.zeros_like(kernel.second)
    every[one] = (kernel.energy - kernel.average**2) / (taps + 2)
    sides = {"stepped": rate, "weight": kernel.like(every)}
    more = contracted(sides, "read", sweeps, like)
    second = like.second.copy()
    same = tuple(slice(0, len(cut)) for cut in like.cuts)
    second[same] += more.second[same]
    result = like.like(second, like.mean)
    result.noise, result.notes = like.noise, like.notes
    return result


def slope(gradient: Field, out: Field) -> Field | None:
    """How E g g' of two positions of one channel grows with their correlation; None if unknown."""
    tilt, spread = gradient.notes.get(TILT), variance(out)
    if tilt is None or spread is None:
        return None
    tilt, wide = aligned(tilt, out.like(spread))
    known = wide.second > _LEAST
    rate = np.where(known, tilt.second / np.where(known, wide.second, 1.0), 0.0)
    for place in out.factors_of(0) if len(out.groups) > 3 else ():
        np.moveaxis(rate, place, 0)[len(tilt.cuts[place]) :] = 0.0
    made: Field = tilt.like(rate)
    return made
