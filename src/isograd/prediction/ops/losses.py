"""Losses over classes and of differences: their gradient by the outputs, for known targets."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isograd.prediction import targets
from isograd.prediction.backward.links import Link
from isograd.prediction.backward.responses import RESPONSE
from isograd.prediction.functions.classes import agreement, log_of_sum, participation
from isograd.prediction.functions.echoes import share_of
from isograd.prediction.functions.proportions import FACTORS
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import empirical
from isograd.prediction.moments.sums import multiplied
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.ops.arithmetic import combined
from isograd.prediction.ops.elementwise import of_one

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array
    from isograd.prediction.propagation import Call

_ORDER = {
    "cross_entropy": "weight size_average ignore_index reduce reduction label_smoothing",
    "nll_loss": "weight size_average ignore_index reduce reduction",
    "mse_loss": "size_average reduce reduction weight",
    "l1_loss": "size_average reduce reduction weight",
    "smooth_l1_loss": "size_average reduce reduction beta",
    "huber_loss": "reduction delta weight",
    "binary_cross_entropy": "weight size_average reduce reduction",
    "binary_cross_entropy_with_logits": "weight size_average reduce reduction pos_weight",
    "soft_margin_loss": "size_average reduce reduction",
    "kl_div": "size_average reduce reduction log_target",
}
"""Arguments after output and target, in torch's order."""


