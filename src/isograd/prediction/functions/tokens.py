"""Tokens: how unlike pairs of positions are, where it is not chance that makes them so.

For a field any two positions of one class are alike. Positions that are waves of their number, or
that overlapping windows have read, are the more alike the nearer they are; what sums products of
two such covariances over pairs of positions, as the gradients of queries and keys do, sums their
squares. The covariance of each two positions is followed back to known values and to distances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.moments import pairs
from isograd.prediction.moments.axes import weighed

if TYPE_CHECKING:
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.moments.pairs import Array
    from isograd.prediction.propagation import Propagation
    from isograd.prediction.steps import Step

VALUES = "values"
"""Note of a field whose entries are known: the tensor."""
_GRAM = "gram"
_MOST = 256
"""Positions that are looked at: of longer sequences that many, drawn once."""
_GRID = np.linspace(-1.0, 1.0, 129)
_LEAST = 1e-12


def unlikeness(run: Propagation, f: Field) -> float:
    """Variance over pairs of positions of their covariance, over the variance of one, squared.

    What all positions have in common is taken away, and what the classes of the axis tell.

    Args:
        run: under way.
        f: (…, positions, features).
    """
    found = _gram(run, f)
    if found is None or len(found) < 3:
        return 0.0
    n = len(found)
    rows = found.mean(axis=0)
    centered = found - rows - rows[:, None] + found.mean()
    own = float(np.diagonal(centered).mean())
    apart = ~np.eye(n, dtype=bool)
    at = _chosen(f.shape[-2])
    owner = pairs.owners(pairs.plain(_cut(f)))[at]
    key = (owner[:, None] * n + owner)[apart]
    values = centered[apart]
    number = np.bincount(key)
    mean = np.bincount(key, values) / np.maximum(number, 1)
    return float(np.square(values - mean[key]).mean()) / max(own, _LEAST) ** 2


def _gram(run: Propagation, f: Field) -> Array | None:
    """(positions, positions): E x x' of one sample, averaged over features; None if plain."""
    if _GRAM not in f.notes:
        f.notes[_GRAM] = None if len(f.shape) < 2 or f.shape[-2] < 3 else _found(run, f)
    made: Array | None = f.notes[_GRAM]
    return made


def _found(run: Propagation, f: Field) -> Array | None:
    if VALUES in f.notes:
        x = f.notes[VALUES].detach().double().numpy()
        x = x.reshape(-1, *x.shape[-2:])[:, _chosen(x.shape[-2])]
        return np.asarray(np.einsum("bxd,byd->xy", x, x) / (x.shape[0] * x.shape[2]))
    if f.nodes is not None and f.origin is not None:
        inner = _gram(run, f.origin)
        return None if inner is None else _of_function(f, inner)
    step = run.twins.made.get(id(f))
    found = None if step is None else _behind(run, f, step)
    if found is None and isinstance(_cut(f), pairs.Line):
        return _told(f)
    return found


def _behind(run: Propagation, f: Field, step: Step) -> Array | None:
    kind = getattr(step.link, "kind", "")
    inputs = [one for one in step.inputs if "draw" not in one.notes]
    inputs = [one for one in inputs if len(one.shape) > 1 and one.shape[-2] == f.shape[-2]]
    if kind == "sum" and len(inputs) == 2:
        parts = [_gram(run, one) for one in inputs]
        if all(part is None for part in parts):
            return None
        whole = [
            _told(one) if part is None else part for one, part in zip(inputs, parts, strict=True)
        ]
        return np.asarray(whole[0] + whole[1])
    if not inputs or kind not in ("product", "multiple", "layout") or len(inputs) > 1:
        return None
    if kind == "product" and len(inputs) == len(step.inputs):
        return None
    inner = _gram(run, inputs[0])
    return None if inner is None else inner * (f.energy / max(inputs[0].energy, _LEAST))


def _of_function(f: Field, inner: Array) -> Array:
    """E f f' of a function of nearly Gaussian entries with these second moments."""
    assert f.nodes is not None
    assert f.origin is not None
    quadrature = f.nodes.quadrature
    terms = np.matmul(np.nan_to_num(f.nodes.values)[..., None, :], quadrature.basis)[..., 0, :]
    squares = np.square(terms).reshape(-1, terms.shape[-1]).mean(axis=0)
    mean = f.origin.average
    variance = max(f.origin.energy - mean**2, _LEAST)
    rho = np.clip((inner - mean**2) / variance, -1.0, 1.0)
    return np.asarray(np.interp(rho, _GRID, np.polynomial.polynomial.polyval(_GRID, squares)))


def _told(f: Field) -> Array:
    """What the field itself knows of two positions."""
    whole = f.as_one(len(f.groups) - 2)
    table = whole.second
    at = whole.factors_of(len(f.groups) - 2)[0]
    for place in reversed(range(len(whole.cuts))):
        if place != at:
            table = weighed(table, place, pairs.same_shares(whole.cuts[place]))
    chosen = _chosen(f.shape[-2])
    return np.asarray(table[pairs.labels(whole.cuts[at])[chosen[:, None], chosen]])


def _cut(f: Field) -> pairs.Sizes:
    factors = f.factors_of(len(f.groups) - 2)
    return f.cuts[factors[0]] if len(factors) == 1 else (f.shape[-2],)


def _chosen(n: int) -> pairs.Indices:
    """Positions that stand for all."""
    if n <= _MOST:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, _MOST, replace=False))
