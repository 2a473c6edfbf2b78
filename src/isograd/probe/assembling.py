"""assemble(): what a pass left behind, as a Record of plain numbers."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from isograd import statistics
from isograd.probe.facts import output_facts
from isograd.probe.recorder import Recorder
from isograd.probe.slopes import slopes
from isograd.probe.weights import weight_series
from isograd.records import Number, Parameter, Record, Site
from isograd.sites import ELEMENTWISE, NORMS, STEPS
from isograd.sites.facts import batch_facts, target_facts
from isograd.sites.graph import (
    entering_tensor,
    loss_facts,
    made_from_targets,
    named_losses,
    softmax_facts,
)
from isograd.sites.parameters import feeding, following, model_facts, parameters_of, uses
from isograd.sites.places import Row
from isograd.sites.tape import Node, Tape
from isograd.theory.finite_width import band
from isograd.theory.gains import gains

if TYPE_CHECKING:
    from isograd.probe.measuring import Pass

_SUMS = "count nonfinite zero positive mean rms abs_mean kurtosis min max".split()


def assemble(model: nn.Module, done: "Pass", recorder: Recorder, step: int) -> Record:
    """The Record of one pass.

    Args:
        model: the model that ran.
        done: its pass.
        recorder: the tape's listener during the pass.
        step: the record's step.
    """
    used_by, layouts = uses(done.tape)
    parameters = parameters_of(model, used_by)
    sites = [row.site() for row in recorder.rows]
    follows = following(sites)
    series = _site_series(recorder)
    series.update(weight_series(model, parameters, done.gradients, layouts))
    series.update(_fitting(feeding(sites, parameters, follows)))
    series["forward.band"], series["backward.band"] = _bands(sites, parameters, series, follows)
    series.update(_slopes(recorder))
    facts = _facts(model, done, recorder, parameters, used_by)
    return Record(
        tuple(sites),
        tuple(parameters),
        {key: tuple(column) for key, column in series.items()},
        {
            "forward.exponents": tuple(tuple(m.exponents.tolist()) for m in recorder.measures),
            "backward.exponents": tuple(
                () if m.gradient_exponents is None else tuple(m.gradient_exponents.tolist())
                for m in recorder.measures
            ),
        },
        facts,
        tuple(done.notes),
        step=step,
    )


def _read(tensors: Sequence[Tensor | None]) -> list[Any]:
    """Tensors of one shape as lists or numbers, so that each device is waited for once."""
    found: list[Any] = [None] * len(tensors)
    places: dict[torch.device, list[int]] = {}
    for index, tensor in enumerate(tensors):
        if tensor is not None:
            places.setdefault(tensor.device, []).append(index)
    for where in places.values():
        values = torch.stack([t for i in where if (t := tensors[i]) is not None]).tolist()
        for index, value in zip(where, values, strict=True):
            found[index] = value
    return found


def _site_series(recorder: Recorder) -> dict[str, list[Number]]:
    recorder.compare()
    measures = recorder.measures
    series: dict[str, list[Number]] = {}
    for side, vectors, histograms in (
        ("forward", [m.sums for m in measures], [m.exponents for m in measures]),
        ("backward", [m.gradient_sums for m in measures], [m.gradient_exponents for m in measures]),
    ):
        for vector, counts in zip(_read(vectors), _read(histograms), strict=True):
            values: dict[str, Number] = {}
            if vector is not None and counts is not None:
                values = dict(statistics.derive(vector))
                values.update(statistics.shares(counts, sum(counts), backward=side == "backward"))
            for key in (*_SUMS, *_SHARES):
                series.setdefault(f"{side}.{key}", []).append(values.get(key))
    series["forward.units"] = [_units(row) for row in recorder.rows]
    measured = {key for m in measures for key in m.numbers}
    for key in sorted(measured - {"forward.time", "backward.time"}):
        numbers = _read([m.numbers.get(key) for m in measures])
        series[key] = [n if n is not None and math.isfinite(n) else None for n in numbers]
    if any("forward.time" in m.numbers for m in measures):
        series["forward.time_growth"] = [_rate(m.numbers.get("forward.time"), 1) for m in measures]
        series["backward.time_decay"] = [
            _rate(m.numbers.get("backward.time"), -1) for m in measures
        ]
        series["forward.time_steps"] = [
            None if "forward.time" not in m.numbers else float(m.numbers["forward.time"].numel())
            for m in measures
        ]
    return series


def _units(row: Row) -> Number:
    """Channels of a convolution's output, else features."""
    shape = row.node.shape
    return float(shape[1 if row.node.channels else -1]) if len(shape) > 1 else None


