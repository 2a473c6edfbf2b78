"""Train mode against eval mode: what batch norms would compute with their running statistics."""

from typing import Any

import torch
from torch import Tensor, nn

from isograd.sites.batches import Batch, is_signal, tensors

Running = dict[nn.modules.batchnorm._BatchNorm, dict[str, Tensor]]
"""Batch norms in train mode that have seen a batch, with copies of their running statistics."""


def running(model: nn.Module) -> Running:
    """The running statistics before a forward in train mode mixes its own batch into them."""
    return {
        m: {name: b.detach().clone() for name, b in m.named_buffers(recurse=False)}
        for m in model.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
        and m.training
        and int(m.num_batches_tracked or 0) > 0
    }


def switches(model: nn.Module) -> list[nn.Module]:
    """The modules that do something else in evaluation mode."""
    from torch.nn.modules.dropout import _DropoutNd

    return [
        m
        for m in model.modules()
        if (isinstance(m, _DropoutNd) and m.p > 0)
        or (isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats)
    ]


def lag(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor | None:
    """How far one batch norm's output would be off in eval mode, over its rms in train mode.

    Of a channel with mean m and deviation s in the batch, and M and S so far, the normalized
    values differ by (s/S - 1) z + (m - M)/S, whose mean square is the sum of both squared.

    Args:
        norm: in train mode; it has just run on `x` and taken it into its running statistics.
        x: its input.

    Returns:
        A number on the device of `x`; None where there are no running statistics.
    """
    if not norm.training or norm.running_mean is None or norm.running_var is None or x.ndim < 2:
        return None
    others = [axis for axis in range(x.ndim) if axis != 1]
    var, mean = torch.var_mean(x.detach().double(), others, correction=0)
    count = x.numel() / x.shape[1]
    old_mean, old_var = norm.running_mean.double(), norm.running_var.double()
    if norm.momentum and norm.momentum < 1:
        part = norm.momentum
        old_mean = (old_mean - part * mean) / (1 - part)
        old_var = (old_var - part * var * count / max(count - 1, 1)) / (1 - part)
    var, old_var = var + norm.eps, old_var.clamp(min=0) + norm.eps
    off = ((var / old_var).sqrt() - 1).square() + (mean - old_mean).square() / old_var
    weight, shift = torch.ones_like(off), torch.zeros_like(off)
    if norm.weight is not None:
        weight, shift = norm.weight.detach().double(), norm.bias.detach().double()
    size = (weight.square() + shift.square()).mean().clamp(min=1e-300)
    return ((weight.square() * off).mean() / size).sqrt()


def eval_gap(model: nn.Module, batch: Batch, outputs: Any, before: Running) -> float | None:
    """Rms difference of the outputs in the two modes, over the rms of those in train mode.

    Only batch norms change their mode, and random numbers are drawn as in the first forward, so
    that dropout makes no difference.

    Args:
        model: it has just run in train mode on the batch, from the random state that is set now.
        batch: the batch.
        outputs: what it returned then.
        before: `running` of the model before that.

    Returns:
        None for a model without trained batch norms, in eval mode, or without an output tensor.
    """
    if not before:
        return None
    try:
        with torch.no_grad():
            for norm, buffers in before.items():
                norm.eval()
                for name, copy in buffers.items():
                    norm.get_buffer(name).copy_(copy)
            there = [t for t in tensors(batch.call(model)) if is_signal(t)]
    except Exception:  # a model that runs in one mode only
        return None
    finally:
        for norm in before:
            norm.train()
    here = [t.detach() for t in tensors(outputs) if is_signal(t)]
    size = sum(float(t.double().square().sum()) for t in here)
    if size == 0 or [t.shape for t in here] != [t.shape for t in there]:
        return None
    apart = sum(float((a - b).double().square().sum()) for a, b in zip(here, there, strict=True))
    return float((apart / size) ** 0.5)
