"""Modules: which ones are alive in this process, and what stands around one of them."""

import gc
from collections.abc import Collection

from torch import nn


def alive() -> list[nn.Module]:
    """Every module of this process; a look at all objects, some 0.1 s."""
    # type(), for some objects pretend to be of another class and wake up when asked.
    return [thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module)]


def wrapper_of(model: nn.Module) -> nn.Module:
    """What distributes or compiles a model, if anything does; else the model."""
    while True:
        around = next(
            (m for m in alive() if model in (_part(m, "module"), _part(m, "_orig_mod"))), None
        )
        if around is None:
            return model
        model = around


def whole_of(part: nn.Module, parameters: Collection[int]) -> nn.Module:
    """The smallest module with this part in it that has all of these parameters (ids).

    The part itself, where no module has more of them.
    """
    best, score = part, (_covers(part, parameters), 0)
    if score[0] < len(parameters):
        for module in alive():
            if any(m is part for m in module.modules()):
                # Of those that have as many, the smaller one.
                found = (_covers(module, parameters), -sum(1 for _ in module.modules()))
                if found[0] > _covers(best, parameters) or (best is not part and found > score):
                    best, score = module, found
    return best


def _covers(module: nn.Module, parameters: Collection[int]) -> int:
    return sum(id(p) in parameters for p in module.parameters())


def _part(module: nn.Module, name: str) -> nn.Module | None:
    """A child, of wrappers alone: other modules have a child of that name, too."""
    if name == "module" and not _wraps(module):
        return None
    children: dict[str, nn.Module | None] = vars(module).get("_modules", {})
    return children.get(name)


def _wraps(module: nn.Module) -> bool:
    from torch.nn.parallel import DataParallel, DistributedDataParallel

    return isinstance(module, (DataParallel, DistributedDataParallel))
