"""Factories of optimizers, `params -> Optimizer`: picklable, and they say themselves as code."""

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from isograd.errors import InputError
from isograd.remedies._code import loop, number, program
from isograd.remedies._remedy import GROWN, Case, MakeOptimizer


@dataclass(frozen=True)
class Like:
    """Makes an optimizer like the one that was handed in, for other parameters.

    Groups are told by the order of the parameters. A model that has more or fewer of them gets one
    group, with the settings of the first.
    """

    kind: type[torch.optim.Optimizer]
    groups: tuple[tuple[dict[str, Any], tuple[int, ...]], ...]
    """Settings and positions in `model.parameters()`."""
    count: int

    def __call__(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """The optimizer."""
        given = list(parameters)
        if self.count != len(given) or any(isinstance(p, dict) for p in given):
            return self.kind(given, **self.groups[0][0])
        made = [
            {**settings, "params": [given[i] for i in places]} for settings, places in self.groups
        ]
        return self.kind(made, **self.groups[0][0])


@dataclass(frozen=True)
class Scaled:
    """An optimizer with every learning rate times a factor."""

    make: MakeOptimizer
    factor: float

    def __call__(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """The optimizer."""
        made = self.make(parameters)
        for group in made.param_groups:
            group["lr"] = group["lr"] * self.factor
        return made


@dataclass(frozen=True)
class Apart:
    """An optimizer with other learning rates for some of the parameters."""

    make: MakeOptimizer
    places: tuple[int, ...]
    """Of those parameters in `model.parameters()`."""
    factor: float

    def __call__(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """The optimizer, which has those in a last group."""
        given = list(parameters)
        made, own = self.make(given), {id(given[place]) for place in self.places}
        move_apart(made, [p for p in given if id(p) in own], self.factor)
        return made


def move_apart(optimizer: torch.optim.Optimizer, parameters: Sequence[Any], factor: float) -> None:
    """Gives parameters of the first group a group with its settings, and its rate times a factor.

    Those that the optimizer does not hold there stay as they are.
    """
    first, own = optimizer.param_groups[0], {id(p) for p in parameters}
    held = [p for p in first["params"] if id(p) in own]
    first["params"] = [p for p in first["params"] if id(p) not in own]
    rate = {"lr": first["lr"] * factor, "params": held}
    optimizer.add_param_group({**first, **rate})


@dataclass(frozen=True)
class Made:
    """An optimizer of torch.optim with settings."""

    kind: type[torch.optim.Optimizer]
    settings: dict[str, Any]

    def __call__(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """The optimizer."""
        return self.kind(parameters, **self.settings)

    def code(self) -> str:
        """The constructor's call, settings that are torch's own left out."""
        return constructor(self.kind, self.settings)


@dataclass
class _Rise:
    """Lower learning rates for the first steps; picklable, and made anew for every optimizer.

    Between steps the groups hold their full rates, so that a schedule may go on from them.
    """

    steps: int
    done: int = 0
    rates: list[Any] = field(default_factory=list)

    def lower(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Before a step."""
        self.done = min(self.done + 1, self.steps)
        self.rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * self.done / self.steps

    def put_back(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """After it."""
        for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate


@dataclass
class _Clip:
    """Clips the norm of all gradients before a step; picklable."""

    max_norm: float

    def __call__(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Of the optimizer's parameters."""
        held = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(held, self.max_norm)


@dataclass(frozen=True)
class Warmed:
    """Makes an optimizer whose learning rates rise linearly over the first steps."""

    make: MakeOptimizer
    steps: int

    def __call__(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """The optimizer, which warms itself up."""
        made, rise = self.make(parameters), _Rise(self.steps)
        made.register_step_pre_hook(rise.lower)
        made.register_step_post_hook(rise.put_back)
        return made


@dataclass(frozen=True)
class Clipped:
    """Makes an optimizer that clips the norm of all gradients before every step."""

    make: MakeOptimizer
    max_norm: float

    def __call__(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """The optimizer, which clips by itself."""
        made = self.make(parameters)
        made.register_step_pre_hook(_Clip(self.max_norm))
        return made


def factory_of(case: Case) -> MakeOptimizer | str:
    """The case's optimizer as a factory, or why there is none."""
    given = case.optimizer
    if given is None:
        return "it needs the optimizer: hand it in as optimizer="
    if not isinstance(given, torch.optim.Optimizer):
        return given
    places = {id(p): i for i, p in enumerate(case.model.parameters())}
    groups = []
    for group in given.param_groups:
        held = tuple(places[id(p)] for p in group["params"] if id(p) in places)
        groups.append((_settings(type(given), group), held))
    if not any(held for _, held in groups):  # the optimizer of another copy
        groups = [(groups[0][0], tuple(places.values()))]
    return Like(type(given), tuple(groups), len(places))


def settings_of(case: Case) -> tuple[type[torch.optim.Optimizer], dict[str, Any], int] | None:
    """Class, settings of the first group, and number of groups; None where there is no telling."""
    given = case.optimizer
    if given is None:
        return None
    if not isinstance(given, torch.optim.Optimizer):
        try:
            given = given(case.model.parameters())
        except Exception as error:
            raise InputError(
                f"optimizer: the factory raised {type(error).__name__}: {error}; it is called with "
                "model.parameters()"
            ) from error
    return type(given), _settings(type(given), given.param_groups[0]), len(given.param_groups)


def _settings(kind: type, group: dict[str, Any]) -> dict[str, Any]:
    known = _arguments(kind)
    return {name: value for name, value in group.items() if name in known and name != "params"}


def _arguments(kind: type) -> dict[str, inspect.Parameter]:
    """Of the constructor, with those that a `**settings` hands on to the classes below."""
    found: dict[str, inspect.Parameter] = {}
    for one in kind.__mro__:
        own = inspect.signature(one.__init__).parameters  # type: ignore[misc]  # of classes as such
        found = {**own, **found}
        if all(p.kind is not p.VAR_KEYWORD for p in own.values()):
            break
    return found


def constructor(kind: type, settings: dict[str, Any]) -> str:
    """`optimizer = torch.optim.SGD(model.parameters(), lr=0.1)`, defaults left out.

    Other classes are imported above it, but for those that the user's own script defines.
    """
    known = _arguments(kind)
    own = {n: v for n, v in settings.items() if n == "lr" or v != known[n].default}
    told = [f"{n}={number(v) if type(v) is float else repr(v)}" for n, v in own.items()]
    name, line = kind.__qualname__.rpartition("<locals>.")[2], ""
    if kind.__module__.startswith("torch.optim"):
        name = f"torch.optim.{kind.__name__}"
    elif kind.__module__ != "__main__" and "<locals>" not in kind.__qualname__:
        line = f"from {kind.__module__} import {name.partition('.')[0]}\n"
    return f"{line}optimizer = {name}({', '.join(('model.parameters()', *told))})"


def optimizer_again(case: Case, new: Sequence[str]) -> str:
    """The lines that give the case's optimizer the new parameters of a changed model.

    Args:
        case: whose optimizer it is.
        new: the names of those parameters.
    """
    told = settings_of(case)
    if told is None:
        return f"# {GROWN}"
    kind, settings, groups = told
    if groups == 1:
        return program("# " + GROWN, constructor(kind, settings))
    if not isinstance(case.optimizer, torch.optim.Optimizer):
        return f"# {GROWN}"
    added = 'optimizer.param_groups[0]["params"].append(model.get_parameter(name))'
    forget = "optimizer.state.clear()  # it is of the old weights" if case.optimizer.state else ""
    why = "# optimizer: its first group takes the new parameters, or they are not trained"
    return program(why, loop("name", new, added), forget)


def with_rate(case: Case, factor: float) -> str:
    """The lines that multiply the learning rate, in the words of the user's optimizer."""
    told = settings_of(case)
    if told is None or told[2] > 1 or not told[0].__module__.startswith("torch.optim"):
        return f'for group in optimizer.param_groups:\n    group["lr"] *= {number(factor)}'
    kind, settings, _ = told
    rate = float(settings["lr"]) * factor
    return program(constructor(kind, {**settings, "lr": rate}))
