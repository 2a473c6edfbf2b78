"""The sharpest direction of the loss: the largest eigenvalue of its Hessian on one batch."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isograd.errors import IsogradError
from isograd.sites.batches import Batch
from isograd.sites.losses import Loss, as_scalar, choose
from isograd.sites.randomness import reseed

_ITERATIONS = 12
"""Products with the Hessian at most; the judgement asks for a factor, not for digits."""
_ENOUGH = 0.05
"""Relative change at which the iteration stops; it is then within ten percent."""
_RANDOM = 0.5
"""Part of the start that is random: the sharpest direction may be one that the gradient lacks."""


def lambda_max(model: nn.Module, batch: Batch, loss: Loss | None, *, seed: int) -> float | None:
    """Largest eigenvalue (in magnitude) of the Hessian of the loss, by Lanczos iteration.

    From the same products with the Hessian it knows more than power iteration does, which forgets
    all but the last; with so few, it need not be kept orthogonal (Golub and Van Loan, chapter 10).

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
        reseed(seed)
        outputs = batch.call(model)
        chosen = choose(outputs, batch.targets, loss, seed)
        value = as_scalar(chosen.compute(), chosen.name)
        gradients = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True)
        vectors = _start(gradients, vectors)
        before, diagonal, beside = [torch.zeros_like(v) for v in vectors], list[float](), [0.0]
        for _ in range(_ITERATIONS):
            size = _norm(vectors)
            if not math.isfinite(size) or not (size > 0 or diagonal):
                return None
            if size <= 1e-6 * abs(last):  # nothing is left to see
                break
            if diagonal:
                beside.append(size)
            vectors = [v / size for v in vectors]
            turned = _turned(gradients, parameters, vectors)
            if turned is None:
                return None
            diagonal.append(_dot(turned, vectors))
            now = _largest(diagonal, beside[1:])
            enough = abs(now - last) < _ENOUGH * abs(now)
            last = now
            if enough or not math.isfinite(now):
                break
            along, back = diagonal[-1], beside[-1]
            before, vectors = (
                vectors,
                [t - along * v - back * b for t, v, b in zip(turned, vectors, before, strict=True)],
            )
    except (RuntimeError, NotImplementedError, IsogradError):
        return None
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in state and buffer.shape == state[name].shape:  # else made by the forward
                    buffer.copy_(state[name])
    return abs(last) if math.isfinite(last) and last else None


def _start(gradients: Sequence[Tensor | None], drawn: Sequence[Tensor]) -> list[Tensor]:
    """A vector with a large part in the sharp directions, as the gradient has, and a random one.

    No numbers where the gradient is none, for then no product with the Hessian is one.
    """
    given = [
        torch.zeros_like(d) if g is None else g.detach()
        for g, d in zip(gradients, drawn, strict=True)
    ]
    size, other = _norm(given), _norm(drawn)
    if size == 0:
        return list(drawn)
    return [g / size + d * (_RANDOM / other) for g, d in zip(given, drawn, strict=True)]


def _turned(
    gradients: Sequence[Tensor | None], parameters: Sequence[Tensor], vectors: Sequence[Tensor]
) -> list[Tensor] | None:
    """The Hessian times the vectors; None where the gradients do not depend on the weights."""
    product = [(g * v).sum() for g, v in zip(gradients, vectors, strict=True) if g is not None]
    if not product:
        return None
    turned = torch.autograd.grad(
        torch.stack(product).sum(), parameters, retain_graph=True, allow_unused=True
    )
    return [
        torch.zeros_like(p) if t is None else t.detach()
        for t, p in zip(turned, parameters, strict=True)
    ]


def _largest(diagonal: Sequence[float], beside: Sequence[float]) -> float:
    """Eigenvalue of a symmetric tridiagonal matrix that is largest in magnitude."""
    if not all(map(math.isfinite, (*diagonal, *beside))):
        return math.nan
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    for offset in (1, -1):
        matrix += torch.diag(torch.tensor(beside, dtype=torch.float64), offset)
    values = torch.linalg.eigvalsh(matrix)
    return float(values[values.abs().argmax()])


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    return sum(float((a.double() * b.double()).sum()) for a, b in zip(left, right, strict=True))


def _norm(vectors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(v.double().square().sum()) for v in vectors))
