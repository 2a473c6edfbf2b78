"""Variants: a network with other initial weights, activations or residual branches, for a while.

Nothing is drawn and no memory is taken: a weight is replaced by one on the meta device that knows
its law, also in a real model, and put back at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from isograd.errors import InputError, PredictionError
from isograd.prediction.changes import Change, Choice
from isograd.prediction.recording import recording
from isograd.prediction.tracing import Trace, trace
from isograd.records import Parameter
from isograd.sites import ACTIVATIONS
from isograd.sites.parameters import fans, feeding, following, parameters_of, uses
from isograd.theory import critical

_SWAPPED = {
    one.__name__.lower(): one
    for one in (
        nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh,
        nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.PReLU, nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU,
        nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink,
    )
}  # fmt: skip
"""Activation modules by their names in small letters."""
_GATES = (nn.Sigmoid, nn.Hardsigmoid)
"""Often gates or outputs rather than activations."""


@contextmanager
def traced(
    model: nn.Module, inputs: Any, change: Change, **options: Any
) -> Iterator[tuple[Trace, list[str]]]:
    """A run of a model as changed, and what the change came to; then the model is as it was.

    Args:
        model: real, or built inside `recording()`.
        inputs: as `predict` takes them.
        change: what to do differently.
        **options: further arguments of `trace`.

    Raises:
        InputError: nothing in the model is what the change is about.
        PredictionError: as in `predict`.
    """
    notes: list[str] = []
    with ExitStack() as stack:
        if change.activation:
            notes += stack.enter_context(_activations(model, change.activation))
        if change.init:
            before = trace(model, inputs, **options)
            notes += stack.enter_context(_weights(before, change.init))
        result = trace(model, inputs, residual_scale=change.residual_scale, **options)
        if change.activation:
            notes += _left_alone(result)
        if change.residual_scale is not None:
            notes.append(_scaled(result, change.residual_scale))
        yield result, notes


# -- activations --------------------------------------------------------------------------------


@contextmanager
def _activations(model: nn.Module, choices: Sequence[Choice]) -> Iterator[list[str]]:
    """Puts other activation modules in the place of those that a model has."""
    places = [
        (parent, name, child, path)
        for owner, parent in model.named_modules()
        for name, child in parent._modules.items()
        if child is not None and _is_activation(child)
        for path in [f"{owner}.{name}".lstrip(".")]
    ]
    if not places:
        raise InputError(
            "activation: the model has no activation modules of torch.nn (functions that its "
            "forward calls cannot be swapped); change its code, or make it an argument: --set"
        )
    gates_only = all(isinstance(child, _GATES) for _, _, child, _ in places)
    notes: list[str] = []
    swapped: list[tuple[nn.Module, str, nn.Module]] = []
    try:
        for choice in choices:
            made = _SWAPPED[choice.name.replace("_", "")]
            found = [
                place
                for place in places
                if fnmatchcase(place[3], choice.pattern)
                and (choice.pattern != "*" or gates_only or not isinstance(place[2], _GATES))
            ]
            if not found:
                known = ", ".join(place[3] for place in places[:5])
                raise InputError(
                    f"activation: no activation module is called {choice.pattern!r}; there is "
                    f"{known}{' …' if len(places) > 5 else ''}"
                )
            for parent, name, child, _ in found:
                swapped.append((parent, name, child))
                parent._modules[name] = made()
            all_of_them = "all modules" if len(found) == len(places) else f"{len(found)} modules"
            notes.append(f"activation: {all_of_them} are now {made.__name__}")
        spared = [p for p in places if not any(p[0] is s[0] and p[1] == s[1] for s in swapped)]
        if spared:
            notes.append(
                f"activation: {len(spared)} modules are as they were, such as {spared[0][3]}"
            )
        yield notes
    finally:
        for parent, name, child in swapped:
            parent._modules[name] = child


def _is_activation(module: nn.Module) -> bool:
    kind = type(module)
    return _SWAPPED.get(kind.__name__.lower()) is kind or kind.__module__.endswith(
        "transformers.activations"
    )


def _left_alone(found: Trace) -> list[str]:
    """Functions that the forward calls are no modules to swap."""
    rows = [row for row in found.reader.rows if row.kind in ACTIVATIONS and ":" in row.name]
    if not rows:
        return []
    return [
        f"activation: {len(rows)} functions that a forward calls are as they were, such as "
        f"{rows[0].name}"
    ]


# -- weights ------------------------------------------------------------------------------------


@contextmanager
def _weights(before: Trace, choices: Sequence[Choice]) -> Iterator[list[str]]:
    """Puts weights of other laws in the place of those of linear and convolutional layers."""
    model = before.model
    used_by, layouts = uses(before.tape)
    parameters = parameters_of(model, used_by)
    sites = tuple(row.site() for row in before.reader.rows)
    fed = feeding(sites, parameters, following(sites))
    tensors = list(model.parameters())
    weights = [i for i, p in enumerate(parameters) if p.is_weight and len(p.shape) > 1]
    replaced: dict[int, nn.Parameter] = {}
    notes = []
    for choice in choices:
        chosen = [i for i in weights if _matches(choice.pattern, parameters[i].name)]
        if not chosen:
            known = ", ".join(parameters[i].name for i in weights[:5])
            raise InputError(
                f"init: no weight is called {choice.pattern!r}; there is "
                f"{known or 'none at all'}{' …' if len(weights) > 5 else ''}"
            )
        for index in chosen:
            made = _drawn(
                choice,
                parameters[index],
                tensors[index],
                fed[index],
                layouts.get(index, (False, 1)),
            )
            replaced[id(tensors[index])] = made
        if choice.name == "critical":
            shifts = _critical_biases(model, [parameters[i].name for i in chosen], parameters, fed)
            replaced.update(shifts)
        told = choice.name if choice.number is None else f"{choice.name}:{choice.number:g}"
        biases = "" if choice.name == "critical" else ", biases as they were"
        all_of_them = "all weights" if len(chosen) == len(weights) else f"{len(chosen)} weights"
        notes.append(f"init: {all_of_them} drawn by {told}{biases}")
    with _in_place_of(model, replaced):
        yield notes


def _matches(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[0], pattern)


@contextmanager
def _in_place_of(model: nn.Module, replaced: Mapping[int, nn.Parameter]) -> Iterator[None]:
    kept = [
        (module, name, parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None and id(parameter) in replaced
    ]
    try:
        for module, name, parameter in kept:
            module._parameters[name] = replaced[id(parameter)]
        yield
    finally:
        for module, name, parameter in kept:
            module._parameters[name] = parameter


def _drawn(
    choice: Choice,
    parameter: Parameter,
    old: Tensor,
    fed: str | None,
    layout: tuple[bool, int],
) -> nn.Parameter:
    """A weight on the meta device that knows how it would be drawn."""
    inside, _ = fans(parameter, *layout)
    with recording():
        made = torch.empty(parameter.shape, dtype=old.dtype)
        # x @ w is laid out [in, out], where torch.nn.init takes [out, in].
        turned = layout[0] and made.ndim == 2
        _fill(choice, made.t() if turned else made, inside, fed or "linear")
        return nn.Parameter(made, requires_grad=old.requires_grad)


def _fill(choice: Choice, weight: Tensor, fan_in: int, fed: str) -> None:
    name, number = choice.name, choice.number
    init: Callable[..., Any] | None = getattr(nn.init, f"{name}_", None)
    if name == "critical":
        nn.init.normal_(weight, 0.0, math.sqrt(_critical(fed)[0] / fan_in))
    elif name == "lecun":
        nn.init.normal_(weight, 0.0, (number or 1.0) / math.sqrt(fan_in))
    elif name in ("normal", "trunc_normal"):
        assert init is not None
        std = 0.02 if number is None else number
        init(weight, 0.0, std, *((-2 * std, 2 * std) if name == "trunc_normal" else ()))
    elif name == "uniform":
        bound = 1 / math.sqrt(fan_in) if number is None else number
        nn.init.uniform_(weight, -bound, bound)
    elif name == "zeros":
        nn.init.zeros_(weight)
    elif name.startswith("kaiming"):
        assert init is not None
        init(weight, a=number or 0.0)
    else:
        assert init is not None
        init(weight, gain=1.0 if number is None else number)


def _critical(fed: str) -> tuple[float, float]:
    """(weight variance times fan-in, bias variance) at which gradients keep their size."""
    found = critical(fed)
    if found.weight_var is None or found.bias_var is None:
        raise InputError(f"init: {fed} has no critical initialization: {found.reason}")
    return found.weight_var, found.bias_var


def _critical_biases(
    model: nn.Module,
    weights: Sequence[str],
    parameters: Sequence[Parameter],
    fed: Sequence[str | None],
) -> dict[int, nn.Parameter]:
    """Biases of the layers whose weights are made critical."""
    owners = dict(model.named_modules())
    kinds = {parameter.name: kind for parameter, kind in zip(parameters, fed, strict=True)}
    made = {}
    for name in weights:
        bias = getattr(owners[name.rpartition(".")[0]], "bias", None)
        if not isinstance(bias, nn.Parameter) or bias.ndim != 1:
            continue
        with recording():
            other = torch.empty(bias.shape, dtype=bias.dtype)
            variance = _critical(kinds[name] or "linear")[1]
            if variance:
                nn.init.normal_(other, 0.0, math.sqrt(variance))
            else:
                nn.init.zeros_(other)
            made[id(bias)] = nn.Parameter(other, requires_grad=bias.requires_grad)
    return made


# -- residual branches --------------------------------------------------------------------------


def _scaled(found: Trace, factor: float) -> str:
    if not found.reader.branches:
        raise PredictionError(
            "residual-scale: the model has no addition that closes an identity skip, x + f(x)"
        )
    return f"residual-scale: every branch is multiplied by {factor:g} before it is added"
