"""lsuv_(): weights scaled layer by layer until every layer's output has unit variance."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isograd.probe.borrowing import borrowed
from isograd.sites.batches import Batch, as_batch, tensors


class _Seen(Exception):  # noqa: N818  # no error: the forward has served its purpose
    pass


def lsuv_(
    model: nn.Module,
    batch: Any,
    names: Sequence[str],
    *,
    tolerance: float = 0.02,
    tries: int = 5,
) -> dict[str, float]:
    """Scales weights in place; buffers, mode and random states stay as they are.

    Layer-sequential unit variance (Mishkin and Matas 2016, All you need is a good init): every
    layer is measured by a forward of its own, after those before it were scaled.

    Args:
        model: the model.
        batch: as `measure` takes it; a real one.
        names: of weights, in order of execution. That of the output projection of an
            nn.MultiheadAttention is scaled by the output of the attention.
        tolerance: of the standard deviation over samples, positions and units.
        tries: forwards per layer, at most; biases and saturation can make one too few.

    Returns:
        The factor of each weight; 1 where its layer is not called, or gives a constant.
    """
    taken = as_batch(batch)
    factors: dict[str, float] = {}
    with borrowed(model), torch.no_grad():
        for name in names:
            weight, factors[name] = model.get_parameter(name), 1.0
            for _ in range(tries):
                spread = _spread(model, taken, name)
                if not spread or not math.isfinite(spread) or abs(spread - 1) < tolerance:
                    break
                weight.div_(spread)
                factors[name] /= spread
    return factors


def _spread(model: nn.Module, batch: Batch, name: str) -> float | None:
    """Standard deviation of the output of the module that holds a weight, at its first call."""
    path = name.rpartition(".")[0]
    above = model.get_submodule(path.rpartition(".")[0])
    watched = above if isinstance(above, nn.MultiheadAttention) else model.get_submodule(path)
    found: list[float] = []

    def look(_: nn.Module, __: Any, out: Any) -> None:
        first = next((t for t in tensors(out) if t.is_floating_point()), None)
        if first is not None:
            found.append(_std(first))
        raise _Seen

    handle = watched.register_forward_hook(look)
    try:
        batch.call(model)
    except _Seen:
        pass
    finally:
        handle.remove()
    return found[0] if found else None


def _std(x: Tensor) -> float:
    return float(x.double().std(correction=0))
