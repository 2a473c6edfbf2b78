"""Transformed: an activation within the constants of DKS or TAT, as a torch module."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from isograd.errors import InputError
from isograd.theory.activations import Activation

if TYPE_CHECKING:
    import torch
    from torch import nn

    from isograd.theory.transforms import Transform


def transformed(constants: "Transform") -> "nn.Module":
    """A new module with the constants of a transform.

    Raises:
        InputError: the activation was handed in as a function of arrays.
    """
    leaky = constants.negative_slope is not None
    module: Any = _module_class()()
    module.function = None if leaky else _of_torch(constants.act)
    for name in ("input_scale", "input_shift", "output_shift", "output_scale", "negative_slope"):
        setattr(module, name, getattr(constants, name))
    made: nn.Module = module
    return made


def _of_torch(act: object) -> Any:
    """The torch function of what was transformed."""
    import torch

    if isinstance(act, Activation):
        raise InputError(
            f"activation {act.name} is a function of arrays; hand transform() its name, "
            "a torch module or a torch function to get a module"
        )
    if isinstance(act, type):
        return act()
    if not isinstance(act, str):
        return act
    return getattr(torch.nn.functional, act, None) or getattr(torch, act)


def __getattr__(name: str) -> Any:
    # Where pickle looks the class up: it cannot be made before torch is there.
    if name == "Transformed":
        return _module_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@lru_cache(maxsize=1)
def _module_class() -> Any:
    from torch import nn

    class Transformed(nn.Module):
        """x -> output_scale (function(input_scale x + input_shift) + output_shift)."""

        function: Any
        input_scale: float
        input_shift: float
        output_shift: float
        output_scale: float
        negative_slope: float | None

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            if self.negative_slope is not None:
                return self.output_scale * nn.functional.leaky_relu(x, self.negative_slope)
            y: torch.Tensor = self.function(self.input_scale * x + self.input_shift)
            return self.output_scale * (y + self.output_shift)

        def extra_repr(self) -> str:
            names = ["input_scale", "input_shift", "output_shift", "output_scale"]
            if self.negative_slope is not None:
                names = ["negative_slope", "output_scale"]
            return ", ".join(f"{name}={getattr(self, name)}" for name in names)

    Transformed.__qualname__ = "Transformed"
    return Transformed
