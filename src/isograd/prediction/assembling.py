"""assemble(): the fields of a run as a Record of plain numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from isograd.prediction import pairs
from isograd.prediction.fields import Field
from isograd.prediction.propagation import Propagation
from isograd.records import Number, Record
from isograd.sites.parameters import parameters_of, uses
from isograd.sites.tape import Tape

if TYPE_CHECKING:
    from isograd.prediction.predicting import Reader


def assemble(model: nn.Module, tape: Tape, reader: Reader, run: Propagation) -> Record:
    """The Record of a run."""
    used_by, _ = uses(tape)
    parameters = parameters_of(model, used_by)
    series: dict[str, list[Number]] = {}
    for row, field in zip(reader.rows, reader.fields, strict=True):
        del row
        gradient = None if field is None else run.gradient_of(field)
        for key, value in site_numbers(field, gradient).items():
            series.setdefault(key, []).append(value)
    for tensor in model.parameters():
        field = run.parameter_field(tensor)
        gradient = None if field is None else run.gradient_of(field)
        grad = None if gradient is None else math.sqrt(max(gradient.energy, 0.0))
        series.setdefault("weight.grad_rms", []).append(grad)
    return Record(
        tuple(row.site() for row in reader.rows),
        tuple(parameters),
        {key: tuple(column) for key, column in series.items()},
        {},
        {"prediction.sampled": sorted(set(run.sampled))},
        tuple(dict.fromkeys(run.notes)),
        source="predicted",
    )


def site_numbers(field: Field | None, gradient: Field | None) -> dict[str, Number]:
    """Numbers of one site."""
    result: dict[str, Number] = dict.fromkeys(
        ("forward.rms", "forward.mean", "forward.correlation", "forward.band", "backward.rms", "backward.band")
    )
    if field is not None:
        result["forward.rms"] = math.sqrt(max(field.energy, 0.0))
        result["forward.mean"] = field.average
        result["forward.correlation"] = correlation(field)
        result["forward.band"] = math.sqrt(field.noise + own_noise(field)) / 2
    if gradient is not None:
        result["backward.rms"] = math.sqrt(max(gradient.energy, 0.0))
        result["backward.band"] = math.sqrt(gradient.noise + own_noise(gradient)) / 2
    return result


def correlation(field: Field) -> Number:
    """Mean cosine between the tensors of two samples."""
    if not field.groups or not field.groups[0]:
        return None
    between = field.second
    for place in reversed(range(len(field.cuts))):
        cut = field.cuts[place]
        weights = pairs.same_shares(cut)
        if place in field.factors_of(0):
            weights = pairs.counts(cut) - pairs.same_counts(cut)
            weights = weights / weights.sum()
        between = np.tensordot(between, weights, (place, 0))
    return float(between) / field.energy if field.energy > 0 else None


def own_noise(field: Field) -> float:
    """Variance of ln of the mean square of one draw of the tensor."""
    from isograd.prediction.ops.linear import _draw

    return _draw(field, "", "")


_: Any = None