_SHARES = [f"share_{f}_{end}" for f in ("fp16", "bf16", "fp8") for end in ("underflow", "overflow")]


def _rate(norms: Tensor | None, sign: int) -> Number:
    """Least-squares slope of ln norm per step; times where it is zero or non-finite left out."""
    if norms is None:
        return None
    times = torch.arange(len(norms), dtype=torch.float64)
    norms = norms.cpu()
    # The first quarter is the transient from the zero state.
    kept = torch.isfinite(norms) & (norms > 0) & (times >= len(norms) // 4)
    if int(kept.sum()) < 3:
        return None
    t, y = times[kept], norms[kept].log()
    t = t - t.mean()
    return sign * float((t * (y - y.mean())).sum() / t.square().sum())


def _slopes(recorder: Recorder) -> dict[str, list[Number]]:
    found = slopes([m.sample for m in recorder.measures])
    known = [gains(r.kind) if r.kind in ELEMENTWISE else None for r in recorder.rows]
    return {
        "forward.slope": [None if pair is None else pair[0] for pair in found],
        "forward.saturated": [None if pair is None else pair[1] for pair in found],
        "forward.slope_theory": [None if k is None else 1 / k.slope for k in known],
    }


def _fitting(fed: list[str | None]) -> dict[str, list[Number]]:
    """The gains that fit the activation each weight feeds: of the signal, and of the gradient."""
    known = [None if name in (None, "linear") else gains(name) for name in fed]
    one: list[Number] = [None if name is None else 1.0 for name in fed]
    return {
        "weight.gain_fit": [
            other if k is None else k.second_moment for k, other in zip(known, one, strict=True)
        ],
        "weight.gain_slope": [
            other if k is None else k.slope for k, other in zip(known, one, strict=True)
        ],
    }


def _bands(
    sites: list[Site],
    parameters: list[Parameter],
    series: dict[str, list[Number]],
    follows: dict[int, str],
) -> tuple[list[Number], list[Number]]:
    """Sd of ln rms from the random draw of the weights, by depth (Hanin and Nica 2018).

    Forward it adds up from the input, over fan-ins and the activations that the layers read;
    backward from the last weight layer, over fan-outs and the activations below them.
    """
    fans: dict[int, tuple[float, float]] = {}
    for index, site in enumerate(sites):
        for place in site.parameters:
            inside, outside = (series[f"weight.fan_{way}"][place] for way in ("in", "out"))
            if parameters[place].is_weight and inside and outside:
                fans.setdefault(index, (inside, outside))
    # A norm after the layer takes the fluctuation of its scale away.
    normed = {s for site in sites if site.kind in NORMS for s in site.inputs}
    by_depth: dict[int, tuple[int, int, str]] = {}
    read = "linear"  # the data
    for index in sorted(fans, key=lambda i: sites[i].depth):
        if index not in normed:
            inside, outside = fans[index]
            by_depth.setdefault(sites[index].depth, (int(inside), int(outside), read))
        read = follows.get(index, "linear")
    depths = sorted(by_depth)
    ahead = band([(by_depth[d][0], by_depth[d][2]) for d in depths])
    back = band([(by_depth[d][1], by_depth[d][2]) for d in reversed(depths)])
    forward_at = dict(zip(depths, ahead, strict=True))
    backward_at = dict(zip(reversed(depths), back, strict=True))

    def at(table: dict[int, float], depth: int, upward: bool) -> Number:
        reached = [d for d in table if (d <= depth if upward else d > depth)]
        if not reached:
            return 0.0 if table else None
        return table[max(reached) if upward else min(reached)]

    return (
        [at(forward_at, site.depth, True) for site in sites],
        [at(backward_at, site.depth, False) for site in sites],
    )


def _facts(
    model: nn.Module,
    done: "Pass",
    recorder: Recorder,
    parameters: list[Parameter],
    used_by: dict[int, set[str]],
) -> dict[str, Any]:
    tape = done.tape
    facts = {**model_facts(model), **batch_facts(done.batch)}
    facts.update(loss_facts(tape, done.loss_node))
    if done.loss_name == "random probes":
        facts["loss.kind"] = "probe"
    elif done.loss_name == "the model's own":
        facts.setdefault("loss.kind", "model")
    out = None if done.loss_node is None else entering_tensor(tape, done.loss_node)
    facts.update(output_facts(out))
    shape = None if out is None else tuple(out.shape)
    call = _call(done)
    facts.update(target_facts(_compared(done, recorder, call), shape, facts.get("loss.kind")))
    if call is not None and call.index in recorder.improper:
        facts["loss.improper"] = float(recorder.improper[call.index])
    facts["loss.name"], facts["loss.chosen"] = done.loss_name, done.loss_chosen
    if done.weighted:
        facts["loss.weighted"] = True
    if done.undecided is not None:
        facts["loss.chance"] = done.undecided
    if done.summed is not None:
        facts["loss.summed"] = done.summed
    if done.summed_entries is not None:
        facts["loss.summed_entries"] = done.summed_entries
    if done.code is not None:
        facts["loss.code"] = [list(place) for place in done.code.places]
        facts["loss.code_weight"], facts["loss.code_reach"] = done.code.weight, done.code.reach
    if done.loss is not None:
        facts["loss.value"] = float(done.loss.detach())
    if recorder.batch_norms:
        facts["norm.min_values"] = min(recorder.batch_norms)
    if recorder.swallowed:
        facts["norm.swallowed"] = list(dict.fromkeys(recorder.swallowed))
    if recorder.lone_norms:
        facts["norm.alone"] = list(dict.fromkeys(recorder.lone_norms))
    if done.loss_node is not None and "softmax" in " ".join(facts.get("loss.input_ops", ())):
        facts.update(softmax_facts(tape, done.loss_node))
    facts["model.unregistered"] = _unregistered(tape, recorder)
    facts["model.unused"], facts["model.unreached"] = _reach(model, done, parameters, used_by)
    return facts


def _call(done: "Pass") -> Node | None:
    """The call of a loss function of torch's, where there is one alone."""
    calls = [] if done.loss_node is None else named_losses(done.tape, done.loss_node)
    return calls[0] if len(calls) == 1 else None


def _compared(done: "Pass", recorder: Recorder, call: Node | None) -> Any:
    """The targets as the loss compares with them: it may make others of those of the batch."""
    made = None if call is None else recorder.targets.get(call.index)
    if call is None or made is None or not made_from_targets(done.tape, made):
        return done.batch.targets
    # Shares of classes are no targets of their own: labels say more.
    shares = made.is_floating_point() and call.op in ("cross_entropy", "kl_div")
    return done.batch.targets if shares else made


def _unregistered(tape: Tape, recorder: Recorder) -> list[str]:
    """Names of the sites whose trainable weights are not parameters of the model."""
    sites = {row.node.index: row.name for row in recorder.rows}
    return [sites.get(n.index, f"{n.module or 'forward'}:{n.op}") for n in tape.unregistered]


def _reach(
    model: nn.Module, done: "Pass", parameters: list[Parameter], used_by: dict[int, set[str]]
) -> tuple[list[str], list[str]]:
    """Names of trainable parameters (never used, used but without a gradient).

    Behind a function of steps a gradient that is zero in every entry is none; weights that are zero
    could make it so, too, and then nothing is said.
    """
    stepped = any(node.op in STEPS for node in done.tape.nodes) and all(
        bool(p.any()) for p in model.parameters() if p.ndim >= 2
    )
    owners = {id(p): m for m in model.modules() for p in m.parameters(recurse=False)}
    unused: list[str] = []
    unreached: list[str] = []
    for index, (name, tensor) in enumerate(model.named_parameters()):
        gradient = done.gradients[index]
        if not parameters[index].trainable or not (
            gradient is None or (stepped and not bool(gradient.any()))
        ):
            continue
        scripted = isinstance(owners.get(id(tensor)), torch.jit.ScriptModule)
        used = index in used_by or (scripted and id(owners[id(tensor)]) in done.tape.called)
        (unreached if used else unused).append(name)
    return unused, unreached
