"""Losses: what is known of their gradient by the outputs, for targets that are known."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isograd.prediction import pairs
from isograd.prediction.classes import agreement, log_of_sum, participation
from isograd.prediction.fields import Field, aligned, empirical, scalar
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.ops.arithmetic import combined, multiplied
from isograd.prediction.ops.elementwise import as_nodes, evaluated, of_one

if TYPE_CHECKING:
    from isograd.prediction.pairs import Array
    from isograd.prediction.propagation import Call

_TERMS = 8
"""Of Hermite series of a loss's slope."""
_LEVELS = 64
"""Distinct targets at which such a series is computed; between them it is interpolated."""
_ENTRIES = 500_000
"""Targets that are looked at; of more, a part of the batch."""


class Losses(Op):
    """The gradient's second moments from those of outputs and targets, independent of each other."""

    code = "losses"
    functions = tuple(
        "cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy "
        "binary_cross_entropy_with_logits soft_margin_loss kl_div".split()
    )
    source = "E (softmax - target)^2; slopes at Gaussian outputs, target by target"

    def apply(self, call: Call, x: Any, target: Any, *args: Any, **kwargs: Any) -> Outcome:
        """One call of torch.nn.functional."""
        given = _named(call, args, kwargs)
        if call.name in ("cross_entropy", "nll_loss"):
            return _classes(call, call.field(x), target, given)
        if call.name == "kl_div":
            return _divergence(call, call.field(x), target, given)
        if call.name == "mse_loss" or not call.known(target):
            return _difference(call, call.field(x), target, given)
        return _elementwise(call, call.field(x), target, given)


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


