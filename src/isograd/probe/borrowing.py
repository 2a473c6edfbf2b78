"""Leave the patient as found: everything a forward and backward may change is put back."""

import random
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from isograd.errors import ModelError
from isograd.sites.containers import put_back
from isograd.sites.eager import eagerly
from isograd.sites.randomness import put_random_states, random_states, reseed

_SMALL = 2**24
"""Frozen parameters up to this many entries are copied, for forwards that write to them (code
books, moving averages); larger ones are frozen backbones, which nothing writes to."""

_TABLES = ("_parameters", "_buffers", "_modules")
_OWN = frozenset((*_TABLES, "training", *(n for n in vars(nn.Module()) if n.endswith("_hooks"))))
"""Attributes that are put back by other means, and hooks."""
_PLAIN = frozenset({int, bool, float, str, tuple, type(None)})
"""Types of attributes that hold nothing that could be changed in them."""

_HOLDING = frozenset({list, set, deque, dict, OrderedDict})
"""Types of attributes that hold others, as most of torch's own do."""

_within: ContextVar[bool] = ContextVar("_within", default=False)
"""Whether a model is borrowed already: whoever did so puts numpy's and Python's generators back,
whose states take as long to copy as all the rest of a small network."""


@contextmanager
def borrowed(model: nn.Module) -> Iterator[None]:
    """Restores parameters' gradients, buffers, attributes, modes and random states on leaving.

    Parameters' `.grad` is `None` inside; the same gradient objects are back afterwards. Compiled
    modules run eagerly: to compile each copy would take longer than what is asked of it.

    Raises:
        ModelError: the model has lazy parameters without a shape yet, or some of inference mode.
    """
    modules = list(model.modules())
    named = list(model.named_parameters())
    parameters = [parameter for _, parameter in named]
    for name, parameter in named:
        if isinstance(parameter, UninitializedParameter):
            raise ModelError(
                f"model: parameter {name!r} is lazy and has no shape yet; run the model on one "
                "batch before measuring it"
            )
        if parameter.is_inference():
            raise ModelError(
                f"model: parameter {name!r} is an inference tensor, which no gradient reaches; "
                "build the model outside of torch.inference_mode()"
            )
    drawn, generators = random_states(), None if _within.get() else _generators()
    modes = [module.training for module in modules]
    gradients = [parameter.grad for parameter in parameters]
    asks = [parameter.requires_grad for parameter in parameters]
    plain = [m for m in modules if not isinstance(m, torch.jit.ScriptModule)]
    tables = [(vars(m)[name], dict(vars(m)[name])) for m in plain for name in _TABLES]
    buffers = [(b, b.detach().clone()) for m in modules for b in _held(m)]
    frozen = [(p, p.detach().clone()) for p in parameters if not p.requires_grad and _small(p)]
    attributes = [(module, _attributes(module)) for module in plain]
    counted = tuple(t for t, _ in (*buffers, *frozen) if not t.is_inference())
    versions = _unsafe_preserve_version_counter(counted)
    for parameter in parameters:
        parameter.grad = None
    outer = _within.get()
    _within.set(True)
    try:
        with eagerly():
            yield
    finally:
        for parameter, gradient, asked in zip(parameters, gradients, asks, strict=True):
            if parameter.requires_grad != asked:
                parameter.requires_grad_(asked)
            parameter.grad = gradient
        for table, content in tables:
            put_back(table, content)
        for tensor, copy in (*buffers, *frozen):
            _put_back(tensor, copy)
        # A backward may be due that has saved them, and they are what it saved again.
        versions.__exit__(None, None, None)
        for module, before in attributes:
            _restore_attributes(module, before)
        for module, training in zip(modules, modes, strict=True):
            if module.training != training:
                module.training = training
        put_random_states(drawn)
        if generators is not None:
            _restore_generators(generators)
        _within.set(outer)


def left_alone(loss: Any) -> AbstractContextManager[None]:
    """The same for a loss; of one that is no module its attributes, and not what is in these."""
    if isinstance(loss, nn.Module):
        return borrowed(loss)
    return _attributes_kept(loss) if hasattr(loss, "__dict__") else nullcontext()


@contextmanager
def _attributes_kept(owner: Any) -> Iterator[None]:
    before = _attributes(owner)
    try:
        yield
    finally:
        _restore_attributes(owner, before)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Puts the generators of torch, numpy and Python back on leaving: data sets may draw from any.

    What shuffles draws its order late, with the first batch that somebody asks for.
    """
    drawn, states = random_states(), _generators()
    try:
        yield
    finally:
        put_random_states(drawn)
        _restore_generators(states)


def reseed_all(seed: int) -> None:
    """Seeds the generators of torch, numpy and Python; to be called where they are kept."""
    reseed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # data sets and models draw from it
    random.seed(seed)


def _small(tensor: Tensor) -> bool:
    return tensor.numel() <= _SMALL


def _held(module: nn.Module) -> list[Tensor]:
    if not module._buffers and not isinstance(module, torch.jit.ScriptModule):
        return []
    buffers = module.named_buffers(recurse=False)
    return [b for _, b in buffers if not isinstance(b, UninitializedBuffer)]


def _put_back(tensor: Tensor, copy: Tensor) -> None:
    # Written only where it changed: it may be memory that nobody can write to.
    if _same(tensor, copy):
        return
    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
        tensor.copy_(copy)


def _same(tensor: Tensor, copy: Tensor) -> bool:
    if tensor.shape != copy.shape or tensor.dtype != copy.dtype:
        return False
    if torch.equal(tensor, copy):
        return True
    if tensor.is_floating_point() or tensor.is_complex():
        return bool(((tensor == copy) | ((tensor != tensor) & (copy != copy))).all())
    return False


def _attributes(module: Any) -> dict[str, tuple[Any, Any]]:
    """Plain attributes of a module, or another object: each, and a copy of what it holds."""
    return {
        name: (value, None if type(value) in _PLAIN else _content(value))
        for name, value in vars(module).items()
        if name not in _OWN
    }


def _content(value: Any) -> Any:
    if type(value) in _HOLDING:
        return value.copy()
    if isinstance(value, Tensor):
        return value.detach().clone() if value.layout == torch.strided and _small(value) else None
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    return value.getstate() if isinstance(value, random.Random) else None


def _restore_attributes(module: Any, before: dict[str, tuple[Any, Any]]) -> None:
    now = vars(module)
    for name in [n for n in now if n not in before and n not in _OWN]:
        del now[name]
    for name, (value, content) in before.items():
        now[name] = value
        if content is None:
            continue
        if type(value) in _HOLDING:
            put_back(value, content)
        elif isinstance(value, Tensor):
            _put_back(value, content)
        elif isinstance(value, torch.Generator):
            value.set_state(content)
        elif isinstance(value, np.random.Generator):
            value.bit_generator.state = content
        elif isinstance(value, random.Random):
            value.setstate(content)
        else:
            put_back(value, content)


def _generators() -> tuple[Any, ...]:
    return np.random.get_state(), random.getstate()  # noqa: NPY002


def _restore_generators(states: tuple[Any, ...]) -> None:
    numpy_state, python_state = states
    np.random.set_state(numpy_state)  # noqa: NPY002  # the user's code may draw from it
    random.setstate(python_state)
