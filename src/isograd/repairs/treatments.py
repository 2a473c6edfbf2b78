"""Treatment: no, one or two planned changes, made on a copy that is then trained."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from isograd.errors import InputError
from isograd.probe.copying import known_copies
from isograd.probe.stepping import awake
from isograd.remedies import Case, Plan, Remedy

AS_IT_IS = "as it is"
"""Name of the treatment that changes nothing."""


@dataclass(frozen=True)
class Trainee:
    """A copy of the user's network, changed, with its optimizer and loss."""

    model: nn.Module
    loss: Any
    """None where it is chosen by the types of output and targets."""
    optimizer: torch.optim.Optimizer
    new_loss: bool
    """Whether it is trained on another loss than the user's."""
    new: tuple[str, ...] = ()
    """Trainable parameters that it has and the user's has not, by name."""


@dataclass(frozen=True)
class Treatment:
    """What is done to a network before it is trained."""

    plans: tuple[Plan, ...] = ()
    labels: tuple[str, ...] = ()
    """Of each change its remedy, with the settings that are not the usual ones."""
    families: tuple[str, ...] = ()
    invasive: int = -1
    """Of the most invasive change; -1 of none."""
    cause: int = 0
    """Which of the causes that were found it addresses: 0 is the first."""

    aside: bool = False
    """Whether it was made for another cause, and helps against this one too."""
    pressing: bool = False
    """Whether it addresses an error."""
    completes: bool = False
    """Whether it adds to a change what that change cannot do without."""

    @property
    def settles(self) -> int:
        """Steps of training before which nothing can be said of it."""
        return max((plan.settles for plan in self.plans), default=0)

    @property
    def name(self) -> str:
        """`init-gain`, `init-gain (keep=compromise) + optimizer-lr`."""
        return " + ".join(self.labels) or AS_IT_IS

    def then(self, other: "Treatment") -> "Treatment":
        """This one and another after it, as one."""
        return Treatment(
            (*self.plans, *other.plans),
            (*self.labels, *other.labels),
            (*self.families, *other.families),
            max(self.invasive, other.invasive),
            min(self.cause, other.cause),
            self.aside or other.aside,
            completes=other.pressing,
        )

    def start(self, case: Case, seed: int) -> Trainee:
        """A copy of the case's network after the changes, ready to be trained.

        Raises:
            RemedyError: a change does not fit.
            InputError: the network cannot be copied, or the optimizer cannot be made.
        """
        model, optimizer = copied(case)
        before = list(model.parameters())
        loss, make, new_loss = case.loss, None, False
        for place, plan in enumerate(self.plans):
            change = plan.apply(model, seed=seed + place, undoable=False)
            model = change.model
            if change.loss is not None:
                loss, new_loss = change.loss, True
            make = change.optimizer or make
        if not isinstance(optimizer, torch.optim.Optimizer):
            optimizer = made(make or optimizer, model.parameters())
        elif make is not None and len(optimizer.param_groups) > 1:
            # Groups are told by the places that parameters had before the changes.
            optimizer = made(make, before)
            refit(optimizer, before, model)
        elif make is not None:
            optimizer = made(make, model.parameters())
        elif self.plans:
            refit(optimizer, before, model)
        known = {id(p) for p in before}
        named = model.named_parameters()
        new = tuple(name for name, p in named if id(p) not in known and p.requires_grad)
        return Trainee(model, loss, optimizer, new_loss, new)


def treatment(remedy: Remedy, plan: Plan, cause: int, *, aside: bool, pressing: bool) -> Treatment:
    """One planned change as a treatment."""
    own = [
        f"{one.name}={_short(getattr(remedy, one.name))}"
        for one in fields(remedy)  # type: ignore[arg-type]  # every remedy is a dataclass
        if getattr(remedy, one.name) != one.default
    ]
    label = f"{remedy.code} ({', '.join(own)})" if own else remedy.code
    return Treatment((plan,), (label,), (remedy.family,), remedy.invasive, cause, aside, pressing)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def copied(case: Case) -> tuple[nn.Module, Any]:
    """A copy of the model, with a copy of its optimizer or the factory that there is.

    Raises:
        InputError: the network cannot be copied.
    """
    given = case.optimizer
    try:
        if isinstance(given, torch.optim.Optimizer):
            model, optimizer = copy.deepcopy((case.model, given), known_copies(case.model, given))
            awake(optimizer)
            return model, optimizer
        return copy.deepcopy(case.model, known_copies(case.model)), given
    except Exception as error:  # whatever the user's classes raise when copied
        raise InputError(
            f"repair: the model cannot be copied ({type(error).__name__}: {error}"
            f"{_culprit(case.model)}), and nothing is tried on the original; make it outside "
            "of the model, or give its class a __deepcopy__ that works"
        ) from error


def _culprit(model: nn.Module) -> str:
    """`; attribute 'stream' of the module 'head'`: the first that cannot be copied by itself."""
    own = set(vars(nn.Module()))
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            try:
                copy.deepcopy(None if key in own else value)
            except Exception:
                return f"; attribute {key!r} of {f'the module {name!r}' if name else 'the model'}"
    return ""


def refit(optimizer: torch.optim.Optimizer, before: list[nn.Parameter], model: nn.Module) -> None:
    """Fits an optimizer to a changed model: parameters that are gone go, new ones come.

    New ones join the first group. What the optimizer remembers is of the old weights: forgotten.
    """
    now = list(model.parameters())
    known, here = {id(p) for p in before}, {id(p) for p in now}
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) in here]
    new = [p for p in now if id(p) not in known and p.requires_grad]
    optimizer.param_groups[0]["params"] += new
    optimizer.state.clear()


def made(make: Any, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer that a factory makes for a model's parameters.

    Raises:
        InputError: it raised, or returned something else.
    """
    try:
        optimizer = make(parameters)
    except Exception as error:
        raise InputError(
            f"optimizer: the factory raised {type(error).__name__}: {error}; it is called with "
            "model.parameters()"
        ) from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            f"optimizer: the factory returned a {type(optimizer).__name__}, not a "
            "torch.optim.Optimizer"
        )
    return optimizer