def _named(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    given = {**dict(zip(_ORDER[call.name].split(), args, strict=False)), **kwargs}
    average, reduce = given.pop("size_average", None), given.pop("reduce", None)
    given.setdefault("reduction", "mean")
    if reduce is False:
        given["reduction"] = "none"
    elif average is False:
        given["reduction"] = "sum"
    return {key: value for key, value in given.items() if value is not None}


def _finished(
    x: Field, each: Field, slope: Field, given: dict[str, Any], total: float, inputs: list[Field]
) -> Outcome:
    """The outcome of a loss from its entries.

    Args:
        x: what the gradient is by.
        each: the loss of every entry (only its moments).
        slope: its gradient by `x`, before the reduction.
        given: arguments.
        total: what a mean is divided by.
        inputs: the fields that went in.
    """
    mode = given["reduction"]
    if mode == "none":

        def spread(gradient: Field) -> list[tuple[Field, Field]]:
            g, s = aligned(gradient, slope)
            return [(x, g.like(g.second * s.second))]

        return Outcome(each, spread, inputs, formula="entry by entry")
    number = prod(each.shape)
    scale = 1.0 if mode == "sum" else 1.0 / max(total, 1e-300)
    out = scalar(each.average * number * scale)

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        found = slope.like(slope.second * (gradient.energy * scale * scale))
        found.notes["kurtosis"] = 1.0  # most of it comes from targets, which are given
        return [(x, found)]

    return Outcome(out, back, inputs, formula=f"{mode} over {number:,} entries")


# -- classes -----------------------------------------------------------------------------------


def _classes(call: Call, x: Field, target: Any, given: dict[str, Any]) -> Outcome:
    """cross_entropy and nll_loss: (softmax - target) or -target, per row."""
    axis = 1 if len(x.groups) > 1 else 0
    number = x.shape[axis]
    rows, logits = _rows_and_classes(x, axis)
    weight = given.get("weight")
    if isinstance(target, Tensor) and not target.is_floating_point():
        same, counted, total = _indices(call, target, rows, number, given)
        y = _distribution(same, number, float(given.get("label_smoothing", 0.0)))
    else:
        y = _probabilities(call, x, target, axis, float(given.get("label_smoothing", 0.0)))
        counted = rows.like(np.ones_like(rows.second), np.ones_like(rows.mean))
        total = float(prod(rows.shape))
    del weight
    plain = call.name == "nll_loss"
    v = np.maximum(logits[..., 0] - logits[..., 1], 0.0) if number > 1 else np.zeros(1)
    if plain or number == 1:
        second = y if plain else np.zeros_like(y)
        level = -x.average
    else:
        between = logits[..., 0] - logits[..., 1]
        won = participation(between, number)
        p = np.stack([won / number, (1 - won) / (number * (number - 1))], axis=-1)
        second = p + y - 2 / number**2
        own = float(_diagonal(rows, v))
        level = log_of_sum(own, number)
    slope = _with_classes(x, axis, rows, second * counted.second[..., None])
    each = rows.like(np.full_like(rows.second, level * level), np.full_like(rows.mean, level))
    each = each.like(each.second * counted.second, each.mean * counted.mean)
    inputs = [x] if not isinstance(target, Tensor) or call.known(target) else [x]
    return _finished(x, each, slope, given, total, inputs)


def _rows_and_classes(x: Field, axis: int) -> tuple[Field, Array]:
    """A field of the rows, for its layout, and second moments (ways of rows …, ways of classes)."""
    whole = x.as_one(axis)
    if not whole.groups[axis]:
        rows = whole.regrouped((*whole.groups[:axis], *whole.groups[axis + 1 :]))
        return rows.like(rows.second, rows.mean), whole.second[..., None]
    place = whole.factors_of(axis)[0]
    cuts = list(whole.cuts)
    cuts[place] = (whole.shape[axis],)
    whole = whole.recut(cuts)
    second = np.moveaxis(whole.second, place, -1)
    groups = (*whole.groups[:axis], *whole.groups[axis + 1 :])
    mean = whole.mean.take(0, place)
    kept = (*whole.cuts[:place], *whole.cuts[place + 1 :])
    return Field(second[..., 0], kept, groups, mean), second


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


def _diagonal(rows: Field, values: Array) -> float:
    """Average over rows of what is given per way."""
    return rows.like(values, rows.mean).energy


def _indices(
    call: Call, target: Tensor, rows: Field, number: int, given: dict[str, Any]
) -> tuple[Array, Field, float]:
    """P(two rows have the same target), the rows' weights, and the sum of those."""
    if not call.known(target):
        same = np.full_like(rows.second, 1 / number)
        same[tuple(slice(0, len(cut)) for cut in rows.cuts)] = 1.0
        ones = rows.like(np.ones_like(rows.second), np.ones_like(rows.mean))
        return same, ones, float(prod(rows.shape))
    with torch._C.DisableTorchFunction():
        ids = target.detach().cpu().numpy().reshape(rows.sizes)
        weight = given.get("weight")
        table = np.ones(number)
        if isinstance(weight, Tensor) and call.known(weight):
            table = weight.detach().double().cpu().numpy()
    seen = ids != given.get("ignore_index", -100)
    weights = np.where(seen, table[np.where(seen, ids, 0)], 0.0)
    counted = empirical(weights, rows.cuts)
    found = agreement(ids, weights, rows.cuts)
    return found, counted.regrouped(rows.groups), float(weights.sum())


def _distribution(same: Array, number: int, smoothing: float) -> Array:
    """E y_c y'_c' (…, ways of classes), averaged over classes."""
    hard = np.stack([same / number, (1 - same) / max(number * (number - 1), 1)], axis=-1)
    rest = 1 - smoothing
    return np.asarray(rest**2 * hard + (2 * rest * smoothing + smoothing**2) / number**2)


def _probabilities(call: Call, x: Field, target: Any, axis: int, smoothing: float) -> Array:
    """Likewise for targets that are probabilities."""
    wide, y = aligned(x, _known_like(call, target, x))
    number = x.shape[axis]
    _, second = _rows_and_classes(y.like(y.second, y.mean), axis)
    rows, _ = _rows_and_classes(x, axis)
    del wide
    if second.shape[:-1] != rows.second.shape:
        raise call.refuse("has targets laid out otherwise than its logits", "measure instead")
    rest = 1 - smoothing
    return np.asarray(rest**2 * second + (2 * rest * smoothing + smoothing**2) / number**2)


def _known_like(call: Call, target: Any, x: Field) -> Field:
    """The field of a target on the factors and classes of `x`."""
    if not call.known(target):
        return call.field(target)
    values = _array(target)
    if values.shape != x.shape:
        return call.field(target, x)
    return empirical(values.reshape(x.sizes), x.cuts).regrouped(x.groups)


def _array(target: Tensor) -> Array:
    with torch._C.DisableTorchFunction():
        return np.asarray(target.detach().double().cpu().numpy())


# -- entry by entry ----------------------------------------------------------------------------


def _difference(call: Call, x: Field, target: Any, given: dict[str, Any]) -> Outcome:
    """Losses of x - target: squares exactly, others with a Gaussian difference."""
    y = _known_like(call, target, x)
    shape = x.shape if prod(x.shape) >= prod(y.shape) else y.shape
    apart = combined(call, "sub", x, y)
    if call.name == "mse_loss":
        function: Any = torch.square
    elif call.name in ("l1_loss", "smooth_l1_loss", "huber_loss"):
        rest = {k: v for k, v in given.items() if k not in ("reduction", "weight")}
        function = partial(_from_zero, getattr(torch.nn.functional, call.name), rest)
    else:
        from isograd.prediction.sampling import sampled_fields

        return sampled_fields(call, [x, y])
    scale = 1.0 if given["reduction"] == "sum" else 1.0 / max(prod(shape), 1)
    d = apart.out
    if call.name == "mse_loss" and given["reduction"] != "none":
        number = prod(shape)
        out = scalar(d.energy * number * scale)

        def back(gradient: Field) -> list[tuple[Field, Field]]:
            assert apart.back is not None
            found = d.like(d.second * (4 * gradient.energy * scale * scale))
            return list(apart.back(found))

        return Outcome(out, back, [x, y], formula="E (x - y)^2; slope 2 (x - y)")
    each = of_one(call, d, function)

    def spread(gradient: Field) -> list[tuple[Field, Field]]:
        assert each.back is not None
        assert apart.back is not None
        if given["reduction"] != "none":
            wide = np.full_like(d.second, gradient.energy * scale * scale)
            gradient = d.like(wide)
        result = []
        for where, one in each.back(gradient):
            result += list(apart.back(one)) if where is d else [(where, one)]
        return result

    if given["reduction"] == "none":
        return Outcome(each.out, spread, [x, y])
    return Outcome(scalar(each.out.average * prod(shape) * scale), spread, [x, y])


def _from_zero(function: Any, given: dict[str, Any], difference: Tensor) -> Tensor:
    return function(difference, torch.zeros_like(difference), reduction="none", **given)


def _elementwise(call: Call, x: Field, target: Tensor, given: dict[str, Any]) -> Outcome:
    """Losses entry by entry: Hermite series of value and slope at every target.

    The slope is that by the nearly Gaussian field of which `x` is a function, which then gets
    the gradient; `x` is told of its own.
    """
    origin, *_ = as_nodes(x)
    cuts = tuple((size,) for size in x.sizes)
    base = origin.recut(cuts)
    flat = x.recut(cuts)
    if x.nodes is not None and (flat.nodes is None or base is not origin):
        flat = of_one(call, base, lambda v: v).out  # several classes: taken as Gaussian itself
        origin, base = x, x.recut(cuts)
    _, values, slopes, quadrature = as_nodes(flat if flat.nodes is not None else base)
    weights = quadrature.weights.reshape(-1)
    basis = quadrature.basis.reshape(len(weights), -1)[:, :_TERMS]
    known = _array(target)
    known = np.broadcast_to(known, x.shape) if known.shape != x.shape else known
    grid, place = _grid(known, x)
    table = _weights(call, given, x, place[0].shape if place else known.shape)
    function = partial(_at_targets, call.function, given)
    wide = np.broadcast_to(values.reshape(1, -1), (len(grid), len(weights)))
    loss, own, _ = evaluated(
        lambda v, t: function(v, t), wide, np.broadcast_to(grid[:, None], wide.shape).copy()
    )
    by_origin = own * slopes.reshape(1, -1)
    reading = _Reading(grid, place, table, x, base, basis, weights)
    mean, second = reading.moments(loss)
    each = flat.like(second, np.full_like(flat.mean, mean))
    slope = base.like(reading.moments(by_origin)[1])
    done = _finished(origin, each, slope, given, float(prod(x.shape)), [x])
    if x is origin:
        return done
    direct = flat.like(reading.moments(own)[1])

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        assert done.back is not None
        part = _finished(x, each, direct, given, float(prod(x.shape)), [x]).back
        assert part is not None
        for where, one in part(gradient):
            call.run.arrive(where, one, passed_on=True)
        return list(done.back(gradient))

    return Outcome(done.out, back, [x], formula=done.formula)


class _Reading:
    """Pairs of entries of a function of output and target.

    Args:
        grid: targets at which the function is known.
        place: (values of the targets,) on the layout of `x`, a part of the batch.
        table: weight of each of them.
        x: the output, for its layout.
        base: the Gaussian field behind it.
        basis: (nodes, terms).
        weights: (nodes,).
    """

    def __init__(
        self, grid: Array, place: tuple[Array], table: Array, x: Field, base: Field,
        basis: Array, weights: Array,
    ) -> None:  # fmt: skip
        self.grid, self.targets, self.table = grid, place[0], table
        self.x, self.base, self.basis, self.weights = x, base, basis, weights

    def moments(self, values: Array) -> tuple[float, Array]:
        """(mean, E f f' per kind of pair) from (targets of the grid, nodes)."""
        base = self.base
        terms = values @ self.basis
        square = np.square(values) @ self.weights
        variance = float(np.maximum(base.energies - np.square(base.mean), 0.0).reshape(-1)[0])
        rho = np.zeros_like(base.second)
        if variance > 0:
            rho = np.clip((base.second - base.products()) / variance, -1.0, 1.0)
        total, power, mean = np.zeros_like(rho), np.ones_like(rho), 0.0
        cuts = tuple((size,) for size in self.targets.shape)
        for k in range(terms.shape[1]):
            entries = self._entries(terms[:, k])
            if k == 0:
                mean = float(entries.mean())
            if np.abs(entries).max() > 0:
                total += power * empirical(entries, cuts).second
            power = power * rho
        own = np.square(self.table) * np.interp(self.targets, self.grid, square)
        total[(0,) * total.ndim] = float(own.mean())
        return mean, total

    def _entries(self, column: Array) -> Array:
        return np.asarray(self.table * np.interp(self.targets, self.grid, column))


def _grid(known: Array, x: Field) -> tuple[Array, tuple[Array]]:
    """Targets at which a series is computed, and the targets on the factors of `x`."""
    laid = known.reshape(x.sizes)
    if laid.size > _ENTRIES and laid.ndim:
        laid = laid[: max(2, len(laid) * _ENTRIES // laid.size)]
    levels = np.unique(laid)
    if len(levels) > _LEVELS:
        levels = np.unique(np.quantile(levels, np.linspace(0, 1, _LEVELS)))
    return levels, (laid,)


def _weights(call: Call, given: dict[str, Any], x: Field, shape: tuple[int, ...]) -> Array:
    weight = given.get("weight")
    if not isinstance(weight, Tensor) or not call.known(weight):
        return np.ones(())
    wide = np.broadcast_to(_array(weight), x.shape).reshape(x.sizes)
    return np.asarray(wide[: shape[0]] if shape else wide)


def _at_targets(function: Any, given: dict[str, Any], x: Tensor, target: Tensor) -> Tensor:
    rest = {k: v for k, v in given.items() if k not in ("reduction", "weight")}
    if isinstance(rest.get("pos_weight"), Tensor):
        rest["pos_weight"] = rest["pos_weight"].detach().double().mean()
    return function(x, target.detach(), reduction="none", **rest)


def _divergence(call: Call, x: Field, target: Any, given: dict[str, Any]) -> Outcome:
    """kl_div(log p, t): entries t (ln t - log p), whose slope by log p is -t."""
    y = _known_like(call, target, x)
    if given.get("log_target"):
        y = of_one(call, y, torch.exp).out
    if call.known(target):
        t = _array(target)
        inner = np.exp(t) * t if given.get("log_target") else t * np.log(np.where(t > 0, t, 1.0))
        entropy = float(inner.mean())
    else:
        entropy = of_one(call, y, torch.special.entr).out.average * -1.0
    level = entropy - multiplied(call, x, y).out.average
    wide, slope = aligned(x, y)
    each = wide.like(np.full_like(wide.second, level**2), np.full_like(wide.mean, level))
    batch = given["reduction"] == "batchmean"
    total = float(x.shape[0] if batch and x.groups else prod(x.shape))
    return _finished(x, each, slope.like(slope.second), given, total, [x])


_ = pairs
