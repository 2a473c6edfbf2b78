"""Log-softmax over nearly Gaussian logits, also where it is written as log(softmax(x))."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isograd.prediction.moments import pairs
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.axes import of_entries, weighed
from isograd.prediction.moments.fields import Field
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.ops.softmax import LOGITS, contract_both, contract_one, softmax

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array
    from isograd.prediction.propagation import Call


class LogSoftmax(Op):
    """y = e - L: e the logits less what a row has in common, L the log of the sum of exp(e).

    E L and its variance are those of as many Gaussian logits, Cov(e_i, L) = Cov(e_i, e_j) averaged
    over j (Stein's lemma: E dL/de_j = 1/n).
    """

    code = "log_softmax"
    functions = ("log_softmax",)
    source = "Stein's lemma; sums of lognormal variables (Fenton 1960)"

    def apply(self, call: Call, x: Any, dim: Any = None, *rest: Any, **kwargs: Any) -> Outcome:
        """One call."""
        f = call.field(x)
        if dim is None:
            dim = 0 if len(f.groups) in (0, 1, 3) else 1
        if f.visible is not None:
            from isograd.prediction.sampling import sampled

            return sampled(call, x, dim, *rest, **kwargs)
        done = log_softmax(f, dim % max(len(f.groups), 1))
        done.dtype = kwargs.get("dtype") or next(
            (a for a in rest if isinstance(a, torch.dtype)), None
        )
        return done


_NEGLIGIBLE = 1e-4
"""Added to probabilities before their log, it changes nothing."""


def of_softmax(call: Call, source: Field) -> Outcome | None:
    """log(x) where x is a softmax, maybe plus a tiny number; None for anything else."""
    x = source
    if x.origin is not None and x.affine is not None:
        factor, offset = x.affine
        if factor == 1.0 and 0 <= offset <= _NEGLIGIBLE:
            x = x.origin
    if LOGITS not in x.notes:
        return None
    logits, axis = x.notes[LOGITS]
    done = log_softmax(logits, axis)
    inner, out = done.back, done.out
    spread = max(out.energy - out.average**2, 0.0)
    inverse = float(np.exp(min(-out.average + spread, 300.0)))  # root of E 1 / x^2, x lognormal

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        assert inner is not None
        for one in {id(source): source, id(x): x}.values():
            call.run.arrive(one, gradient.scaled(inverse), passed_on=True)
        return list(inner(gradient))

    return Outcome(out, back, [source], formula="log-softmax: " + done.formula)


def log_softmax(given: Field, axis: int) -> Outcome:
    """Log-softmax along one axis of logits that are not masked."""
    weights = softmax(given, axis).out
    f = given.as_one(axis) if given.groups[axis] > 1 else given
    if not f.groups[axis]:
        out = f.like(np.zeros_like(f.second), np.zeros_like(f.mean))
        return Outcome(out, lambda g: [(given, g.scaled(0.0))], [given])
    place = f.factors_of(axis)[0]
    cut = f.cuts[place]
    n = sum(cut)
    apart = f.centered([place])
    level, variance = log_sum(_rounded(float(f.like(apart).energy)), n)
    share = pairs.shares(cut)
    sums = _over(np.expm1(np.clip(apart, -30.0, 30.0)), share, place)
    same = float(sums[_same_row(f, place)].mean())
    sums = sums * (variance / same if same > 1e-300 else 1.0)
    ends = f.like(apart)
    left, right = _towards(ends, place)
    second = apart - left - right + sums + level**2
    mean = -np.full_like(f.mean, level)
    one, two = f.per_pair(_centered_means(f, place))
    second = second + (one * two if not f.is_centered else 0.0) - level * (one + two)
    mean = mean + _centered_means(f, place)
    out = f.like(np.asarray(second - _mean_products(f, place)), mean)

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        whole = gradient.as_one(axis) if gradient.groups[axis] > 1 else gradient
        g, a = aligned(whole, weights)
        at = g.factors_of(axis)[0]
        ones = np.ones_like(a.mean)
        first, other = a.per_pair(a.mean)
        found = (
            g.second
            - first * contract_one(g, ones, at, left=True)
            - other * contract_one(g, ones, at, left=False)
            + a.second * contract_both(g, ones, at)
        )
        return [(given, g.like(np.asarray(found)))]

    formula = f"E L = {level:.4g}, Var L = {variance:.3g} of {n} classes"
    return Outcome(out, back, [given], formula=formula)


def _centered_means(f: Field, place: int) -> Array:
    """Means less that of their row."""
    row = weighed(f.mean, place, of_entries(f.cuts[place]), keep=True)
    return np.asarray(f.mean - row)


def _mean_products(f: Field, place: int) -> Array:
    """What `centered` has of the means already."""
    one, two = f.per_pair(_centered_means(f, place))
    return np.asarray(one * two)


def _over(values: Array, share: Array, place: int) -> Array:
    """Averages over all pairs of classes, kept as an axis of length one."""
    return weighed(values, place, share, keep=True)


def _same_row(f: Field, place: int) -> tuple[slice, ...]:
    """Pairs within one row."""
    return tuple(
        slice(0, 1) if at == place else slice(0, len(cut)) for at, cut in enumerate(f.cuts)
    )


def _towards(f: Field, place: int) -> tuple[Array, Array]:
    """Cov(e_i, L') and Cov(L, e_j'), per kind of pair."""
    share = of_entries(f.cuts[place])
    weight = share.reshape([-1 if at == place else 1 for at in range(len(f.cuts))])
    mean = np.broadcast_to(weight, f.mean.shape) / np.broadcast_to(
        np.array(f.cuts[place]).reshape(weight.shape), f.mean.shape
    )
    return contract_one(f, mean, place, left=False), contract_one(f, mean, place, left=True)


def _rounded(variance: float) -> float:
    return round(float(np.log(max(variance, 1e-12))) * 50) / 50


@lru_cache(maxsize=1024)
def log_sum(log_variance: float, classes: int) -> tuple[float, float]:
    """(mean, variance) of log sum exp(e) of Gaussian logits e whose row mean is zero."""
    rows = max(64, min(8192, 400_000 // classes))
    e = np.random.default_rng(0).standard_normal((rows, classes))
    e -= e.mean(1, keepdims=True)
    e *= np.sqrt(np.exp(log_variance) / np.square(e).mean())
    top = e.max(1)
    found = top + np.log(np.exp(e - top[:, None]).sum(1))
    return float(found.mean()), float(found.var())
