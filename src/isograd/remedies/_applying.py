"""apply(): one remedy, alone, on one model."""

import typing
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from isograd.errors import InputError, RemedyError
from isograd.findings import Diagnosis
from isograd.probe.measuring import measure
from isograd.probe.rehearsal import rehearse
from isograd.records import Reading
from isograd.remedies._remedy import Case, Change, Loss, MakeOptimizer, Remedy
from isograd.sites.batches import beside


def case_of(
    model: nn.Module,
    batch: Any,
    loss: Loss | None = None,
    *,
    optimizer: torch.optim.Optimizer | MakeOptimizer | None = None,
    data: Iterable[Any] | None = None,
    seed: int = 0,
) -> Case:
    """Measures a network, which is left as found; nobody judges it. Arguments as of `check`."""
    seen = measure(model, batch, loss, seed=seed)
    reading = Reading(seen)
    if optimizer is not None:
        reading = rehearse(
            model, batch, loss, seen, optimizer=optimizer, data=None, steps=0, seed=seed
        )
    return Case(model, batch, Diagnosis((), (), reading), loss, optimizer, data)


@torch.inference_mode(False)  # new parameters have to learn
def apply(
    code: str,
    model: nn.Module,
    batch: Any,
    loss: Loss | None = None,
    *,
    optimizer: torch.optim.Optimizer | MakeOptimizer | None = None,
    data: Iterable[Any] | None = None,
    seed: int = 0,
    **settings: Any,
) -> Change:
    """Applies one remedy to a model, in place; `Change.undo()` takes it back.

    Args:
        code: of the remedy, as `init-gain`.
        model: any module.
        batch: as in `measure`.
        loss: as in `measure`.
        optimizer: the model's optimizer, or a factory such as `lambda p: SGD(p, lr=0.1)`.
        data: more batches, for statistics of the inputs.
        seed: of the random numbers that the remedy draws.
        settings: of the remedy, such as `keep="backward"`.

    Returns:
        The change: what to train now (`model`, `loss`, `optimizer`) and the change as code.

    Raises:
        CatalogueError: there is no such remedy.
        RemedyError: a precondition fails; the message says which.
        InputError: the remedy has no such setting, or not of such a value.
    """
    from isograd.remedies import REMEDIES  # late: the catalogue stands in the package

    remedy = REMEDIES[code]
    if settings:
        known = {name for name, _, _ in remedy.settings()}
        if unknown := sorted(set(settings) - known):
            raise InputError(
                f"{code} has no setting {', '.join(unknown)}; it has {', '.join(sorted(known))}"
            )
        _check_choices(remedy, settings)
        remedy = replace(remedy, **settings)  # type: ignore[type-var]  # every remedy is a dataclass
    batch = beside(batch, model)
    case = case_of(model, batch, loss, optimizer=optimizer, data=data, seed=seed)
    plan = remedy.plan(case)
    if isinstance(plan, str):
        raise RemedyError(f"{code}: not applied: {plan}")
    return plan.apply(model, seed=seed)


def _check_choices(remedy: Remedy, settings: dict[str, Any]) -> None:
    """Settings that are one of several words."""
    kinds = typing.get_type_hints(type(remedy))
    for name, value in settings.items():
        choices = typing.get_args(kinds[name])
        if typing.get_origin(kinds[name]) is typing.Literal and value not in choices:
            raise InputError(
                f"{remedy.code}: {name}={value!r}; it is one of {', '.join(map(str, choices))}"
            )
