"""Train mode against eval mode: what batch norms would compute with their running statistics."""

from typing import Any

import torch
from torch import nn

from isograd.probe.batches import Batch, is_signal, tensors


def eval_gap(model: nn.Module, batch: Batch, outputs: Any) -> float | None:
    """Rms difference of the outputs in the two modes, over the rms of those in train mode.

    Only batch norms change their mode, and random numbers are drawn as in the first forward, so
    that dropout makes no difference.

    Args:
        model: it has just run in train mode on the batch, from the random state that is set now.
        batch: the batch.
        outputs: what it returned then.

    Returns:
        None for a model without trained batch norms, in eval mode, or without an output tensor.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [m for m in norms if m.training and m.num_batches_tracked is not None]
    if not norms or not any(int(m.num_batches_tracked or 0) > 1 for m in norms):
        return None
    for norm in norms:
        norm.eval()
    try:
        with torch.no_grad():
            there = [t for t in tensors(batch.call(model)) if is_signal(t)]
    except Exception:  # a model that runs in one mode only
        return None
    finally:
        for norm in norms:
            norm.train()
    here = [t.detach() for t in tensors(outputs) if is_signal(t)]
    size = sum(float(t.double().square().sum()) for t in here)
    if size == 0 or [t.shape for t in here] != [t.shape for t in there]:
        return None
    apart = sum(float((a - b).double().square().sum()) for a, b in zip(here, there, strict=True))
    return float((apart / size) ** 0.5)
