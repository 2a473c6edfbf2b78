"""What a change leaves as it was need not be measured again."""

from collections import OrderedDict
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from isograd.probe.facts import norm_facts
from isograd.probe.measuring import measure
from isograd.probe.rehearsal import rehearse
from isograd.records import Reading, Record
from isograd.remedies import Case
from isograd.repairs.treatments import Trainee, Treatment

_PLAIN = frozenset({type(None), bool, int, float, str, torch.dtype, torch.device})
_SHARED = (type, FunctionType, BuiltinFunctionType)
"""Types of what a copy shares with the original."""


def look_after(
    case: Case, change: Treatment, done: Trainee, *, curvature: bool, seed: int
) -> Reading:
    """The look at a network after a change, before its training.

    What the change has left as it was is known from the first look, which was as this one is: the
    pass where the network and its loss are the same, and the step of the optimizer where that is.

    Args:
        case: the network as it is.
        change: what was made of it.
        done: a copy with the change.
        curvature: whether to ask as well if the learning rate is beyond its limit, which costs as
            much as twenty steps where it is not known.
        seed: of random probes.
    """
    known = dict[str, Any]()
    if done.loss is case.loss and untouched(case.model, done.model):
        seen, own = seen_before(case.record, done.model), case.record.facts
        adaptive = own.get("optimizer.adaptive")
        if adaptive is False:
            known = {k: v for k, v in own.items() if k.startswith("sharpness.")}
        told = adaptive is not None and (bool(known) or adaptive or not curvature)
        if told and not any(plan.optimizer for plan in change.plans) and _new(case.optimizer):
            facts = {**own, **seen.facts}
            return Reading(replace(case.record, facts=facts))
    else:
        seen = measure(done.model, case.batch, done.loss, seed=seed)
    looked = rehearse(
        done.model,
        case.batch,
        done.loss,
        seen,
        optimizer=done.optimizer,
        data=None,
        steps=0,
        seed=seed,
        sharpness=curvature and not known,
    )
    if not curvature or looked.seen.fact("optimizer.adaptive"):
        return looked
    return replace(looked, seen=replace(looked.seen, facts={**looked.seen.facts, **known}))


def _new(optimizer: Any) -> bool:
    """Whether an optimizer remembers no step: one that is refitted begins like that."""
    return not isinstance(optimizer, torch.optim.Optimizer) or not optimizer.state


def untouched(model: nn.Module, changed: nn.Module) -> bool:
    """Whether a changed copy computes what the model does, forward and backward, in its mode.

    Modules, weights, buffers and attributes are the same, but for the momentum of batch norms.
    Where an attribute is of a kind that cannot be compared nobody knows, and the answer is no.

    Args:
        model: as it is.
        changed: a copy of it, to which something may have been done.
    """
    one, other = list(model.modules()), list(changed.modules())
    if len(one) != len(other):
        return False
    twins = {id(m): twin for m, twin in zip(one, other, strict=True)}
    return all(_same_module(m, twin, twins) for m, twin in zip(one, other, strict=True))


def seen_before(record: Record, changed: nn.Module) -> Record:
    """The look at a model as one at an untouched copy of it, before any optimizer.

    Args:
        record: of the model, with what its optimizer added.
        changed: the copy.
    """
    facts = {
        k: v for k, v in record.facts.items() if not k.startswith(("optimizer.", "sharpness."))
    }
    series = {k: v for k, v in record.series.items() if k != "weight.update_ratio"}
    notes = tuple(n for n in record.notes if not n.startswith(("optimizer:", "rehearsal:")))
    return replace(record, facts={**facts, **norm_facts(changed)}, series=series, notes=notes)


def _same_module(one: nn.Module, other: nn.Module, twins: dict[int, nn.Module]) -> bool:
    if type(one) is not type(other) or isinstance(one, torch.jit.ScriptModule):
        return False
    mine, its = vars(one), vars(other)
    if mine.keys() != its.keys():
        return False
    free = "momentum" if isinstance(one, _BatchNorm) else ""
    return all(_same(value, its[name], twins) for name, value in mine.items() if name != free)


def _same(one: Any, other: Any, twins: dict[int, nn.Module]) -> bool:
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in _PLAIN:
        return bool(one == other)
    if kind in (dict, OrderedDict):
        return list(one) == list(other) and all(_same(v, other[k], twins) for k, v in one.items())
    if kind in (list, tuple):
        alike = (_same(a, b, twins) for a, b in zip(one, other, strict=False))
        return len(one) == len(other) and all(alike)
    if kind is set:
        return bool(one == other)
    if kind in (Tensor, nn.Parameter):
        return one.requires_grad == other.requires_grad and _same_tensor(one, other)
    if isinstance(one, nn.Module):
        return twins.get(id(one)) is other
    return isinstance(one, _SHARED) and one is other


def _same_tensor(one: Tensor, other: Tensor) -> bool:
    same = (one.dtype, one.device, one.layout) == (other.dtype, other.device, other.layout)
    return same and one.layout == torch.strided and torch.equal(one, other)
