"""Softmax over logits that are nearly Gaussian, masked or not; attention is made of it."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isograd.prediction.backward.links import Link
from isograd.prediction.functions.biases import biased, without_bias
from isograd.prediction.functions.grams import EVENNESS
from isograd.prediction.functions.hiding import hidden, hiding_of
from isograd.prediction.moments import pairs
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.axes import along, weighed
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.masks import visible_to
from isograd.prediction.moments.picking import repeated, repeats_summed
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.ops.arithmetic import scaled
from isograd.prediction.ops.linear import product

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array
    from isograd.prediction.propagation import Call

LOGITS = "logits"
"""Note of a softmax: (its logits, the axis)."""
_UNSURE = 0.02
"""Variance of ln(energy) by which the gradient of logits is off: see LOG.md."""


class Softmax(Op):
    """E a_i a_j is uniform attention times exp(covariance of the logits), renormalized by row.

    The covariance is taken after each row's own mean is gone, and lowered where few keys win
    (random energy model), by the participation ratio E sum a^2 of that many Gaussian logits.
    """

    code = "softmax"
    functions = ("softmax", "scaled_dot_product_attention")
    source = "lognormal weights; participation ratio of a random energy model (Derrida 1981)"

    def apply(self, call: Call, *args: Any, **kwargs: Any) -> Outcome:
        """One call of any of the functions."""
        if call.name == "softmax":
            return self._softmax(call, *args, **kwargs)
        return self._attention(call, *args, **kwargs)

    def _softmax(self, call: Call, x: Any, dim: Any = None, *_: Any, **kwargs: Any) -> Outcome:
        f = call.field(x)
        axis = dim if dim is not None else (0 if len(f.groups) in (0, 1, 3) else 1)
        dtype = kwargs.get("dtype") or next((a for a in _ if isinstance(a, torch.dtype)), None)
        done = softmax(f, axis % len(f.groups))
        done.dtype = dtype
        if f.visible is None and done.out.groups[axis]:
            done.out.notes[LOGITS] = f, axis % len(f.groups)
        return done

    def _attention(
        self,
        call: Call,
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Outcome:
        """softmax(scale q k^T + mask) v, step by step."""
        from isograd.prediction.ops.dropout import Dropout

        q, k, v = (call.field(t) for t in (query, key, value))

        def then(name: str, outcome: Outcome) -> Field:
            call.run.record(name, self.source, outcome)
            found: Field = outcome.out
            return found

        if enable_gqa and q.shape[-3] != k.shape[-3]:
            k, v = (then("repeat_heads", _repeated_heads(f, q.shape[-3])) for f in (k, v))
        lead = "abcdefgh"[: len(q.groups) - 2]
        logits = then("matmul", product(call, q, lead + "xz", k, lead + "yz", lead + "xy"))
        size = q.shape[-1] ** -0.5 if scale is None else scale
        logits = then("scale", scaled(call, logits, size))
        rows, columns = q.shape[-2], k.shape[-2]
        if is_causal:
            visible = np.tril(np.ones((rows, columns), dtype=bool))
            logits = then("mask", hidden(logits, visible))
        if attn_mask is not None:
            logits = then("mask", _with_mask(call, logits, attn_mask))
        weights = then("softmax", softmax(logits, len(q.groups) - 1))
        if dropout_p:
            dropped = Dropout().apply(_named(call, "dropout"), weights, dropout_p)
            weights = then("dropout", dropped)
        return product(call, weights, lead + "xy", v, lead + "yz", lead + "xz")


def _repeated_heads(f: Field, heads: int) -> Outcome:
    """Keys or values of grouped queries: each head serves several queries."""
    own, axis = f.shape[-3], len(f.groups) - 3
    ahead = partial(repeated, axis=axis, times=heads // own)
    behind = partial(repeats_summed, axis=axis, times=heads // own)
    return Outcome(ahead(f), lambda g: [(f, behind(g))], [f], link=Link("layout", ahead, behind))


def _named(call: Call, name: str) -> Call:
    from isograd.prediction.propagation import Call as Made

    return Made(call.run, name, call.function)


def _with_mask(call: Call, logits: Field, mask: Any) -> Outcome:
    if call.known(mask) and mask.dtype == torch.bool:
        with torch._C.DisableTorchFunction():
            return hidden(logits, mask.numpy())
    return _added(call, logits, mask)


def _added(call: Call, logits: Field, mask: Any) -> Outcome:
    """Logits plus a mask of numbers: some hide an entry, the others are a bias."""
    from isograd.prediction.moments.sums import added

    if (masked := hiding_of(call, mask)) is not None:
        return masked(logits)
    done = added(call, logits, call.field(mask, logits), 1.0)
    if call.known(mask):
        biased(done.out, logits, mask)
    return done


def softmax(f: Field, axis: int) -> Outcome:
    """Softmax along one axis.

    Backward ds = a (dA - sum a dA), whose sum along the axis is nothing.
    """
    given = f
    f, hidden_pairs = visible_to(without_bias(f, axis), axis)[:2]
    place = f.factors_of(axis)[0] if f.groups[axis] else None
    if place is None:
        out = f.like(np.ones_like(f.second), np.ones_like(f.mean))
        return Outcome(out, lambda g: [(given, g.scaled(0.0))], [given])
    uniform = hidden_pairs  # E u_i u_j of uniform attention, per kind of pair
    keys = f.cuts[place]
    visible = 1 / _row_sum(_same(f, uniform, place), f, place)  # effective number of keys per row
    covariance = f.second - f.products()
    centered = covariance - _row_mean(f, covariance, place)
    variance = _same_rows(f, np.maximum(_diagonal(centered, place, len(keys)), 0.0), uniform, place)
    ratio, damping = _participation(f, variance, visible)
    effective = centered * ratio
    weights = uniform * np.exp(np.clip(effective, -30.0, 30.0))
    weights /= _row_sum(weights, f, place)
    mean = _mean_weights(f, uniform, place)
    out = f.like(weights, mean)
    sharpness = _same_rows(f, _diagonal(effective, place, len(keys)), uniform, place)
    out.notes[EVENNESS] = float(np.exp(-np.mean(sharpness)))
    out.condition = f.condition * min(1.0, float(np.mean(variance)))
    out.noise = f.noise * min(1.0, float(np.mean(variance))) ** 2

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        whole = gradient.as_one(axis) if gradient.groups[axis] > 1 else gradient
        left = out.like(np.broadcast_to(damping, out.second.shape))
        g, a, left = aligned(whole, out, left)
        found = _centered_gradient(g, a, g.factors_of(axis)[0])
        result = g.like(found * left.second)
        result.noise = gradient.noise + _UNSURE
        return [(given, result)]

    return Outcome(
        out,
        back,
        [given],
        formula=f"logit variance {float(np.mean(variance)):.3g}, "
        f"{float(np.mean(visible)):.3g} visible keys",
    )


def _centered_gradient(g: Field, a: Field, at: int) -> Array:
    """E[a_x a_y (d_x - d_row)(d_y - d_row)] with d the gradient, d_row its mean under a."""
    # Row sums under the weights of the other entry: sum_k of E[a_k ..] d_xk.
    return np.asarray(a.second * centered_by(g, a, at))


def centered_by(g: Field, a: Field, at: int) -> Array:
    """E[(d_x - d_row)(d_y - d_row)], d_row = sum_k a_k d_k; with a_x a_y, it sums to nothing."""
    mean, own = a.mean, a.second
    half_left = contract_one(g, mean, at, left=True, own=own)
    half_right = contract_one(g, mean, at, left=False, own=own)
    return np.asarray(g.second - half_left - half_right + contract_both(g, mean, at, own=own))


def contract_one(g: Field, mean: Array, at: int, *, left: bool, own: Array | None = None) -> Array:
    """Sum_k a_k d_(k, y) for the first entry (or the second), per kind of pair.

    For a pair (x, y) the sum over k includes k = y's own key.

    Args:
        g: the field of d.
        mean: E a per class.
        at: factor of the keys.
        left: whether the sum is over the first entry.
        own: E a a' per kind of pair: where y is looked at, it is looked at more than others are,
            by as much as E a_y a'_y / E a'_y is more than E a_y, and these are by as much less.
    """
    keys = g.cuts[at]
    k = len(keys)
    first, second = pairs.ends(keys)
    rows = np.moveaxis(g.second, at, -1)  # (…, ways)
    same, other = rows[..., :k], rows[..., k:].reshape(*rows.shape[:-1], k, k)
    sides = [
        np.moveaxis(np.broadcast_to(side, g.second.shape), at, -1)[..., :k]
        for side in g.per_pair(mean)
    ]
    share, there = sides if left else sides[::-1]  # of one key of each class, in either row
    again, rest = share, np.ones_like(share)
    if own is not None:
        seen = np.moveaxis(np.broadcast_to(own, g.second.shape), at, -1)[..., :k]
        again = np.where(there > 0, seen / np.where(there > 0, there, 1.0), share)
        rest = _left(again, share)
    sizes = np.array(keys, dtype=np.float64)
    # sum over k of share_k d(k, y): all keys of every class, with y's own counted as such.
    axis = -2 if left else -1
    across = (other * _expand(share * sizes, axis)).sum(axis)
    diagonal = other[..., range(k), range(k)]
    total = again * same + (across - share * diagonal) * rest
    index = second if left else first
    return np.moveaxis(total[..., index], -1, at)


def _left(own: Array, share: Array) -> Array:
    """What is left for the other keys, over what would be if `own` were `share`."""
    return np.where(share < 1 - 1e-9, (1 - own) / np.maximum(1 - share, 1e-9), 0.0)


def _expand(values: Array, axis: int) -> Array:
    return values[..., :, None] if axis == -2 else values[..., None, :]


def contract_both(g: Field, mean: Array, at: int, own: Array | None = None) -> Array:
    """Sum_kl a_k a_l d_(k, l) of two rows, per kind of pair; see `contract_one`."""
    keys = g.cuts[at]
    k = len(keys)
    per_first, per_second = g.per_pair(mean)
    one = np.moveaxis(np.broadcast_to(per_first, g.second.shape), at, -1)[..., :k]
    two = np.moveaxis(np.broadcast_to(per_second, g.second.shape), at, -1)[..., :k]
    rows = np.moveaxis(g.second, at, -1)
    same, other = rows[..., :k], rows[..., k:].reshape(*rows.shape[:-1], k, k)
    sizes = np.array(keys, dtype=np.float64)
    again, left = one * two, np.ones(())
    if own is not None:
        again = np.moveaxis(np.broadcast_to(own, g.second.shape), at, -1)[..., :k]
        left = _left((again * sizes).sum(-1), (one * two * sizes).sum(-1))
    diagonal = other[..., range(k), range(k)]
    total = np.einsum("...cd,...c,...d->...", other, one * sizes, two * sizes)
    rest = total - (one * two * sizes * diagonal).sum(-1)
    total = (again * sizes * same).sum(-1) + rest * left
    return np.moveaxis(np.broadcast_to(total[..., None], rows.shape), -1, at)


def _row_sum(values: Array, f: Field, place: int) -> Array:
    """Sum over all pairs of keys, kept as an axis of length one."""
    weights = pairs.counts(f.cuts[place])
    return weighed(values, place, weights, keep=True)


def _row_mean(f: Field, covariance: Array, place: int) -> Array:
    """What a shift of whole rows does to the covariance: all that different keys have in common.

    A key that is a class by itself has it in common with the keys of the other classes: of each
    side its mean over those, less the mean over all.
    """
    cut = f.cuts[place]
    k, number = len(cut), pairs.counts(cut)[len(cut) :].reshape(len(cut), len(cut))
    rows = np.moveaxis(covariance, place, -1)
    other = rows[..., k:].reshape(*rows.shape[:-1], k, k)
    one = other[..., range(k), range(k)]
    alone = np.flatnonzero(np.diagonal(number) == 0)
    if len(alone) and k > 1:
        sides = (other * (number / number.sum(1, keepdims=True))).sum(-1)
        whole = (other * (number / number.sum())).sum((-1, -2))
        one, other = one.copy(), other.copy()
        one[..., alone] = 2 * sides[..., alone] - whole[..., None]
        other[..., alone, alone] = one[..., alone]
    across = np.concatenate([one, other.reshape(*rows.shape[:-1], k * k)], axis=-1)
    return np.moveaxis(across, -1, place)


def _same(f: Field, values: Array, place: int) -> Array:
    """Values of pairs within one row, against all pairs of keys."""
    result = values
    for other, cut in enumerate(f.cuts):
        if other != place:
            result = result.take(range(len(cut)), other)
    k = len(f.cuts[place])
    rows = np.moveaxis(result, place, 0).copy()
    rows[k:] = 0.0
    return np.moveaxis(rows, 0, place)


def _diagonal(values: Array, place: int, k: int) -> Array:
    return values.take(range(k), place)


def _same_rows(f: Field, diagonal: Array, uniform: Array, place: int) -> Array:
    """Logit variance per row, averaged over the keys it sees."""
    result, weights = (
        diagonal,
        np.broadcast_to(uniform, f.second.shape).take(range(len(f.cuts[place])), place),
    )
    for other, cut in enumerate(f.cuts):
        if other != place:
            result = result.take(range(len(cut)), other)
            weights = weights.take(range(len(cut)), other)
    sizes = np.array(f.cuts[place], dtype=np.float64)
    shape = [1] * result.ndim
    shape[place] = -1
    weights = weights * sizes.reshape(shape)
    total = weights.sum(place, keepdims=True)
    return np.asarray((result * weights).sum(place, keepdims=True) / np.maximum(total, 1e-300))


def _mean_weights(f: Field, uniform: Array, place: int) -> Array:
    """E a per class: E a_c times the sum of all weights of its row, which is one."""
    result = np.broadcast_to(uniform, f.second.shape)
    for other, cut in enumerate(f.cuts):
        if other != place:
            result = result.take(range(len(cut)), other)
    cut = f.cuts[place]
    return along(result, place, sum(cut) * pairs.given_first(cut))


def _participation(f: Field, variance: Array, visible: Array) -> tuple[Array, Array]:
    """(effective over true logit variance, what is left of the backward) per kind of pair."""
    shape = np.broadcast_shapes(variance.shape, visible.shape)
    rows = [
        participation(round(float(np.log(max(one, 1e-6))) * 20) / 20, round(float(keys)))
        for one, keys in zip(
            np.broadcast_to(variance, shape).ravel(),
            np.broadcast_to(visible, shape).ravel(),
            strict=True,
        )
    ]
    found = []
    for values in zip(*rows, strict=True):
        root = np.sqrt(np.array(values)).reshape(shape)
        first, other = f.per_pair(root)
        found.append(first * other)
    return found[0], found[1]


@lru_cache(maxsize=4096)
def participation(log_variance: float, keys: int) -> tuple[float, float]:
    """(effective over true variance, damping of the backward) of `keys` Gaussian logits."""
    variance = float(np.exp(log_variance))
    if keys < 2:
        return 1.0, 1.0
    rows = max(8, min(4096, 200_000 // keys))
    noise = np.random.default_rng(0).standard_normal((rows, keys))
    logits = np.sqrt(variance) * noise
    logits -= logits.max(1, keepdims=True)
    a = np.exp(logits)
    a /= a.sum(1, keepdims=True)
    squares = np.square(a).sum(1)
    inverse = float(squares.mean())
    inverse = min(max(inverse, 1 / keys * (1 + 1e-12)), 1 - 1e-9)
    effective = np.log((keys - 1) * inverse / (1 - inverse))
    # ds_j = a_j (d_j - sum a d) with independent d: a^2 (1 - 2 a + sum a^2).
    true = float((np.square(a) * (1 - 2 * a + squares[:, None])).sum(1).mean())
    naive = inverse * (1 - inverse)
    return float(effective / variance), true / naive