class Losses(Op):
    """Second moments of the gradient from those of outputs and targets, which are independent."""

    code = "losses"
    functions = tuple(_ORDER)
    source = "E (softmax - target)^2; slopes at Gaussian outputs, target by target"

    def apply(
        self,
        call: Call,
        input: Any,  # noqa: A002
        target: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Outcome:
        """One call of torch.nn.functional."""
        from isograd.prediction.functions import entrywise

        given = _named(call, args, kwargs)
        x = call.field(input)
        if call.name in ("cross_entropy", "nll_loss"):
            return _classes(call, x, target, given)
        if call.name == "kl_div":
            return _divergence(call, x, target, given)
        plain = x.nodes is None or any(len(cut) > 1 for cut in x.cuts)
        if not call.known(target) or (call.name == "mse_loss" and plain):
            return _difference(call, x, target, given)
        return entrywise.loss(call, x, target, given)


def _named(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    given = {**dict(zip(_ORDER[call.name].split(), args, strict=False)), **kwargs}
    average, reduce = given.pop("size_average", None), given.pop("reduce", None)
    given.setdefault("reduction", "mean")
    if reduce is False:
        given["reduction"] = "none"
    elif average is False:
        given["reduction"] = "sum"
    return {key: value for key, value in given.items() if value is not None}


def finished(
    x: Field, each: Field, slope: Field, given: dict[str, Any], total: float, inputs: list[Field],
    response: float | Array = 0.0,
) -> Outcome:  # fmt: skip
    """The outcome of a loss from its entries.

    Args:
        x: what the gradient is by.
        each: the loss of every entry.
        slope: its gradient by `x`, before the reduction.
        given: arguments of the call.
        total: what a mean is divided by.
        inputs: the fields that went in.
        response: E r r' of how that gradient answers to the entry of `x` itself, per kind of pair.
    """
    if given["reduction"] == "none":
        wide = slope.shape != each.shape  # over classes: one loss a row

        def spread(gradient: Field) -> list[tuple[Field, Field]]:
            g = gradient
            if wide:
                g = g.regrouped((*g.groups[:1], 0, *g.groups[1:]) if g.groups else (0,))
            g, s = aligned(g, slope)
            return [(x, g.like(g.second * s.second))]

        return Outcome(each, spread, inputs, formula="entry by entry")
    scale = 1.0 if given["reduction"] == "sum" else 1.0 / max(total, 1e-300)
    out = each.summed(range(len(each.cuts))).scaled(scale).regrouped(())

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        found = slope.like(slope.second * (gradient.energy * scale * scale))
        found.notes["kurtosis"] = 1.0  # most of it comes from targets, which are given
        if np.any(response):
            answer = response * (scale**2 * gradient.energy)
            found.notes[RESPONSE] = slope.like(np.broadcast_to(answer, slope.second.shape))
        return [(x, found)]

    return Outcome(out, back, inputs, formula=f"{given['reduction']} of {prod(each.shape):,}")


_SIMILAR, _WIDE = 0.1, 2.0
"""Variance of ln energy by which gradients of similarities are off, per variance of the logits; and
the largest such variance: of encoders' outputs those win that lie the others' mean way, which the
sum over winners holds, 20 to 30 % in rms."""

# -- classes -----------------------------------------------------------------------------------


def _classes(call: Call, x: Field, target: Any, given: dict[str, Any]) -> Outcome:
    """cross_entropy and nll_loss: (softmax - target) or -target, per row."""
    axis = 1 if len(x.groups) > 1 else 0
    number = x.shape[axis]
    rows, logits = _rows_and_classes(x, axis)
    smoothing = float(given.get("label_smoothing", 0.0))
    if isinstance(target, Tensor) and not target.is_floating_point():
        same, counted, total = _indices(call, target, rows, number, given)
    else:
        same = _probabilities(call, x, target, axis, rows)
        counted = rows.like(np.ones_like(rows.second), np.ones_like(rows.mean))
        total = float(prod(rows.shape))
    y = _distribution(same, number, smoothing)
    between = logits[..., 0] - logits[..., -1] if number > 1 else np.zeros(rows.second.shape)
    if call.name == "nll_loss":
        second, level = y, -x.average
        varied = logits[..., 0] * same + logits[..., -1] * (1 - same)
    elif number == 1:
        second, level = np.zeros_like(y), 0.0
        varied = np.zeros_like(same)
    else:
        own = np.maximum(rows.like(between).energies, 0.0)
        a, b = rows.per_pair(own) if rows.cuts else (own, own)
        won = participation(between, np.sqrt(a * b), number)
        p = np.stack([won / number, (1 - won) / (number * (number - 1))], axis=-1)
        second = p + y - 2 / number**2
        level = log_of_sum(rows.like(between).energy, number)
        varied = level**2 + between * (y[..., 0] * number - 1 / number)
    slope = _with_classes(x, axis, rows, second * counted.second[..., None])
    each = rows.like(varied * counted.second, level * counted.mean)
    answer: float | Array = 0.0
    if call.name == "cross_entropy" and number > 1:
        answer = _answers(slope, axis, averaged_share(rows, won))
    done = finished(x, each, slope, given, total, [x], answer)
    if call.name == "cross_entropy" and _similarities(call, x):
        _unsure(done, _SIMILAR * min(max(rows.like(between).energy, 0.0), _WIDE))
    if call.name == "cross_entropy" and call.known(target) and given["reduction"] != "none":
        _with_targets(
            done, target, 1.0 if given["reduction"] == "sum" else 1.0 / max(total, 1e-300)
        )
    return done


def _similarities(call: Call, x: Field) -> bool:
    """Whether logits are products of activations, as of two encoders."""
    plain = call.run.twins.plain
    factors = plain(x).notes.get(FACTORS, ())[:3:2]
    return bool(factors) and not any("draw" in plain(one).notes for one in factors)


def _unsure(done: Outcome, noise: float) -> None:
    """Widens the band of a gradient."""
    inner = done.back
    assert inner is not None

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        found = list(inner(gradient))
        for _, one in found:
            one.noise += noise
        return found

    done.back = back


def _with_targets(done: Outcome, target: Tensor, scale: float) -> None:
    """Notes which part of the gradient are the targets."""
    inner = done.back
    assert inner is not None
    if target.is_floating_point() or target.ndim != 1:
        return
    ids = array(target).astype(np.int64)

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        found = list(inner(gradient))
        targets.note(found[0][1], ids, -scale * gradient.energy**0.5)
        return found

    done.back = back


def _answers(slope: Field, axis: int, share: float) -> Array:
    """E S_aa S'_bb of S = diag p - p p', and of a class and itself its row's E S_ab S'_ab.

    Args:
        slope: the gradient by the logits.
        axis: of the classes.
        share: E sum p^2.
    """
    number, place = slope.shape[axis], slope.factors_of(axis)[0]
    answers = np.full(slope.second.shape, ((1 - share) / number) ** 2)
    np.moveaxis(answers, place, 0)[: len(slope.cuts[place])] = share * (1 - share) / number
    return answers


def averaged_share(rows: Field, won: Array) -> float:
    """E sum p^2 of a row."""
    return float(rows.like(np.asarray(won)).energy)


def _rows_and_classes(x: Field, axis: int) -> tuple[Field, Array]:
    """A field of the rows, for its layout, and second moments (ways of rows …, ways of classes)."""
    whole = x.as_one(axis)
    groups = (*whole.groups[:axis], *whole.groups[axis + 1 :])
    if not whole.groups[axis]:
        rows = whole.regrouped(groups)
        return rows.like(rows.second, rows.mean), whole.second[..., None]
    place = whole.factors_of(axis)[0]
    cuts = list(whole.cuts)
    cuts[place] = (whole.shape[axis],)
    whole = whole.recut(cuts)
    second = np.moveaxis(whole.second, place, -1)
    kept = (*whole.cuts[:place], *whole.cuts[place + 1 :])
    mean = np.asarray(whole.mean.take(0, place))
    return Field(np.asarray(second[..., 0]), kept, groups, mean), second


def _with_classes(x: Field, axis: int, rows: Field, second: Array) -> Field:
    """A gradient laid out as `x` from second moments (ways of rows …, ways of classes)."""
    number = x.shape[axis]
    place = sum(rows.groups[:axis])
    groups = (*rows.groups[:axis], int(number > 1), *rows.groups[axis:])
    if number == 1:
        return Field(second[..., 0], rows.cuts, groups, np.zeros_like(rows.mean))
    cuts = (*rows.cuts[:place], (number,), *rows.cuts[place:])
    mean = np.zeros(tuple(len(cut) for cut in cuts))
    return Field(np.moveaxis(second, -1, place), cuts, groups, mean)


def _indices(
    call: Call, target: Tensor, rows: Field, number: int, given: dict[str, Any]
) -> tuple[Array, Field, float]:
    """P(two rows have the same target), the rows' weights, and the sum of those."""
    if not call.known(target):  # shapes only: any class is as likely as another
        same = np.full_like(rows.second, 1 / number)
        same[tuple(slice(0, len(cut)) for cut in rows.cuts)] = 1.0
        ones = rows.like(np.ones_like(rows.second), np.ones_like(rows.mean))
        return same, ones, float(prod(rows.shape))
    ids = array(target).astype(np.int64).reshape(rows.sizes)
    weight, table = given.get("weight"), np.ones(number)
    if isinstance(weight, Tensor) and call.known(weight):
        table = array(weight)
    seen = ids != given.get("ignore_index", -100)
    weights = np.where(seen, table[np.where(seen, ids, 0)], 0.0)
    counted = empirical(weights, rows.cuts).regrouped(rows.groups)
    return agreement(ids, weights, rows.cuts), counted, float(weights.sum())


def _distribution(same: Array, number: int, smoothing: float) -> Array:
    """E y_c y'_c' (…, ways of classes), averaged over classes, from E sum_c y_c y'_c."""
    hard = np.stack([same / number, (1 - same) / max(number * (number - 1), 1)], axis=-1)
    rest = 1 - smoothing
    return np.asarray(rest**2 * hard + (2 * rest * smoothing + smoothing**2) / number**2)


def _probabilities(call: Call, x: Field, target: Any, axis: int, rows: Field) -> Array:
    """E sum_c y_c y'_c of targets that are probabilities."""
    wide, y = aligned(x, known_like(call, target, x))
    _, second = _rows_and_classes(y, axis)
    if wide.cuts != x.cuts or second.shape[:-1] != rows.second.shape:
        raise call.refuse("has targets laid out otherwise than its logits", "measure instead")
    return np.asarray(second[..., 0] * x.shape[axis])


def known_like(call: Call, target: Any, x: Field) -> Field:
    """The field of a target on the factors and classes of `x`."""
    if not call.known(target):
        return call.field(target)
    values = array(target)
    if values.shape != x.shape:
        return call.field(target, x)
    return empirical(values.reshape(x.sizes), x.cuts).regrouped(x.groups)


def array(tensor: Tensor) -> Array:
    """The values of a known tensor."""
    with torch._C.DisableTorchFunction():
        return np.asarray(tensor.detach().double().cpu().numpy())


# -- differences -------------------------------------------------------------------------------


def _difference(call: Call, x: Field, target: Any, given: dict[str, Any]) -> Outcome:
    """Losses of x - target: squares exactly, others with a Gaussian difference."""
    y = known_like(call, target, x)
    if call.name == "mse_loss":
        function: Any = torch.square
    elif call.name in ("l1_loss", "smooth_l1_loss", "huber_loss"):
        rest = {k: v for k, v in given.items() if k not in ("reduction", "weight")}
        function = partial(_from_zero, getattr(torch.nn.functional, call.name), rest)
    else:
        return _between_two(call, x, target, y, given)
    apart = combined(call, "sub", x, y)
    d = apart.out.like(apart.out.second, apart.out.mean)
    if call.known(target) and (share := share_of(x, target)):
        whole, own = aligned(d, y)
        d = whole.like(whole.second - 2 * share * (own.second - own.products()), whole.mean)
    each = of_one(call, d, function)
    slope = of_one(call, d, _twice).out if call.name == "mse_loss" else None
    if slope is None:
        assert each.back is not None
        ones = d.like(np.ones_like(d.second))
        slope = next(g for where, g in each.back(ones) if where is d)
    answer = 4.0 if call.name == "mse_loss" else 0.0
    done = finished(d, each.out, slope, given, float(prod(d.shape)), [x, y], answer)

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        assert done.back is not None
        assert apart.back is not None
        return [pair for _, one in done.back(gradient) for pair in apart.back(one)]

    return Outcome(done.out, back, [x, y], formula=f"of the difference; {done.formula}")


def _between_two(call: Call, x: Field, target: Any, y: Field, given: dict[str, Any]) -> Outcome:
    """Losses of which the target is a share between two cases; an input as target has a law."""
    from isograd.prediction.functions import entrywise
    from isograd.prediction.sampling import sampled

    step = call.run.twins.made.get(id(y))
    while step is not None and isinstance(step.link, Link) and step.link.kind == "layout":
        step = call.run.twins.made.get(id(step.inputs[0]))
    if step is not None or "draw" in y.notes or not call.name.startswith("binary"):
        return sampled(call, x, y, **given)
    with torch._C.DisableTorchFunction():
        sign = torch.rand(target.shape, generator=torch.Generator().manual_seed(0)).sub(0.5).sign()
        spread = float(np.sqrt(max(y.energy - y.average**2, 0.0)))
        known = (y.average + spread * sign).clamp(0.0, 1.0)
    return entrywise.loss(call, x, known, given)


def _twice(difference: Tensor) -> Tensor:
    return 2 * difference


def _from_zero(function: Any, given: dict[str, Any], difference: Tensor) -> Tensor:
    found: Tensor = function(difference, torch.zeros_like(difference), reduction="none", **given)
    return found


def _divergence(call: Call, x: Field, target: Any, given: dict[str, Any]) -> Outcome:
    """kl_div(log p, t): entries t (ln t - log p), whose slope by log p is -t."""
    y = known_like(call, target, x)
    if call.known(target):
        t = array(target)
        t = np.exp(t) if given.get("log_target") else t
        y = known_like(call, torch.from_numpy(t), x)
        entropy = float((t * np.log(np.where(t > 0, t, 1.0))).mean())
    else:
        y = of_one(call, y, torch.exp).out if given.get("log_target") else y
        entropy = -of_one(call, y, torch.special.entr).out.average
    product = multiplied(x, y).out
    level = entropy - product.average
    shift = level**2 - product.average**2
    each = product.like(product.second + shift, np.full_like(product.mean, level))
    batch = given["reduction"] == "batchmean"
    total = float(x.shape[0] if batch and x.groups else prod(x.shape))
    _, slope = aligned(x, y)
    return finished(x, each, slope, given, total, [x])
