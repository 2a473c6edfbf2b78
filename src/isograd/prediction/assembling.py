"""assemble(): the fields of a run as a Record of plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from isograd.prediction import judging
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.means import fluctuation
from isograd.prediction.ops.elementwise import UNMET
from isograd.prediction.recording import law_of, same_values, values_law
from isograd.prediction.reliance import estimated, unasked
from isograd.prediction.times import time_numbers
from isograd.prediction.tracing import Trace, undisturbed
from isograd.prediction.units import unit_numbers
from isograd.records import Number, Parameter, Record, Site
from isograd.sites.facts import batch_facts
from isograd.sites.parameters import (
    fans,
    feeding,
    following,
    hooked,
    model_facts,
    parameters_of,
    uses,
)
from isograd.theory.gains import gains

if TYPE_CHECKING:
    from isograd.prediction.propagation import Propagation

UNPREDICTABLE = 6.0
"""Condition number above which no number is worth printing."""
_FORWARD, _BACKWARD, _SAMPLED = 0.02, 0.04, 0.05
"""Relative error of rms that the rules have by themselves; more where operations were sampled."""
_LOST = 1.5
"""The same in ln, where gradients that share weights were too many to be followed."""


@undisturbed()
def assemble(traced: Trace, width_band: bool = True) -> Record:
    """The Record of a run.

    Args:
        traced: the run.
        width_band: whether bands are filled.
    """
    tape, reader, run = traced.tape, traced.reader, traced.run
    used_by, layouts = uses(tape)
    parameters = parameters_of(traced.model, used_by)
    sites = tuple(row.site() for row in reader.rows)
    series: dict[str, list[Number]] = {}
    makers = {id(out): step for step in run.steps for out in step.outputs}
    before_weights = unasked(tape, traced.model)
    for index, field in enumerate(reader.fields):
        gone = field is None or before_weights(reader.rows[index].node.index)
        gradient = None if field is None or gone else run.gradient_of(field)
        numbers = site_numbers(field, gradient, width_band, lost=run.twins.lost)
        numbers["forward.branch_ratio"] = _branch_ratio(reader.branches.get(index))
        numbers.update(
            judging.site_numbers(sites[index], field, gradient, numbers, makers.get(id(field)))
        )
        given, time = reader.loops.get(index, (None, None))
        arrived = None if given is None else run.gradient_of(given)
        numbers.update(time_numbers(field, time, arrived))
        axis = 1 if reader.rows[index].node.channels else -1
        numbers.update(unit_numbers(sites[index], axis, field, makers.get(id(field))))
        for key, value in numbers.items():
            series.setdefault(key, []).append(value)
    series.update(estimated(run, reader.fields))
    series.update(_weights(traced, sites, parameters, layouts))
    facts = _facts(traced)
    return Record(
        sites,
        tuple(parameters),
        {key: tuple(column) for key, column in series.items()},
        {},
        facts,
        tuple(_notes(traced, facts)),
        source="predicted",
    )


def site_numbers(
    field: Field | None, gradient: Field | None, width_band: bool = True, *, lost: bool = False
) -> dict[str, Number]:
    """Numbers of one site, from the fields of its output and of the gradient there."""
    result: dict[str, Number] = dict.fromkeys(
        "forward.rms forward.mean forward.correlation forward.band backward.rms "
        "backward.band".split()
    )
    if field is not None:
        result["forward.rms"] = math.sqrt(max(field.energy, 0.0))
        result["forward.mean"] = field.average
        result["forward.correlation"] = judging.correlation(field)
        if width_band:
            result["forward.band"] = _band(field, _FORWARD)
    if gradient is not None:
        result["backward.rms"] = math.sqrt(max(gradient.energy, 0.0))
        if width_band:
            result["backward.band"] = _band(gradient, _LOST if lost else _BACKWARD)
    return result


def _band(field: Field, rules: float) -> float:
    """Standard deviation of ln rms: finite width, and what the rules are known to be off by."""
    width = (field.noise + fluctuation(field)) / 4
    return math.sqrt(width + (_SAMPLED if field.notes.get("sampled") else rules) ** 2)


def _branch_ratio(terms: tuple[Field | None, Field | None] | None) -> Number:
    if terms is None or terms[0] is None or terms[1] is None or terms[0].energy <= 0:
        return None
    return math.sqrt(max(terms[1].energy, 0.0) / terms[0].energy)


def _weights(
    traced: Trace,
    sites: Sequence[Site],
    parameters: Sequence[Parameter],
    layouts: dict[int, tuple[bool, int]],
) -> dict[str, list[Number]]:
    series: dict[str, list[Number]] = {}
    fit = feeding(sites, parameters, following(sites))
    for index, tensor in enumerate(traced.model.parameters()):
        parameter = parameters[index]
        row = _weight(traced.run, tensor, parameter)
        if parameter.is_weight and len(parameter.shape) >= 2:
            inside, outside = fans(parameter, *layouts.get(index, (False, 1)))
            row["weight.fan_in"], row["weight.fan_out"] = float(inside), float(outside)
            rms = row.get("weight.rms")
            row["weight.gain"] = None if rms is None else rms * math.sqrt(inside)
            row["weight.row_cosine"] = judging.row_cosine(row.get("weight.mean"), rms, inside)
        known = None if fit[index] is None else gains(fit[index] or "linear")
        row["weight.gain_fit"] = None if known is None else known.second_moment
        row["weight.gain_slope"] = None if known is None else known.slope
        for key in _WEIGHT_KEYS:
            series.setdefault(key, []).append(row.get(key))
    return series


_WEIGHT_KEYS = tuple(
    f"weight.{key}"
    for key in "mean rms row_spread row_cosine fan_in fan_out gain gain_fit gain_slope grad_rms "
    "grad_band".split()
)


def _weight(run: Propagation, tensor: Tensor, parameter: Parameter) -> dict[str, Number]:
    law = law_of(tensor) if tensor.is_meta else values_law(tensor)
    row: dict[str, Number] = {}
    if law is not None:
        row["weight.mean"] = law.mean
        row["weight.rms"] = math.sqrt(law.variance + law.mean**2)
        row["weight.row_spread"] = judging.row_spread(law, parameter)
    field = run.parameter_field(tensor)
    gradient = None if field is None else run.gradient_of(field)
    if gradient is not None and tensor.requires_grad:
        row["weight.grad_rms"] = math.sqrt(max(gradient.energy, 0.0))
        row["weight.grad_band"] = _band(gradient, _LOST if run.twins.lost else _BACKWARD)
    return row


def _facts(traced: Trace) -> dict[str, Any]:
    model, run = traced.model, traced.run
    fields = [field for field in traced.reader.fields if field is not None]
    condition = max((field.condition for field in fields), default=0.0)
    return {
        **model_facts(model),
        **judging.reach_facts(traced),
        **batch_facts(traced.batch),
        **judging.loss_facts(traced),
        "prediction.condition": condition,
        "prediction.predictable": condition <= UNPREDICTABLE,
        "prediction.sampled": sorted(set(run.sampled)),
        "prediction.same_values": same_values(model),
        **judging.norm_facts(model, traced.tape),
    }


def _notes(traced: Trace, facts: dict[str, Any]) -> list[str]:
    notes = [*traced.run.notes, *([traced.loss_note] if traced.loss_note else [])]
    if facts["prediction.condition"] > UNPREDICTABLE:
        said = (
            f"a deviation of the signal grows {facts['prediction.condition']:.0f} times on its way"
        )
        if any(UNMET in note for note in notes):  # the rule fails, whatever the network does
            said += " as it is predicted; the network itself may be steady: measure instead"
        else:
            said += " (an unstable length map); two draws of the weights will differ by as much"
        notes.append(f"not predictable: {said}")
    if found := hooked(traced.model):
        notes.append(f"hooks of parameters ({found[0]}{', …' * (len(found) > 1)}) are not followed")
    if traced.run.twins.lost:
        notes.append(
            "gradients that meet the same weights again make more pairs than are followed (a long "
            "loop?): the rest counts as independent, so that bands are wide; torch's own "
            "recurrent layers have no such limit"
        )
    return list(dict.fromkeys(notes))
