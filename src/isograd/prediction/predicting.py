"""predict(): signal and gradient at every site of a network, by theory alone, as a Record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from isograd.prediction.assembling import assemble
from isograd.prediction.tracing import trace
from isograd.records import Record
from isograd.sites.losses import Loss


def predict(
    model: nn.Module | Callable[[], nn.Module],
    inputs: Any,
    *,
    input_stats: Mapping[str, float] | None = None,
    loss: Loss | None = None,
    width_band: bool = True,
    seed: int = 0,
) -> Record:
    """Predicts signal and gradient at every site of a network, without computing with weights.

    The model's own forward runs on second moments in place of values, then backward. No
    parameter needs memory: a factory is called under `isograd.recording()`, where
    initializations are noted instead of done. A real model counts with the statistics of the
    weights it has, and is left as found.

    Args:
        model: a module, real or built inside `isograd.recording()`; or a callable without
            arguments that returns one.
        inputs: a batch as `measure` takes it; floating-point tensors count with their moments,
            ids and masks with their values. Or text: `float32[32,3,224,224]`,
            `int64[2,128]<50257`, joined by `;`, with `name=` in front for keywords.
        input_stats: `mean`, `std` and `correlation` (cosine of two samples) of the
            floating-point inputs, in place of their own.
        loss: callable `(outputs, targets) -> scalar`; chosen as `measure` does where left out.
        width_band: whether `forward.band` and `backward.band` are filled.
        seed: of whatever has to be drawn (ids of inputs given as text, sampled operations).

    Returns:
        A Record with the sites of a measurement and `source` "predicted"; `docs/records.md`
        lists its keys and units. `prediction.condition` among its facts says how far a deviation
        carries: above 6 the network is not predictable, and a note says so.

    Raises:
        PredictionError: what the model does depends on values that are never computed.
        ModelError, DataError, LossError: bad input, as in `measure`.
    """
    return assemble(trace(model, inputs, input_stats=input_stats, loss=loss, seed=seed), width_band)
