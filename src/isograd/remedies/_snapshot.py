"""Snapshot: everything of a model that a change may touch, to be put back bit for bit."""

from typing import Any

import torch
from torch import Tensor, nn


class Snapshot:
    """A model as it stood when this was made; costs a copy of its tensors."""

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self._modules = [(m, type(m), m.training, _attributes(m)) for m in modules]
        held = {id(t): t for m in modules for t in _tensors(m)}
        self._tensors = [
            (t, t.data, t.detach().clone(), t.requires_grad, t.grad) for t in held.values()
        ]

    def restore(self) -> None:
        """Puts back classes, attributes, tables of modules and hooks, values, gradients, modes."""
        for module, kind, training, attributes in self._modules:
            if type(module) is not kind:  # a parametrization puts a subclass in its place
                module.__class__ = kind
            now = vars(module)
            for name in [n for n in now if n not in attributes]:
                del now[name]
            for name, (value, content) in attributes.items():
                now[name] = value
                if content is not None:
                    value.clear()
                    value.update(content)
            if module.training != training:
                module.training = training
        with torch.no_grad():
            for tensor, data, values, asks, gradient in self._tensors:
                tensor.data = data
                tensor.copy_(values)
                if tensor.is_leaf:
                    tensor.requires_grad_(asks)
                tensor.grad = gradient


def _attributes(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """Attributes, and what their dictionaries (modules, parameters, buffers, hooks) hold."""
    return {
        name: (value, type(value)(value) if isinstance(value, dict) else None)
        for name, value in vars(module).items()
    }


def _tensors(module: nn.Module) -> list[Tensor]:
    own = (*module._parameters.values(), *module._buffers.values())
    return [t for t in own if t is not None]
