"""Convolutions: weights moved along spatial axes, plain, grouped, depthwise, transposed."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from isograd.prediction.backward import gains
from isograd.prediction.backward.links import Link
from isograd.prediction.backward.noise import noise_of
from isograd.prediction.backward.responses import (
    RESPONSE,
    WEIGHTED,
    along,
    coherent,
    response_of,
    rows_behind,
    varied,
)
from isograd.prediction.functions import filters
from isograd.prediction.functions.powers import Filter, note_convolved, powers_of
from isograd.prediction.functions.spread import (
    ALIKE,
    UNEQUAL,
    alike_of,
    once,
    read,
    shares_of,
    unequal,
)
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.means import fluctuation
from isograd.prediction.moments.sweeps import Sweep, contracted
from isograd.prediction.ops import Op, Outcome

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call


class Convolution(Op):
    """Sum over taps and channels; different weights are independent, so equal taps correlate."""

    code = "convolution"
    functions = tuple(
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d conv_tbc".split()
    )
    lines = functions
    source = "Xiao et al. 2018, eq. 2.3; borders, strides and groups counted"

    def apply(self, call: Call, *args: Any, **kwargs: Any) -> Outcome:
        """One call of any of the functions."""
        if call.name == "conv_tbc":
            return self._time_first(call, *args, **kwargs)
        if call.name.startswith("conv_transpose"):
            return self._transposed(call, *args, **kwargs)
        return self._plain(call, *args, **kwargs)

    def _plain(
        self, call: Call, input: Any, weight: Any, bias: Any = None,  # noqa: A002
        stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    ) -> Outcome:  # fmt: skip
        x, w = call.field(input), call.field(weight)
        sizes, taps = x.shape[-(len(w.shape) - 2) :], w.shape[2:]
        d = len(taps)
        strides, dilations = _each(stride, d), _each(dilation, d)
        sweeps = []
        for axis in range(d):
            reach = dilations[axis] * (taps[axis] - 1)
            if padding == "same":
                before, both = reach // 2, reach
            else:
                before = 0 if padding == "valid" else _each(padding, d)[axis]
                both = 2 * before
            steps = (sizes[axis] + both - reach - 1) // strides[axis] + 1
            sweeps.append(
                Sweep(steps, sizes[axis], taps[axis], strides[axis], before, dilations[axis])
            )
        return swept(call, x, w, bias, sweeps, groups, to="stepped")

    def _transposed(
        self, call: Call, input: Any, weight: Any, bias: Any = None,  # noqa: A002
        stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1,
        dilation: Any = 1,
    ) -> Outcome:  # fmt: skip
        x, w = call.field(input), call.field(weight)
        sizes, taps = x.shape[-(len(w.shape) - 2) :], w.shape[2:]
        d = len(taps)
        given = zip(
            sizes, taps, *(_each(v, d) for v in (stride, padding, output_padding, dilation)),
            strict=True,
        )  # fmt: skip
        sweeps = [
            Sweep(n, (n - 1) * step - 2 * pad + apart * (k - 1) + more + 1, k, step, pad, apart)
            for n, k, step, pad, more, apart in given
        ]
        return swept(call, x, w, bias, sweeps, groups, to="read")

    def _time_first(self, call: Call, input: Any, weight: Any, bias: Any, pad: int = 0) -> Outcome:  # noqa: A002
        """`conv_tbc`: input (time, batch, channels), weight (taps, in, out)."""
        x, w = call.field(input), call.field(weight)
        turned, kernel = x.permuted((1, 2, 0)), w.permuted((2, 1, 0))
        taps = w.shape[0]
        sweep = Sweep(x.shape[0] + 2 * pad - taps + 1, x.shape[0], taps, 1, pad, 1)
        for one, start in ((turned, x), (kernel, w)):
            one.noise, one.condition, one.notes = start.noise, start.condition, start.notes
        found = swept(call, turned, kernel, bias, [sweep], 1, to="stepped")

        def back(gradient: Field) -> list[tuple[Field, Field]]:
            assert found.back is not None
            result = []
            for where, g in found.back(gradient.permuted((1, 2, 0))):
                if where is turned:
                    result.append((x, g.permuted((2, 0, 1))))
                elif where is kernel:
                    result.append((w, g.permuted((2, 1, 0))))
                else:
                    result.append((where, g))
            return result

        out = found.out.permuted((2, 0, 1))
        return Outcome(out, back, [x, w], formula=found.formula)


def swept(
    call: Call, x: Field, weight: Field, bias: Any, sweeps: list[Sweep], groups: int, *, to: str
) -> Outcome:
    """A convolution, to the side that is stepped over or (transposed) to the one that is read.

    Args:
        call: under way.
        x: (samples or none, channels, spatial axes).
        weight: (channels stepped, channels read of one group, taps), as both kinds have it.
        bias: one entry per channel of the output, or None.
        sweeps: one per spatial axis.
        groups: parts of the channels that do not mix.
        to: "stepped" or "read".
    """
    from isograd.prediction.moments.sums import added

    start = "read" if to == "stepped" else "stepped"
    kernel = _kernel(weight, groups)
    wide = _sides(x, groups, len(sweeps))
    out = _restored(contracted({start: wide, "weight": kernel}, to, sweeps), x)
    out.noise = x.noise + weight.noise + fluctuation(x) + fluctuation(weight)
    out.condition = x.condition + weight.condition
    offset = tall = None
    if bias is not None:
        offset = call.field(bias)
        tall = offset.reshaped((*offset.shape, *([1] * len(sweeps))))
        tall.noise, tall.condition, tall.notes = offset.noise, offset.condition, offset.notes
        out = added(call, out, tall, 1.0).out
    out.notes[WEIGHTED] = len(x.groups) - len(sweeps) - 1
    taps = [sweep.taps for sweep in sweeps]
    kurtosis = weight.notes.get("kurtosis", 3.0)
    stride = prod(sweep.stride for sweep in sweeps) ** (1 / max(len(sweeps), 1))
    few = Filter(wide.shape[2], tuple(taps), stride, kurtosis)
    if to == "stepped":
        shares = once(partial(shares_of, wide, sweeps))
        out.notes[UNEQUAL] = partial(unequal, shares, kurtosis)
        out.notes[ALIKE] = read(x, wide, shares)
        filters.note(out, wide, sweeps, kurtosis)
        if len(x.groups) == len(sweeps) + 2:
            left = None
            if wide.shape[2] == 1 and x.nodes is not None and x.origin is not None:
                table = x.origin.like(x.nodes.cumulants(x.origin))
                left = filters.cumulant(_sides(table, groups, len(sweeps)), sweeps, kurtosis)
            note_convolved(out, x, few, groups, left)

    def to_bias(gradient: Field) -> Field:
        assert offset is not None
        sums = gradient.summed_to((*offset.shape, *([1] * len(sweeps))))
        return sums.reshaped(offset.shape)

    def ahead(p: Field, q: Field) -> Field:
        sides = {start: _sides(p, groups, len(sweeps)), "weight": _kernel(q, groups)}
        return _restored(contracted(sides, to, sweeps), x)

    def behind(gradient: Field, factor: Field, place: int) -> Field:
        g = _sides(gradient, groups, len(sweeps))
        if place == 0:
            sides = {to: g, "weight": _kernel(factor, groups)}
            return _restored(contracted(sides, start, sweeps, wide), x)
        sides = {to: g, start: _sides(factor, groups, len(sweeps))}
        return _grouped(contracted(sides, "weight", sweeps, kernel), 0)

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        result = []
        g = _sides(gradient, groups, len(sweeps))
        noise = noise_of(gradient, g, _places(g), weighs=call.run.weighs)
        response, channels = response_of(gradient), len(x.groups) - len(sweeps) - 1

        def onto(r: Field, squares: Field) -> Field:
            sides = {to: _sides(r, groups, len(sweeps)), "weight": squares}
            return _restored(contracted(sides, start, sweeps, wide), x)

        if offset is not None and "fixed" not in offset.notes:
            result.append((offset, to_bias(gradient)))
            result[-1][1].noise = noise.arrived
        met = g
        if len(x.groups) == len(sweeps) + 2:
            met = _sides(gains.weighing(gradient, x), groups, len(sweeps))
        for where, sides in ((x, {to: g, "weight": kernel}), (weight, {to: met, start: wide})):
            if where.notes.get("fixed"):
                continue
            name, like = (start, wide) if where is x else ("weight", kernel)
            found = contracted(sides, name, sweeps, like)
            one = _restored(found, x) if where is x else _grouped(found, 0)
            rate = filters.slope(gradient, out) if where is x else None
            if rate is not None:
                found = filters.tilted(_sides(rate, groups, len(sweeps)), kernel, found, sweeps)
                one = _restored(found, x)
            if where is x:  # the weights that made a channel large made its gradient small
                more, left = gradient.notes.get(UNEQUAL, (0.0, 0.0))
                one = one.scaled(((1 + left) / (1 + more)) ** 0.5)
            if response is not None and where is weight:
                spread = {to: _sides(response, groups, len(sweeps)), start: varied(wide, 2)}
                more = _grouped(contracted(spread, "weight", sweeps, kernel), 0)
                kept = 1 + wide.shape[2] * alike_of(x)
                one = coherent(one, more.scaled(kept**0.5), weight)
            elif response is not None:
                one.notes[RESPONSE] = rows_behind(
                    gradient, channels, kernel, wide.shape[2], onto, channels
                )
                one = along(one, x, channels)
            if where is weight:
                noise.of_weights(one, wide, _places(wide))
            else:
                noise.behind(one, None, x.shape[channels] * prod(kernel.shape[3:]))
                gains.through_weights(one, gradient, few, powers_of(x)[0])
            result.append((where, one))
        return result

    formula = "taps in bounds * n E x^2 E w^2; other positions: taps in bounds of both"
    link = Link("product", ahead, behind, bias=to_bias)
    inputs = [x, weight, *([] if tall is None else [tall])]
    return Outcome(out, back, inputs, formula=formula, link=link)


def _sides(f: Field, groups: int, d: int) -> Field:
    """(samples, groups, channels of one group, spatial axes); single factors but for samples."""
    shape = f.shape if len(f.groups) == d + 2 else (1, *f.shape)
    made = f.reshaped((shape[0], groups, shape[1] // groups, *shape[2:]))
    return _merged(made, range(1, len(made.groups)))


def _places(f: Field) -> list[int]:
    """Factors of samples and places of what `_sides` gives."""
    axes = (0, *range(3, len(f.groups)))
    return [place for axis in axes for place in f.factors_of(axis)]


def _kernel(weight: Field, groups: int) -> Field:
    shape = weight.shape
    made = weight.reshaped((groups, shape[0] // groups, *shape[1:]))
    made = _merged(made, range(len(made.groups)))
    mixing = sum(made.groups[:3])  # taps have one class
    return made.recut([*made.cuts[:mixing], *((sum(cut),) for cut in made.cuts[mixing:])])


def _merged(f: Field, axes: range) -> Field:
    for axis in axes:
        if f.groups[axis] > 1:
            f = f.as_one(axis)
    return f


def _restored(f: Field, like: Field) -> Field:
    """Groups and their channels as one axis again, without samples if `like` has none."""
    made = _grouped(f, 1)
    return made if len(made.groups) == len(like.groups) else made.regrouped(made.groups[1:])


def _grouped(f: Field, axis: int) -> Field:
    groups = f.groups
    return f.regrouped((*groups[:axis], groups[axis] + groups[axis + 1], *groups[axis + 2 :]))


def _each(value: Any, d: int) -> tuple[int, ...]:
    """One number per spatial axis."""
    given = (int(value),) * d if isinstance(value, int) else tuple(int(v) for v in value)
    return given * d if len(given) == 1 else given
