"""What a model is predicted on: batches, or types and shapes written as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isograd.errors import DataError
from isograd.prediction.given import GIVEN
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import empirical, independent
from isograd.prediction.moments.pairs import Array, Sizes
from isograd.prediction.propagation import Propagation
from isograd.prediction.recording import law_of
from isograd.sites.batches import Batch, as_batch

if TYPE_CHECKING:
    from isograd.prediction.repeats import Repeats
    from isograd.prediction.specs import Spec

_STATS = ("mean", "std", "correlation")
_WALKED = 64
"""Steps that are told apart at most: all pairs of them are kept."""
_ALIKE = 0.03
"""Correlation of neighbouring steps, above that of any two, that matters."""


def batch_of(inputs: Any, seed: int = 0) -> Batch:
    """A batch, from one as `measure` takes it or from text.

    Args:
        inputs: a batch; or text such as `float32[32,3,224,224]`, `int64[2,128]<50257` (whole
            numbers drawn below a bound), several joined by `;`, each with `name=` in front where
            the model takes it by keyword; then targets, `-> int64[32]<1000`. Floating-point inputs
            of text, and those on the meta device, stand for independent entries of mean 0 and
            variance 1, or of what they were drawn by where that was recorded.
        seed: of whole numbers and targets.

    Raises:
        DataError: text that is no such thing.
    """
    if isinstance(inputs, Batch):
        return inputs
    if not isinstance(inputs, str):
        return as_batch(inputs)
    from isograd.prediction.specs import parse

    generator = torch.Generator().manual_seed(seed)
    args, kwargs = [], {}
    specs, target = parse(inputs)
    for spec in specs:
        tensor = _tensor(spec, generator)
        if spec.name is None:
            args.append(tensor)
        else:
            kwargs[spec.name] = tensor
    targets = None if target is None else _tensor(target, generator, known=True)
    return Batch(tuple(args), kwargs, targets)


def _tensor(spec: Spec, generator: torch.Generator, *, known: bool = False) -> Tensor:
    """What a text names; `known` with values also where they are real numbers."""
    dtype: torch.dtype = getattr(torch, spec.dtype)
    if dtype.is_floating_point and known:
        return torch.randn(spec.shape, generator=generator).to(dtype)
    if dtype.is_floating_point:
        return torch.empty(spec.shape, dtype=dtype, device="meta")
    if spec.below is None:
        return torch.ones(spec.shape, dtype=dtype)
    return torch.randint(0, spec.below, spec.shape, generator=generator, dtype=dtype)


def abstract(
    run: Propagation,
    batch: Batch,
    stats: Mapping[str, float],
    *,
    stepwise: bool = False,
    repeats: Repeats | None = None,
) -> Batch:
    """The batch with an abstract tensor in place of every floating-point one.

    Args:
        run: that the tensors belong to.
        batch: tensors with values count with their own moments.
        stats: `mean`, `std` and `correlation` (cosine of two samples) of the floating-point
            inputs, instead.
        stepwise: whether steps of a sequence are told apart where neighbours are more alike.
        repeats: what the runs of a sweep share.

    Raises:
        DataError: unknown or impossible statistics.
    """
    unknown = set(stats) - set(_STATS)
    if unknown:
        raise DataError(
            f"predict: input_stats has {', '.join(sorted(unknown))}; it takes {', '.join(_STATS)}"
        )

    def swap(value: Any) -> Any:
        if isinstance(value, Tensor):
            if not value.is_floating_point():
                return value
            made = None if repeats is None else repeats.of_input(value, stepwise)
            if made is None:
                made = field_of_input(value, stats, stepwise=stepwise)
                if repeats is not None:
                    repeats.keep(value, stepwise, made)
            made.condition = 1.0
            return run.abstract(made, value.dtype)
        if isinstance(value, Mapping):
            return {key: swap(item) for key, item in value.items()}
        if type(value) in (tuple, list):
            return type(value)(swap(item) for item in value)
        return value

    kwargs = {key: swap(value) for key, value in batch.kwargs.items()}
    return Batch(swap(batch.args), kwargs, batch.targets)


def field_of_input(value: Tensor, stats: Mapping[str, float], *, stepwise: bool = False) -> Field:
    """The field of one floating-point input; arguments are those of `abstract`."""
    shape = tuple(value.shape)
    if value.is_meta or stats:
        law = law_of(value) if value.is_meta else None  # of a batch made with its model
        mean = float(stats.get("mean", 0.0 if law is None else law.mean))
        std = float(stats.get("std", 1.0 if law is None else math.sqrt(law.variance)))
        between = float(
            stats.get("correlation", mean * mean / max(mean * mean + std * std, 1e-300))
        )
        if not (math.isfinite(mean) and std >= 0 and -1 <= between <= 1):
            raise DataError(
                f"predict: input_stats mean={mean}, std={std}, correlation={between}; expected a "
                "finite mean, a std of 0 or more and a correlation from -1 to 1"
            )
        made = independent(shape, mean, std * std)
        if "correlation" in stats and shape and shape[0] > 1:
            second = made.second.copy()
            second[(1, *([0] * (second.ndim - 1)))] = between * made.energy
            made = made.like(second, made.mean)
        return made
    values = value.detach()
    array = values.double().cpu().numpy()
    found = empirical(array, _steps(array) if stepwise else None)
    found.notes["kurtosis"] = 1.0  # given, not drawn: they do not fluctuate
    found.notes[GIVEN] = values
    return found


def _steps(values: Array) -> list[Sizes] | None:
    """Classes of a sequence (batch, time, features), in either order, each step by itself.

    Only where two neighbouring steps are more alike than any two: then it matters which they are.
    """
    if values.ndim != 3 or min(values.shape) < 2:
        return None
    cuts: list[Sizes] = [(size,) for size in values.shape]
    energy = max(float(np.square(values).mean()), 1e-300)
    for axis in (0, 1):
        x = np.moveaxis(values, axis, 0)
        n = len(x)
        if not 3 <= n <= _WALKED:
            continue
        near = float((x[1:] * x[:-1]).mean())
        every = float((np.square(x.sum(axis=0)).mean() - n * energy) / (n * (n - 1)))
        if abs(near - every) > max(_ALIKE, 4 / math.sqrt(values.size)) * energy:
            cuts[axis] = (1,) * n
    return cuts if any(len(cut) > 1 for cut in cuts) else None
