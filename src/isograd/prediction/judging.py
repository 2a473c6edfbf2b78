"""What rules read of a prediction beyond the size of signal and gradient."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from isograd.prediction.moments import pairs
from isograd.prediction.moments.axes import of_others, weighed
from isograd.prediction.moments.fields import Field
from isograd.records import Number, Parameter, Site
from isograd.sites import ACTIVATIONS, ELEMENTWISE, graph
from isograd.sites.facts import target_facts
from isograd.theory import activation
from isograd.theory.gains import gains

if TYPE_CHECKING:
    from isograd.prediction.recording import Law
    from isograd.prediction.steps import Step
    from isograd.prediction.tracing import Trace
    from isograd.sites.tape import Node, Tape

_FLAT = 0.05
"""A derivative below this share of the largest one counts as flat, as in a measurement."""
_STEEPNESS = ("forward.slope", "forward.saturated", "forward.slope_theory")
_CUTTING = ("detach", "detach_", "data")
_PASSING = ACTIVATIONS | {"dropout", "pool", "softmax", "log_softmax"}
"""Kinds whose samples are as far apart as those of the site before them."""


def site_numbers(
    site: Site,
    field: Field | None,
    gradient: Field | None,
    numbers: dict[str, Number],
    maker: Step | None = None,
) -> dict[str, Number]:
    """Numbers of one site: entries, spread over the samples, slope and share of flat entries.

    Args:
        site: the site.
        field: of its output.
        gradient: that arrived there.
        numbers: `forward.rms` and `forward.correlation` of the site.
        maker: the operation that gave the field.
    """
    entries = float(math.prod(site.shape))
    return {
        "forward.count": None if field is None else entries,
        "backward.count": None if gradient is None else entries,
        "forward.spread": None
        if site.kind in _PASSING
        else spread(numbers.get("forward.rms"), numbers.get("forward.correlation"), site.shape),
        **_steepness(site, field, maker),
    }


def spread(rms: Number, between: Number, shape: tuple[int, ...]) -> Number:
    """sqrt(mean_j var_i x_ij), the population variance over the samples i.

    Args:
        rms: of all entries.
        between: mean cosine of two samples.
        shape: samples first.
    """
    if rms is None or between is None:
        return None
    return rms * math.sqrt(max(1.0 - between, 0.0) * (1 - 1 / shape[0]))


def correlation(field: Field) -> Number:
    """Mean cosine between the tensors of two samples."""
    if len(field.groups) < 2 or not field.groups[0] or field.energy <= 0:
        return None
    between = field.second
    for place in reversed(range(len(field.cuts))):
        cut = field.cuts[place]
        weights = pairs.same_shares(cut)
        if place in field.factors_of(0):
            weights = of_others(cut)
        between = weighed(between, place, weights)
    return min(max(float(between) / field.energy, -1.0), 1.0)


def _steepness(site: Site, field: Field | None, step: Step | None) -> dict[str, Number]:
    """Rms of an activation's derivative, and the share of entries at which it is small."""
    found: dict[str, Number] = dict.fromkeys(_STEEPNESS)
    if site.kind in ELEMENTWISE and (known := gains(site.kind)) is not None:
        found["forward.slope_theory"] = 1 / known.slope
    if site.kind not in ELEMENTWISE or field is None or field.nodes is None:
        return found
    slopes = field.nodes.slopes
    if step is not None and step.name == site.kind and step.inputs[0].origin is field.origin:
        # The nodes know the slope by what the chain of functions began with.
        before = step.inputs[0]
        inner = np.asarray(before.affine[0] if before.affine else 1.0)
        if before.nodes is not None:
            inner = before.nodes.slopes
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = np.where(inner == 0, 0.0, slopes / inner)
    found["forward.slope"] = math.sqrt(float(field.nodes.expectation(np.square(slopes)).mean()))
    steepest = _steepest(site.kind)
    if steepest:
        flat = np.abs(slopes) < _FLAT * steepest
        found["forward.saturated"] = float(field.nodes.expectation(flat.astype(np.float64)).mean())
    return found


@cache
def _steepest(kind: str) -> float:
    """Largest slope of an activation of torch on [-8, 8]; 0 for one without parameters known."""
    slope = np.abs(activation(kind).slope(np.linspace(-8, 8, 257)))
    return float(np.nanmax(slope))


