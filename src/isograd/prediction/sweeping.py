"""sweep(): one network at several values of one argument, predicted one after the other."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from isograd.errors import InputError, IsogradError
from isograd.prediction.assembling import assemble, site_numbers
from isograd.prediction.changes import Change, activations, inits
from isograd.prediction.inputs import batch_of
from isograd.prediction.judging import correlation
from isograd.prediction.repeats import Repeats
from isograd.prediction.tracing import Trace, build
from isograd.prediction.variants import traced
from isograd.records import Number, Record
from isograd.sites import WEIGHTS
from isograd.sites.losses import Loss

CHANGES = ("init", "activation", "residual_scale")
"""What can be swept besides the arguments of a factory."""


@dataclass(frozen=True)
class Point:
    """What one value makes of the network; numbers are None where it cannot be predicted."""

    value: Any
    layers: int | None = None
    """Weight layers on the longest path."""
    parameters: int | None = None
    signal_first: Number = None
    """rms of the first weight layer's output."""
    signal_last: Number = None
    signal_least: Number = None
    """Smallest among all weight layers and residual sums."""
    signal_most: Number = None
    gradient: Number = None
    """Norm of the gradient at the first weight layer over that at the last."""
    gradient_band: Number = None
    """Standard deviation of its logarithm over draws of the weights."""
    cosine: Number = None
    """Between two samples, at the last weight layer."""
    condition: Number = None
    """How far a deviation of the signal grows on its way."""
    record: Record | None = None
    """Everything, where it was asked for."""
    error: str = ""
    """Why there are no numbers."""


@dataclass(frozen=True)
class Sweep:
    """A network at several values of one argument."""

    name: str
    points: tuple[Point, ...]
    notes: tuple[str, ...] = ()


def sweep(
    factory: Callable[..., Any],
    inputs: Any,
    name: str,
    values: Sequence[Any],
    *,
    input_stats: Mapping[str, float] | None = None,
    loss: Loss | None = None,
    seed: int = 0,
    change: Change | None = None,
    records: bool = False,
) -> Sweep:
    """Predicts `factory(name=value)` for several values, without building any of them.

    Args:
        factory: returns a model; `name` is one of its arguments, or `init`, `activation` or
            `residual_scale`, whose values are as on the command line (`kaiming_normal`,
            `*.fc=gelu`, 0.1).
        inputs: as `predict` takes them, or a callable `(value) -> inputs`.
        name: of what is swept.
        values: of it.
        input_stats: as in `predict`.
        loss: as in `predict`.
        seed: as in `predict`.
        change: what all of them do differently.
        records: whether each point holds its whole Record.

    Raises:
        InputError: there is no such argument or no value; or no point can be predicted, with the
            reason of the first.
    """
    if not values:
        raise InputError(f"sweep: no values of {name}")
    takes = _takes(factory, name)
    if not takes and name not in CHANGES:
        raise InputError(
            f"sweep: the factory takes no argument {name!r}; sweep one of its own, or "
            f"{', '.join(CHANGES)}"
        )
    options: dict[str, Any] = {
        "input_stats": input_stats,
        "loss": loss,
        "seed": seed,
        "repeats": Repeats(weighs=records),
    }
    given: Any = None
    batch: Any = None
    points: list[Point] = []
    notes: list[str] = []
    first: IsogradError | None = None
    for value in values:
        make = partial(factory, **{name: value}) if takes else factory
        here = change or Change()
        try:
            model = build(make)
            now = inputs(value) if callable(inputs) else inputs
            if batch is None or not (now is given or (isinstance(now, str) and now == given)):
                given, batch = now, batch_of(now, seed)
            with traced(model, batch, here if takes else _with(here, name, value), **options) as (
                found,
                told,
            ):
                record = assemble(found) if records else None
                points.append(_point(value, found, record))
        except IsogradError as error:
            first = first or error
            points.append(Point(value, error=str(error)))
            continue
        # What the value itself says need not be said again for each.
        notes += [n for n in told if takes or "such as" in n or not n.startswith(_word(name))]
    if first is not None and all(point.error for point in points):
        raise first
    return Sweep(name, tuple(points), tuple(dict.fromkeys(notes)))


def _word(name: str) -> str:
    return name.replace("_", "-")


def _takes(factory: Callable[..., Any], name: str) -> bool:
    """Whether a factory has an argument of that name, or any at all."""
    if isinstance(factory, nn.Module):
        return False
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return name not in CHANGES
    return name in parameters or (
        name not in CHANGES and any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    )


def _with(change: Change, name: str, value: Any) -> Change:
    if name == "init":
        return Change(
            (*change.init, *inits([str(value)])), change.activation, change.residual_scale
        )
    if name == "activation":
        found = (*change.activation, *activations([str(value)]))
        return Change(change.init, found, change.residual_scale)
    try:
        factor = float(value)
    except (TypeError, ValueError):
        factor = math.nan
    if not math.isfinite(factor):
        raise InputError(f"sweep: residual_scale={value!r} is no number")
    return Change(change.init, change.activation, factor)


def _point(value: Any, found: Trace, record: Record | None) -> Point:
    run = found.run
    sites = [
        (row, field)
        for row, field in zip(found.reader.rows, found.reader.fields, strict=True)
        if field is not None
    ]
    weights = [(row, field) for row, field in sites if row.kind in WEIGHTS]
    size = sum([p.numel() for _, p in found.tape.named])
    condition = max([field.condition for _, field in sites], default=0.0)
    if not weights:
        return Point(value, 0, size, condition=condition, record=record)
    stream = [field.energy for row, field in sites if row.kind in WEIGHTS or row.kind == "add"]
    first, last = weights[0][1], weights[-1][1]
    near, far = run.gradient_of(last), run.gradient_of(first)
    ratio = band = None
    if near is not None and far is not None and near.energy > 0:
        entries = math.prod(first.shape) / math.prod(last.shape)
        ratio = math.sqrt(max(far.energy, 0.0) / near.energy * entries)
        band = site_numbers(first, far)["backward.band"]
    return Point(
        value,
        max([row.node.depth for row, _ in weights]),
        size,
        _root(first.energy),
        _root(last.energy),
        _root(min(stream)),
        _root(max(stream)),
        ratio,
        band,
        correlation(last),
        condition,
        record,
    )


def _root(energy: float) -> float:
    return math.sqrt(max(energy, 0.0))
