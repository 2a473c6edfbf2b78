"""Weights that are no parameters: modules compute them from others, as weight norm does."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.nn.utils.weight_norm import WeightNorm

from isograd.probe.borrowing import borrowed
from isograd.sites.tape import class_of

_KNOWN = (nn.Linear, nn.modules.conv._ConvNd)
_GIVEN_BACK = 1e-3
"""Relative difference up to which what was assigned came back."""


@dataclass(frozen=True)
class Computed:
    """How the `weight` of a linear or convolutional module is computed."""

    parts: tuple[str, ...]
    """Names of the parameters, in the module, that it is computed from."""
    by: str
    """What computes it, as a user would say it."""
    take: str = ""
    """Code about `module` that makes a tensor `weight` to fill."""
    put: str = ""
    """Code that assigns what was filled in; empty where none can be."""


def computed(module: nn.Module) -> tuple[Computed, Tensor] | None:
    """How a module's weight is computed, and its value; None where it is a parameter.

    Args:
        module: any; it is left as it was.
    """
    if not issubclass(class_of(module), _KNOWN) or "weight" in module._parameters:
        return None
    with borrowed(module), torch.no_grad():
        if is_parametrized(module, "weight"):
            chain = module.get_submodule("parametrizations.weight")
            assert isinstance(chain, ParametrizationList)
            return _parametrized(chain), chain().detach().clone()
        parts = tuple(n for n in module._parameters if n.startswith("weight_"))
        weight = getattr(module, "weight", None)
        if not parts or not isinstance(weight, Tensor):
            return None
        norms = [h for h in module._forward_pre_hooks.values() if isinstance(h, WeightNorm)]
        if len(module._forward_pre_hooks) == 1 and norms and norms[0].name == "weight":
            take = "weight = module.weight_v.detach()"
            norm = f"torch.norm_except_dim(weight, 2, {norms[0].dim})"
            put = f"module.weight_g.detach().copy_({norm})"
            return Computed(parts, "weight norm", take, put), norms[0].compute_weight(module)
        hooks = ", ".join(type(h).__name__ for h in module._forward_pre_hooks.values())
        return Computed(parts, hooks or "its module"), weight.detach().clone()


def _parametrized(chain: ParametrizationList) -> Computed:
    parts = tuple(f"parametrizations.weight.{name}" for name in chain._parameters)
    by = ", ".join(type(one).__name__.strip("_") for one in chain)
    if not _gives_back(chain):
        return Computed(parts, by)
    take = "weight = torch.empty_like(module.weight)"
    return Computed(parts, by, take, "module.weight = weight  # through its parametrization")


def _gives_back(chain: ParametrizationList) -> bool:
    """Whether a weight that is assigned is the one that is computed then, for twice the weight.

    Spectral norms and orthogonal weights keep a scale of their own.
    """
    try:
        wanted = 2 * chain()
        made: Any = wanted
        for one in reversed(chain):
            made = one.right_inverse(made)  # type: ignore[operator]  # a module's own
        for place, one in enumerate(chain):
            made = one(made) if isinstance(made, Tensor) or place else one(*made)
        return float((made - wanted).norm()) <= _GIVEN_BACK * float(wanted.norm())
    except Exception:  # whatever a parametrization of the user's raises
        return False
