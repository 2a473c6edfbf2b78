"""The sharpest direction of the loss: the largest eigenvalue of its Hessian on one batch."""

import math

import torch
from torch import Tensor, nn

from isograd.errors import IsogradError
from isograd.sites.batches import Batch
from isograd.sites.losses import Loss, as_scalar, choose

_ITERATIONS = 12
"""Power iteration converges as the ratio of the two largest eigenvalues; 12 steps give the
largest of a typical network within about 10 percent, and the judgement asks for a factor."""
_ENOUGH = 0.02
"""Relative change at which the iteration stops."""


def lambda_max(model: nn.Module, batch: Batch, loss: Loss | None, *, seed: int) -> float | None:
    """Largest eigenvalue (in magnitude) of the Hessian of the loss, by power iteration.

    Args:
        model: a copy that may be run freely; its `.grad` are not used.
        batch: the batch.
        loss: as in `measure`.
        seed: of the start vector and of every forward, so that all see one function.

    Returns:
        The eigenvalue in units of loss per squared weight; None where an operation has no
        second derivative or the loss does not depend on the weights.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(seed)
    vectors = [torch.randn(p.shape, generator=generator).to(p) for p in parameters]
    state = {name: b.clone() for name, b in model.named_buffers()}
    last = 0.0
    try:
        torch.manual_seed(seed)
        outputs = batch.call(model)
        chosen = choose(outputs, batch.targets, loss, seed)
        value = as_scalar(chosen.compute(), chosen.name)
        gradients = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True)
        for _ in range(_ITERATIONS):
            size = _norm(vectors)
            if not 0 < size < float("inf"):
                return None
            vectors = [v / size for v in vectors]
            product = [
                (g * v).sum() for g, v in zip(gradients, vectors, strict=True) if g is not None
            ]
            if not product:
                return None
            turned = torch.autograd.grad(
                torch.stack(product).sum(), parameters, retain_graph=True, allow_unused=True
            )
            images = [
                torch.zeros_like(p) if t is None else t
                for t, p in zip(turned, parameters, strict=True)
            ]
            now = sum(
                float((a.double() * b.double()).sum()) for a, b in zip(images, vectors, strict=True)
            )
            vectors = [t.detach() for t in images]
            if last and abs(now - last) < _ENOUGH * abs(last):
                last = now
                break
            last = now
    except (RuntimeError, NotImplementedError, IsogradError):
        return None
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in state and buffer.shape == state[name].shape:  # else made by the forward
                    buffer.copy_(state[name])
    return abs(last) or None


def _norm(vectors: list[Tensor]) -> float:
    return math.sqrt(sum(float(v.double().square().sum()) for v in vectors))
