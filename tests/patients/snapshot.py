"""Everything about a patient that a look must leave as it was, in a form that can be compared."""

import random
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks


class Same:
    """Equal to another one only if both hold the very same object; keeps it alive."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)

    def __repr__(self) -> str:
        return f"<{type(self.value).__name__} at {id(self.value):x}>"


def content(tensor: Tensor) -> tuple[Any, ...]:
    """Type, shape and bytes of a tensor; for an uninitialized one its type alone."""
    if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
        return (type(tensor).__name__,)
    tensor = tensor.detach()
    flat = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    raw = flat.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return (str(tensor.dtype), tuple(tensor.shape), raw)


def freeze(value: Any) -> Any:
    """A value that equals a later one exactly if nothing in it was changed or replaced."""
    if isinstance(value, Tensor):
        hooks = getattr(value, "_backward_hooks", None)
        return (
            Same(value),
            content(value),
            value.requires_grad,
            freeze(value.grad) if value.is_leaf else None,
            freeze(hooks),
        )
    if isinstance(value, Mapping):
        return {_key(key): freeze(item) for key, item in list(value.items())}
    if isinstance(value, list | tuple):
        return [freeze(item) for item in value]
    if isinstance(value, bool | int | float | str | type(None)):
        return repr(value)
    return Same(value)


def _key(key: Any) -> Any:
    return key if isinstance(key, str | int) else Same(key)


def of_model(model: nn.Module) -> dict[str, Any]:
    """Every attribute of every module: parameters, buffers, hooks, mode, and the user's own."""
    seen: dict[str, Any] = {}
    for name, module in model.named_modules():
        seen[f"{name}: class"] = Same(type(module))
        for key, value in vars(module).items():
            seen[f"{name}: {key}"] = freeze(value)
    return seen


def of_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """State, groups, hooks and everything else the optimizer holds."""
    return {f"optimizer: {key}": freeze(value) for key, value in vars(optimizer).items()}


def of_process() -> dict[str, Any]:
    """Generators, modes, switches and global hooks."""
    return {
        "torch generator": content(torch.get_rng_state()),
        "numpy generator": repr(np.random.get_state()),  # noqa: NPY002  # the one users share
        "python generator": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "multithreaded backward": torch.autograd.is_multithreading_enabled(),
        "function modes": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "compiler stance": repr(torch._dynamo.eval_frame._stance),
        "global hooks": {
            name: freeze(value)
            for name, value in vars(global_hooks).items()
            if name.startswith("_global_") and isinstance(value, Mapping)
        },
        "tracing": (sys.gettrace(), sys.getprofile()),
        "threads alive": threading.active_count(),
        "warning filters": list(warnings.filters),
    }


def snapshot(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """The whole state of model, optimizer and process."""
    of_its_own = {} if optimizer is None else of_optimizer(optimizer)
    return {**of_model(model), **of_its_own, **of_process()}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two snapshots, in words; empty where nothing does."""
    gone = [f"gone: {key}" for key in before if key not in after]
    new = [f"new: {key}" for key in after if key not in before]
    both = [key for key in before if key in after and before[key] != after[key]]
    return gone + new + [f"changed: {line}" for key in both for line in _where(key, before, after)]


def _where(key: Any, before: Any, after: Any) -> Iterator[str]:
    """The innermost places at which two frozen values differ."""
    old, now = before[key], after[key]
    if isinstance(old, dict) and isinstance(now, dict):
        yield from (f"{key} > {line}" for line in changes(old, now))
    else:
        yield f"{key}: {str(old)[:120]} -> {str(now)[:120]}"


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a model's output, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