def row_spread(law: Law, parameter: Parameter) -> Number:
    """How different the units of a weight are: 0 where all its entries are one number."""
    if not parameter.is_weight or len(parameter.shape) < 2 or parameter.shape[0] < 2:
        return None
    energy = law.variance + law.mean**2
    if energy <= 0:
        return 0.0
    return math.sqrt(law.variance / energy * (1 - 1 / parameter.shape[0]))


def row_cosine(mean: Number, rms: Number, fan_in: int) -> Number:
    """Mean squared cosine between the units of a weight whose entries are independent.

    The cosine of two rows of n entries of mean m and mean square q has mean a = m^2 / q and
    variance (1 - a^2) / n, to first order in 1/n.
    """
    if mean is None or not rms:
        return None
    common = (mean / rms) ** 4
    return common + (1 - common) / max(fan_in, 1)


def loss_facts(traced: Trace) -> dict[str, Any]:
    """Facts `loss.*`: its expected value, what it is, what enters it, what chance gives."""
    facts: dict[str, Any] = {"loss.name": traced.loss_name, "loss.chosen": traced.loss_chosen}
    if traced.loss is None:
        return facts | ({"loss.kind": "probe"} if traced.loss_name == "random probes" else {})
    value = traced.run.tensor_of(traced.loss)
    node = None if value is None else traced.tape.node_of(value)
    facts["loss.value"] = traced.loss.average
    facts |= graph.loss_facts(traced.tape, node)
    if traced.loss_name == "the model's own":
        facts.setdefault("loss.kind", "model")
    # A prediction runs without torch's graph, so that cuts are told by what they are called.
    cuts = [] if node is None else [n for n in graph.ancestors(traced.tape, node) if _cuts(n)]
    facts["graph.cuts"] = [
        {"op": n.op, "module": n.module, "site": n.sources[-1] if n.sources else None} for n in cuts
    ]
    if node is None:
        return facts
    out = graph.entering_node(traced.tape, node)
    shape = None if out is None else out.shape
    facts |= target_facts(traced.batch.targets, shape, facts.get("loss.kind"))
    facts |= _output_facts(traced, graph.entering_tensor(traced.tape, node))
    if "softmax" in " ".join(facts.get("loss.input_ops", ())):
        facts |= graph.softmax_facts(traced.tape, node)
    return facts


def _output_facts(traced: Trace, out: Tensor | None) -> dict[str, Any]:
    """Facts `output.*` of the tensor that enters the loss."""
    field = None if out is None else traced.run.field_of(out)
    if field is None:
        return {}
    rms = math.sqrt(max(field.energy, 0.0))
    facts: dict[str, Any] = {"output.shape": list(field.shape)}
    facts |= {"output.rms": rms, "output.mean": field.average}
    apart = spread(rms, correlation(field), field.shape)
    return facts | ({} if apart is None else {"output.spread": apart})


def _cuts(node: Node) -> bool:
    return node.op in _CUTTING and node.depth >= 0


def reach_facts(traced: Trace) -> dict[str, Any]:
    """Facts `model.unused` and `model.unreached`: parameters without a use or a gradient.

    Behind an operation that the prediction could not differentiate nothing is said of gradients.
    """
    unused, unreached = [], []
    broken = any(note.startswith("no gradient passes") for note in traced.run.notes)
    for name, parameter in traced.model.named_parameters():
        if not parameter.requires_grad:
            continue
        field = traced.run.parameter_field(parameter)
        if field is None:
            unused.append(name)
        elif not broken and traced.run.gradient_of(field) is None:
            unreached.append(name)
    return {"model.unused": unused, "model.unreached": unreached}


def norm_facts(model: nn.Module, tape: Tape) -> dict[str, Any]:
    """Facts `norm.*` of batch norms: what they have tracked, over how many values they average."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    counters = [m.num_batches_tracked for m in norms if m.track_running_stats]
    tracked = [int(one) for one in counters if isinstance(one, Tensor) and not one.is_meta]
    facts: dict[str, Any] = {"norm.tracked": min(tracked)} if tracked else {}
    momenta = [m.momentum for m in norms if m.track_running_stats and m.momentum is not None]
    if tracked and momenta:
        facts["norm.momentum"] = min(momenta)
    training = {name for name, m in model.named_modules() if m in norms and m.training}
    values = [
        math.prod(node.shape) / node.shape[1]
        for node in tape.nodes
        if node.kind == "batch_norm" and node.module in training and len(node.shape) > 1
    ]
    if values:
        facts["norm.min_values"] = min(values)
    return facts
