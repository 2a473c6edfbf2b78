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
