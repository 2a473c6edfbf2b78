"""Batch, layer, group, instance and RMS norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from isograd.prediction.backward import responses
from isograd.prediction.backward.gains import hand_back
from isograd.prediction.backward.gates import PROFILES, standardized
from isograd.prediction.backward.gradients import moment_of
from isograd.prediction.backward.holding import DIVIDED
from isograd.prediction.backward.links import Link
from isograd.prediction.backward.responses import WEIGHTED, through_norm, weighted
from isograd.prediction.functions.filters import TILT, VARIED, handed_on, variance
from isograd.prediction.functions.mixtures import LAW, note_standardized
from isograd.prediction.functions.norms import (
    averaged_over,
    averaged_same,
    few_inputs,
    fluctuating,
    own_at,
    per_pair_of,
    unlike_lengths,
)
from isograd.prediction.functions.powers import POWERS, note_normalized
from isograd.prediction.functions.spread import ALIKE, UNEQUAL
from isograd.prediction.moments import pairs
from isograd.prediction.moments.aligning import aligned, in_pieces
from isograd.prediction.moments.axes import of_entries, weighed
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.means import fluctuation
from isograd.prediction.ops import Op, Outcome

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call


_UNSURE = 6e-4
"""Variance of ln(energy) by which a gradient is off after one batch norm: see LOG.md."""
_UNSURE_OF_FEW = 0.012
"""ln(energy) by which each batch norm behind a depthwise convolution adds to that, all alike."""


class Normalization(Op):
    """(x - mean) / std over some axes, then a learned scale and shift."""

    code = "normalization"
    functions = tuple(
        "layer_norm batch_norm group_norm instance_norm rms_norm fused_rms_norm".split()
    )
    lines = functions
    source = "Yang et al. 2019, section 3; Ba et al. 2016"

    def apply(self, call: Call, x: Any, *args: Any, **kwargs: Any) -> Outcome:
        """One call of any of the functions."""
        name = call.name.removeprefix("native_").removeprefix("fused_")
        done: Outcome = getattr(self, f"_{name}")(call, call.field(x), *args, **kwargs)
        return done

    def _layer_norm(
        self,
        call: Call,
        f: Field,
        normalized_shape: Sequence[int],
        weight: Any = None,
        bias: Any = None,
        eps: float = 1e-5,
        cudnn_enable: bool = True,
    ) -> Outcome:
        del cudnn_enable
        ndim = len(f.groups)
        axes = range(ndim - len(normalized_shape), ndim)
        units = -1 if len(normalized_shape) == 1 else None
        return affine(call, f, normalized(call, f, axes, eps, units=units), weight, bias)

    def _rms_norm(
        self,
        call: Call,
        f: Field,
        normalized_shape: Sequence[int],
        weight: Any = None,
        eps: float | None = None,
    ) -> Outcome:
        ndim = len(f.groups)
        axes = range(ndim - len(normalized_shape), ndim)
        units = -1 if len(normalized_shape) == 1 else None
        found = normalized(call, f, axes, eps or 1e-7, centered=False, units=units)
        return affine(call, f, found, weight, None)

    def _batch_norm(
        self,
        call: Call,
        f: Field,
        running_mean: Any = None,
        running_var: Any = None,
        weight: Any = None,
        bias: Any = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
        *_: Any,
    ) -> Outcome:
        del momentum
        axes = [axis for axis in range(len(f.groups)) if axis != 1]
        shape = [1] * len(f.groups)
        shape[1] = f.shape[1]
        if training or running_mean is None:
            found = normalized(call, f, axes, eps, drawn=True, units=1)
            note_normalized(found.out, f, variance(found.out))
            note_standardized(found.out, f)
        else:
            found = _frozen(call, f, running_mean, running_var, eps)
        return affine(call, f, found, weight, bias, tuple(shape))

    def _instance_norm(
        self,
        call: Call,
        f: Field,
        running_mean: Any = None,
        running_var: Any = None,
        weight: Any = None,
        bias: Any = None,
        use_input_stats: bool = True,
        momentum: float = 0.1,
        eps: float = 1e-5,
        *_: Any,
    ) -> Outcome:
        del momentum
        shape = [1] * len(f.groups)
        shape[1] = f.shape[1]
        if use_input_stats:
            found = normalized(call, f, range(2, len(f.groups)), eps, drawn=True, units=1)
        else:
            found = _frozen(call, f, running_mean, running_var, eps)
        return affine(call, f, found, weight, bias, tuple(shape))

    def _group_norm(
        self,
        call: Call,
        f: Field,
        num_groups: int,
        weight: Any = None,
        bias: Any = None,
        eps: float = 1e-5,
        *_: Any,
    ) -> Outcome:
        shape = f.shape
        apart = (shape[0], num_groups, shape[1] // num_groups, *shape[2:])
        split = in_pieces(f, 1, shape[1] // num_groups).reshaped(apart)
        split.noise, split.condition = f.noise, f.condition
        inner = normalized(call, split, range(2, len(apart)), eps, drawn=True)
        out = inner.out.reshaped(shape)
        out.notes["batch statistics"] = True
        weighted(out, f)

        def back(gradient: Field) -> list[tuple[Field, Field]]:
            assert inner.back is not None
            given = gradient.reshaped(apart)
            if "moment" in gradient.notes:
                given.notes["moment"] = gradient.notes["moment"].reshaped(apart)
            ((_, g),) = inner.back(given)
            result = g.reshaped(shape)
            through_norm(result, gradient, f, 1, apart[2])
            result.notes[DIVIDED] = True
            return [(f, result)]

        out.noise, out.condition = inner.out.noise, inner.out.condition
        found = Outcome(out, back, [f], formula=inner.formula)
        wide = (1, shape[1], *([1] * (len(shape) - 2)))
        return affine(call, f, found, weight, bias, wide)


_SETTLED = 1e-12
"""Condition of what no longer depends on the scale of its input; 0 stands for not known."""


def normalized(
    call: Call,
    f: Field,
    axes: Sequence[int],
    eps: float,
    *,
    centered: bool = True,
    drawn: bool = False,
    units: int | None = None,
) -> Outcome:
    """(x - mean x) / sqrt(var x + eps) over axes.

    Backward (g - mean g - xhat mean(g xhat)) / std; `mean(g xhat)` is kept for every pair of the
    remaining indices.

    Args:
        call: under way.
        f: the input.
        axes: of the tensor; statistics are taken over them.
        eps: added to the variance.
        centered: whether the mean is taken away.
        drawn: whether the statistics are of few correlated values, so that 1 / var fluctuates.
        units: axis of units that remain one's own but for their scale.
    """
    del call
    places = [place for axis in axes for place in f.factors_of(axis)]
    inner = f.centered(places) if centered else f.second
    variance = averaged_same(f, inner, places)
    scale = per_pair_of(f, variance + eps, places)
    second = inner / scale
    mean = f.mean
    for place in sorted(places):
        if centered:
            mean = mean - weighed(mean, place, of_entries(f.cuts[place]), keep=True)
    mean = mean / np.sqrt(variance + eps)
    excess = 0.0
    if drawn:
        change, excess = fluctuating(f, second, places)
        second = second + change
    out = f.like(second, mean)
    out.noise = f.noise * float(np.mean(eps / (variance + eps))) ** 2 or _SETTLED
    out.condition = f.condition * float(np.mean(eps / (variance + eps))) or _SETTLED
    if units is not None:
        weighted(out, f)
    if drawn:
        out.notes["batch statistics"] = True
        handed_on(out, f)
        if ALIKE in f.notes:
            out.notes[ALIKE] = f.notes[ALIKE]

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        divided = (f.noise + fluctuation(f)) * float(np.mean(variance / (variance + eps))) ** 2
        known = [out, out.like(np.broadcast_to(scale, out.second.shape)), moment_of(gradient, out)]
        g, base, wide, moment = aligned(gradient, *known)
        at = [place for axis in axes for place in g.factors_of(axis)]
        found = g.centered(at) if centered else g.second
        few = few_inputs(f, out) if drawn else unlike_lengths(f, axes)
        along = averaged_over(moment, at, pairs.shares)
        alone = averaged_over(g.like(g.second * base.second), at, pairs.shares)
        found = found + (2 * alone - along) * base.second  # what goes with x itself is all gone
        for end in (0, 1):  # g xhat' mean(g' xhat') and the like, of two samples
            own = own_at(base, at, end)
            found = found - averaged_over(g.like(g.second * own), at, pairs.shares) * own
        result = g.like(found / wide.second * (1 + excess) * (1 + few))
        result.noise = gradient.noise + (_UNSURE if drawn else 0.0) + divided
        result.notes[DIVIDED] = True
        if drawn:
            hand_back(result, gradient)
        if units is not None and f.nodes is not None:
            kept = result.energy * float(wide.second.flat[0]) / max(gradient.energy, 1e-300)
            standardized(result, gradient, f.nodes, kept / ((1 + excess) * (1 + few)))
        if units is not None:
            together = f.shape[units] if units % len(f.groups) in axes else 1
            through_norm(result, gradient, f, units, together)
        if TILT in gradient.notes:
            tilt, size = aligned(gradient.notes[TILT], wide)
            result.notes[TILT] = tilt.like(tilt.second / size.second * (1 + excess) * (1 + few))
        if drawn and UNEQUAL in f.notes:
            result.noise = (math.sqrt(result.noise) + _UNSURE_OF_FEW) ** 2
            result.notes[UNEQUAL] = more = f.notes[UNEQUAL]()
            result.second = result.second * (1 + more[0])
        return [(f, result)]

    size = float(np.sqrt(scale).mean())

    def shared(c: Field) -> Field:
        at = [place for axis in axes for place in c.factors_of(axis)]
        return c.like((c.centered(at) if centered else c.second) / size)

    word = "(E x^2 - E mean^2)" if centered else "E x^2"
    link = Link("multiple", shared, shared)
    return Outcome(out, back, [f], formula=f"E x^2 / {word}", link=link)


def affine(
    call: Call,
    f: Field,
    found: Outcome,
    weight: Any,
    bias: Any,
    shape: tuple[int, ...] | None = None,
) -> Outcome:
    """Xhat gamma + beta."""
    out, gamma, beta = found.out, None, None
    if weight is not None:
        gamma = call.field(weight)
        wide = gamma if shape is None else gamma.reshaped(shape)
        a, b = aligned(out, wide)
        scaled = a.like(a.second * b.second, a.mean * b.mean)
        scaled.noise, scaled.condition = out.noise, out.condition
        out = scaled
    if bias is not None:
        from isograd.prediction.moments.sums import summed

        beta = call.field(bias)
        if beta.energy > 0:
            out = summed(out, beta if shape is None else beta.reshaped(shape))
    inner = found.out

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        result = []
        g = gradient
        if beta is not None:
            total = gradient.summed_to(beta.shape if shape is None else shape)
            result.append((beta, total.reshaped(beta.shape)))
        if gamma is not None:
            wide = gamma if shape is None else gamma.reshaped(shape)
            a, b = aligned(gradient, wide)
            g = a.like(a.second * b.second)
            g.noise = gradient.noise
            hand_back(g, gradient)
            responses.hand_back(g, gradient, gamma.energy)
            if TILT in gradient.notes:
                g.notes[TILT] = gradient.notes[TILT].scaled(gamma.energy**0.5)
            g.notes |= {key: gradient.notes[key] for key in PROFILES if key in gradient.notes}
            moment = gradient.notes.get("moment")
            if moment is None:
                b, x = aligned(gradient, inner)
                total = b.like(b.second * x.second).summed_to(wide.shape)
            else:  # g gamma xhat is the gradient times the output, but for a shift
                g.notes["moment"] = moment
                total = moment.scaled((gamma.energy or 1.0) ** -0.5).summed_to(wide.shape)
            result.append((gamma, total.reshaped(gamma.shape)))
        assert found.back is not None
        return [*result, *found.back(g)]

    for key in ("batch statistics", VARIED, POWERS, ALIKE, WEIGHTED):
        if key in inner.notes:
            out.notes[key] = inner.notes[key]
    if LAW in inner.notes and np.allclose(out.second, inner.second) and out.cuts == inner.cuts:
        out.notes[LAW] = inner.notes[LAW]
    inputs = [f, *(one for one in (gamma, beta) if one is not None)]
    return Outcome(out, back, inputs, formula=found.formula, link=_stretched(found.link, gamma))


def _stretched(link: Any, gamma: Field | None) -> Any:
    """A norm's link with its scale behind."""
    if gamma is None or not isinstance(link, Link):
        return link
    factor = gamma.average
    norm = link

    def ahead(c: Field) -> Field:
        assert norm.ahead is not None
        return norm.ahead(c.like(c.second * factor))

    return Link("multiple", ahead, ahead)


def _frozen(call: Call, f: Field, mean: Any, variance: Any, eps: float) -> Outcome:
    """Running statistics: a known shift and scale per channel."""
    from isograd.prediction.moments.sums import summed

    shape = [1] * len(f.groups)
    shape[1] = f.shape[1]
    shift = call.field(mean).reshaped(tuple(shape))
    squares = call.field((variance.double() + eps).rsqrt()).reshaped(tuple(shape))
    away = summed(f, shift, -1.0)
    a, b = aligned(away, squares)
    out = a.like(a.second * b.second, a.mean * b.mean)
    out.noise, out.condition = f.noise, f.condition

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        g, s = aligned(gradient, squares)
        result = g.like(g.second * s.second)
        return [(f, result)]

    return Outcome(out, back, [f], formula="running statistics")
