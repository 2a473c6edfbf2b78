"""Sampling: what an operation without a rule does to fields, found by running it.

Inputs are drawn from their fields, the operation runs, and the moments of what comes out are
counted; backward likewise, by vector-Jacobian products with drawn gradients. The draws match the
first two moments of the fields, so that an operation that is linear has next to no error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isograd.prediction.moments.fields import Field, Shape
from isograd.prediction.moments.samples import counted, draw, mapped, origin_of, slopes_at
from isograd.prediction.ops import Outcome
from isograd.sites.randomness import reseed

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array, Sizes
    from isograd.prediction.propagation import Call

_SEED = 1_618_033
_BATCH_AT = 1_000_000
"""Entries from which on only a part of the batch is drawn."""
_MOST = 3_000_000
"""Entries beyond which an operation is not run at all."""
_ENTRIES = 1_000_000
"""Entries of all repetitions together that are aimed at: 1 / sqrt of it is 0.1 %."""
_REPEATS = (4, 1000)
_BAND = 0.1**2
"""Variance of the log of the energy: 5 % in rms, for what Gaussian draws do not show."""
_HIDDEN = -1e9
"""Value of a logit that is not looked at."""
_CURE = "add a rule in one file of isograd/prediction/ops, or use isograd.measure on one batch"


def sampled(call: Call, *args: Any, **kwargs: Any) -> Outcome:
    """The outcome of one call of any torch function, estimated.

    Args:
        call: under way.
        args: of the function; abstract tensors and parameters (or their fields) are drawn.
        kwargs: likewise.

    Raises:
        PredictionError: it is too large, does not run on drawn values, or gives no finite numbers.
    """
    return _Trial(call, args, kwargs).outcome()


def sampled_fields(call: Call, fields: Sequence[Field]) -> Outcome:
    """The outcome of the function of a call for `fields` as its arguments, estimated."""
    return _Trial(call, tuple(fields), {}).outcome()


class _Trial:
    """An operation, the fields that go into it, and how much of the batch is drawn."""

    def __init__(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.call = call
        self.template = (args, kwargs)
        self.fields: list[Field] = []
        batched = []
        for leaf in _leaves(self.template):
            found = self._field(leaf)
            if found is None or any(found is one for one in self.fields):
                continue
            self.fields.append(found)
            if isinstance(leaf, Field) or call.run.field_of(leaf) is not None:
                batched.append(found)
        self._choose_batch(batched or self.fields)
        # What is a function of another field is drawn there, once for all functions of it.
        drawn = [origin_of(f) for f in self.fields]
        self.sources = list({id(one): one for one in drawn}.values())
        self.source_of = [next(i for i, s in enumerate(self.sources) if s is f) for f in drawn]
        self.shrinking |= {
            id(s) for s, f in zip(drawn, self.fields, strict=True) if id(f) in self.shrinking
        }
        total = sum(prod(self.fewer(f).shape) for f in self.sources)
        self.repeats = int(np.clip(_ENTRIES // max(total, 1), *_REPEATS))
        self.dtype = torch.float64 if total < _BATCH_AT // 4 else torch.float32

    def _field(self, leaf: Any) -> Field | None:
        """The field of an argument that is to be drawn."""
        if isinstance(leaf, Field):
            return leaf
        if not isinstance(leaf, Tensor) or self.call.known(leaf):
            return None
        return self.call.field(leaf)

    # -- a part of the batch --------------------------------------------------------------------

    def _choose_batch(self, fields: Sequence[Field]) -> None:
        """Sets (entries, of how many) of the first factor that are drawn; None for all."""
        self.batch: tuple[int, int] | None = None
        largest = max(fields, key=lambda f: prod(f.shape))
        total = prod(largest.shape)
        self.length = largest.shape[0] if largest.groups else 1
        self.shrinking = {id(f) for f in fields if f.groups and f.shape[0] == self.length}
        if total <= _BATCH_AT:
            return
        if largest.groups[0]:
            size = largest.sizes[0]
            few = max(2, _BATCH_AT * size // total)
            if few < size and total // size * few <= _MOST:
                self.batch = (few, size)
                return
        if total > _MOST:
            raise self.call.refuse(
                f"has no rule and is too large to be sampled ({total:,} numbers)",
                "predict a smaller input, or add a rule in one file of isograd/prediction/ops",
            )

    def fewer(self, f: Field) -> Field:
        """An input on the part of the batch that is drawn."""
        return self._resized(f, *self.batch) if self.batch and id(f) in self.shrinking else f

    def _resized(self, f: Field, few: int, of: int) -> Field:
        """A field with `few` entries of the first factor for every `of`."""
        if not f.groups or not f.groups[0]:
            return f
        size = f.sizes[0]
        flat = f.recut(((size,), *f.cuts[1:]))
        cuts = ((size * few // of,), *flat.cuts[1:])
        result = flat._with(flat.second, flat.mean, cuts, f.groups, flat.nodes)
        result.affine = f.affine
        return result

    def _whole(self, f: Field) -> Field:
        """Back from the part to the whole batch."""
        return f if self.batch is None else self._resized(f, self.batch[1], self.batch[0])

    def _cut(self, known: Tensor) -> Tensor:
        """What of a known tensor belongs to the part of the batch."""
        if self.batch is None or known.ndim < 2 or known.shape[0] != self.length:
            return known
        return known[: self.length * self.batch[0] // self.batch[1]]

    # -- running --------------------------------------------------------------------------------

    def _drawn(self) -> list[Array]:
        """Values of every source, (repetitions, factors …); the same at every call."""
        generator = torch.Generator().manual_seed(_SEED)
        return [draw(self.fewer(f), self.repeats, generator) for f in self.sources]

    def _runs(self) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """(inputs, one a field; outputs) of every repetition."""
        drawn = self._drawn()
        made = [
            drawn[at] if self.sources[at] is f else mapped(self.fewer(f), drawn[at])
            for f, at in zip(self.fields, self.source_of, strict=True)
        ]
        with torch.random.fork_rng(devices=[]):  # operations that draw numbers themselves
            reseed(_SEED)
            for repeat in range(self.repeats):
                yield self._run([values[repeat] for values in made])

    def _run(self, values: list[Array]) -> tuple[list[Tensor], list[Tensor]]:
        inputs: list[Tensor] = []
        with torch._C.DisableTorchFunction(), torch.enable_grad():
            for f, value in zip(self.fields, values, strict=True):
                x = torch.tensor(value.reshape(self.fewer(f).shape), dtype=self.dtype)
                inputs.append(x.requires_grad_())
            args, kwargs = _swapped(self.template, lambda leaf: self._argument(leaf, inputs))
            try:
                self.result = self.call.function(*args, **kwargs)
            except Exception as error:
                first = (str(error).strip() or type(error).__name__).splitlines()[0]
                why = f"has no rule and does not run on drawn values ({first})"
                raise self.call.refuse(why, _CURE) from error
        return inputs, [t for t in _leaves(self.result) if _is_real(t)]

    def _argument(self, leaf: Any, inputs: list[Tensor]) -> Any:
        """An argument as the operation gets it: a copy, which may be written to."""
        found = self._field(leaf)
        if found is None:
            if not isinstance(leaf, Tensor):
                return leaf
            return self._cut(
                leaf.detach().to(self.dtype) if leaf.is_floating_point() else leaf.detach()
            )
        x = next(x for f, x in zip(self.fields, inputs, strict=True) if f is found)
        if isinstance(leaf, Tensor) and leaf.dtype == torch.bool:
            return x > 0.5
        if found.visible is None:
            return x.clone()
        return torch.where(self._cut(torch.as_tensor(found.visible)), x, _HIDDEN)

    # -- forward --------------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """Forward, and backward when it is asked for."""
        call, name = self.call, self.call.name
        kept: list[list[Array]] = []
        smooth = True
        for inputs, outputs in self._runs():
            smooth = smooth if kept else _is_smooth(inputs, outputs)
            kept.append([out.detach().double().numpy() for out in outputs])
        self._check(kept)
        truths = all(out.dtype == torch.bool for out in outputs)
        outs = [self._counted(values) for values in zip(*kept, strict=True)]
        for out in outs:
            out.noise = max(f.noise for f in self.fields) + _BAND
        call.run.sampled.append(name)
        notes = [f"estimated by sampling: {name} in {call.run.where() or 'the forward'}"]
        if not smooth:
            notes.append(f"no gradient passes {name} in {call.run.where() or 'the forward'}")
        return Outcome(
            self._shaped(outs),
            self._backward if smooth else None,
            self.fields,
            dtype=torch.bool if truths else None,
            formula=f"mean over {self.repeats} draws",
            notes=notes,
        )

    def _check(self, kept: list[list[Array]]) -> None:
        if not kept[0]:
            why = "has no rule and gives no real numbers, so what follows depends on data"
            raise self.call.refuse(why, "use isograd.measure on one batch")
        if any(a.shape != b.shape for run in kept for a, b in zip(run, kept[0], strict=True)):
            why = "takes as many entries as the data say"
            raise self.call.refuse(why, "use isograd.measure on one batch")
        share = np.mean([not np.isfinite(values).all() for run in kept for values in run])
        if share:
            why = f"has no rule and gives values that are not finite in {share:.0%} of the draws"
            raise self.call.refuse(why, _CURE)

    def _counted(self, values: Sequence[Array]) -> Field:
        """The field of an output from its values in all repetitions."""
        layout, groups = _layout(values[0].shape, [self.fewer(f) for f in self.fields])
        sizes = [sum(cut) for cut in layout]
        return self._whole(counted(np.stack(values).reshape(-1, *sizes), layout, groups))

    def _shaped(self, outs: list[Field]) -> Any:
        """What the operation returned: fields for real numbers, else tensors without values."""
        found = iter(outs)

        def swap(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor) or _is_real(leaf):
                return next(found) if isinstance(leaf, Tensor) else leaf
            with torch._C.DisableTorchFunction():
                return torch.empty(leaf.shape, dtype=leaf.dtype, device="meta")

        return _swapped(self.result, swap)

    # -- backward -------------------------------------------------------------------------------

    def _backward(self, gradients: Any) -> list[tuple[Field, Field]]:
        given = gradients if isinstance(gradients, list) else [gradients]
        generator = torch.Generator().manual_seed(_SEED + 1)
        few, of = self.batch or (1, 1)
        probes = [
            None if g is None else draw(self._resized(g, few, of), self.repeats, generator)
            for g in given
        ]
        slopes: list[list[Array]] = []
        for repeat, (inputs, outputs) in enumerate(self._runs()):
            pairs = [
                (out, torch.tensor(probe[repeat].reshape(out.shape), dtype=out.dtype))
                for out, probe in zip(outputs, probes, strict=True)
                if probe is not None and out.requires_grad
            ]
            found = _slopes(inputs, [out for out, _ in pairs], [probe for _, probe in pairs])
            slopes.append([slope.numpy() for slope in found])
        return self._handed_on([np.stack(rows) for rows in zip(*slopes, strict=True)])

    def _handed_on(self, slopes: list[Array]) -> list[tuple[Field, Field]]:
        """Gradients by the sources; functions of them on the way are told of theirs too."""
        drawn = self._drawn()
        totals: dict[int, tuple[Field, Field, Array]] = {}
        for f, at, slope in zip(self.fields, self.source_of, slopes, strict=True):
            few, source = self.fewer(f), self.sources[at]
            apart = slope.reshape(-1, *few.sizes).astype(np.float64)
            ways = [(f, 1.0)] if source is f else self._ways(f, few, drawn[at])
            for where, factor in ways:
                _, _, before = totals.get(id(where), (where, f, 0.0))
                totals[id(where)] = where, f, before + apart * factor
        result = []
        for where, like, total in totals.values():
            gradient = self._gradient(like, total)
            if any(where is source for source in self.sources):
                result.append((where, gradient))
            else:
                self.call.run.arrive(where, gradient, passed_on=True)
        return result

    def _ways(self, f: Field, few: Field, values: Array) -> list[tuple[Field, Array]]:
        """Derivatives of an input by its source, itself and what lies between."""
        (_, by_source), (_, by_itself), *between = slopes_at(few, values)
        return [(origin_of(f), by_source), (f, by_itself), *between]

    def _gradient(self, f: Field, slope: Array) -> Field:
        few = self.fewer(f)
        found = counted(slope, few.cuts, few.groups)
        found.mean = np.zeros_like(found.mean)
        result = self._whole(found) if id(f) in self.shrinking else found
        result.noise = _BAND
        return result


def _slopes(inputs: list[Tensor], outputs: list[Tensor], probes: list[Tensor]) -> list[Tensor]:
    """Vector-Jacobian products, zero where an output does not depend on an input."""
    if not outputs:
        return [torch.zeros_like(x) for x in inputs]
    found = torch.autograd.grad(outputs, inputs, probes, allow_unused=True)
    return [
        torch.zeros_like(x) if slope is None else slope
        for x, slope in zip(inputs, found, strict=True)
    ]


def _is_smooth(inputs: list[Tensor], outputs: list[Tensor]) -> bool:
    """Whether torch can differentiate an operation."""
    real = [out for out in outputs if out.requires_grad]
    try:
        _slopes(inputs, real, [torch.zeros_like(out) for out in real])
    except (RuntimeError, NotImplementedError):
        return False
    return bool(real)


def _layout(shape: Shape, fields: Sequence[Field]) -> tuple[list[Sizes], tuple[int, ...]]:
    """(cuts, groups) of an output: an axis as long as that of an input is cut like it."""
    cuts: list[Sizes] = []
    groups = []
    for axis, size in enumerate(shape):
        own: list[Sizes] = [(size,)] if size > 1 else []
        for f in fields:
            if len(f.groups) == len(shape) and f.shape[axis] == size:
                own = max(own, [f.cuts[p] for p in f.factors_of(axis)], key=_detail)
        cuts += own
        groups.append(len(own))
    return cuts, tuple(groups)


def _detail(cuts: list[Sizes]) -> tuple[int, int]:
    return len(cuts), sum(len(cut) for cut in cuts)


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.dtype == torch.bool)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [leaf for one in value for leaf in _leaves(one)]
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in _leaves(one)]
    return [value]


def _swapped(value: Any, swap: Callable[[Any], Any]) -> Any:
    """The same nest of tuples, lists and dicts with other leaves."""
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        made = [_swapped(one, swap) for one in value]
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    if isinstance(value, dict):
        return {key: _swapped(one, swap) for key, one in value.items()}
    return swap(value)
