"""Modules that remedies put around a user's own; plain, so that they copy, save, export."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.errors import InputError


class Skip(nn.Module):
    """x + scale * body(x).

    Args:
        body: maps a tensor to one of its shape; its keys in `state_dict` begin with `body.`.
        scale: of the branch.
        learn: whether the scale is a parameter (SkipInit, ReZero start it at 0).
    """

    scale: Tensor

    def __init__(self, body: nn.Module, scale: float = 1.0, *, learn: bool = False) -> None:
        super().__init__()
        self.body = body
        _put_scale(self, body, scale, learn=learn)

    def forward(self, x: Tensor) -> Tensor:
        """The sum."""
        out: Tensor = self.body(x)
        return x + self.scale * out


class Scaled(nn.Module):
    """scale * body(x), the scale a parameter.

    Args:
        body: gives a tensor; its keys in `state_dict` begin with `body.`.
        scale: at the start.
    """

    scale: Tensor

    def __init__(self, body: nn.Module, scale: float = 0.0) -> None:
        super().__init__()
        self.body = body
        _put_scale(self, body, scale, learn=True)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The scaled output."""
        out: Tensor = self.body(*args, **kwargs)
        return self.scale * out


def _put_scale(module: nn.Module, body: nn.Module, scale: float, *, learn: bool) -> None:
    like = next(iter(body.parameters()), torch.zeros(()))
    value = torch.tensor(scale, dtype=like.dtype, device=like.device)
    if learn:
        module.register_parameter("scale", nn.Parameter(value))
    else:
        module.register_buffer("scale", value)


class WeightStandardized(nn.Module):
    """A linear or convolutional layer whose units' weights have mean 0 and norm `gain`.

    Scaled weight standardization (Brock, De and Smith 2021, Characterizing signal propagation to
    close the performance gap in unnormalized ResNets), with a learned factor per unit.

    Args:
        layer: an nn.Linear or an nn.Conv1d, 2d or 3d; its keys begin with `layer.`.
        gain: 1/sqrt(Var phi) of the activation that it reads.

    Raises:
        InputError: it is another layer.
    """

    def __init__(self, layer: nn.Module, gain: float = 1.0) -> None:
        super().__init__()
        if not isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            raise InputError(
                f"WeightStandardized: a {type(layer).__name__} is no nn.Linear and no nn.Conv1d, "
                "2d or 3d; leave it as it is"
            )
        self.layer, self.gain = layer, gain
        self.factor = nn.Parameter(torch.ones_like(layer.weight.flatten(1)[:, 0].detach()))

    def weight(self) -> Tensor:
        """The standardized weight."""
        rows = self.layer.weight.flatten(1)
        var, mean = torch.var_mean(rows, 1, keepdim=True, correction=0)
        # The floor keeps units of constant weights finite.
        scale = torch.rsqrt((var * rows.shape[1]).clamp_min(1e-12))
        return ((rows - mean) * scale * self.gain * self.factor[:, None]).view_as(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output."""
        if isinstance(self.layer, nn.Linear):
            return F.linear(x, self.weight(), self.layer.bias)
        out: Tensor = self.layer._conv_forward(x, self.weight(), self.layer.bias)
        return out

    def extra_repr(self) -> str:
        """The gain."""
        return f"gain={self.gain:g}"


class FiniteGradient(nn.Module):
    """A module whose input's gradient is zero wherever it would not be finite.

    Args:
        body: takes tensors by position; its keys in `state_dict` begin with `body.`.
        values: whether entries of its output, one tensor, that are not finite are zero as well.
    """

    def __init__(self, body: nn.Module, *, values: bool = False) -> None:
        super().__init__()
        self.body, self.values = body, values

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own output."""
        guarded = [_guarded(x) for x in args]
        out = self.body(*guarded, **kwargs)
        return torch.where(torch.isfinite(out), out, 0.0) if self.values else out


def _guarded(x: Any) -> Any:
    if not (isinstance(x, Tensor) and x.is_floating_point() and x.requires_grad):
        return x
    # A hook, not a function of autograd: half as dear, and torch.func takes it as well.
    seen = x.view_as(x)
    seen.register_hook(_finite)
    return seen


def _finite(gradient: Tensor) -> Tensor:
    return torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)


class Autocast(nn.Module):
    """A float32 model that computes in a narrower format; inputs and outputs are float32.

    Args:
        model: in float32; its keys in `state_dict` begin with `model.`.
        dtype: to compute in.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        self.training = model.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's output."""
        args, kwargs = _cast(args), _cast(kwargs)
        like = next(iter(self.model.parameters()))
        with torch.autocast(like.device.type, dtype=self.dtype):
            return _cast(self.model(*args, **kwargs))


def _cast(value: Any) -> Any:
    """Floating-point tensors as float32, inside tuples, lists and dicts too."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if type(value) in (tuple, list):
        return type(value)(_cast(item) for item in value)
    if type(value) is dict:
        return {key: _cast(item) for key, item in value.items()}
    return value
