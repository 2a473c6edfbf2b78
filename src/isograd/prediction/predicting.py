"""predict(): signal and gradient at every site of a network, by theory alone, as a Record."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isograd.errors import ModelError, PredictionError
from isograd.prediction.fields import Field, empirical, independent
from isograd.prediction.propagation import Propagation
from isograd.records import Record
from isograd.sites.batches import Batch, as_batch, tensors
from isograd.sites.places import Places, Row
from isograd.sites.tape import Frame, Tape


class Reader(Places):
    """Keeps the field of every site."""

    def __init__(self, run: Propagation) -> None:
        super().__init__()
        self.run = run
        self.fields: list[Field | None] = []

    def read(self, tape: Tape, row: Row, out: Tensor, frame: Frame | None, /) -> None:
        """Keeps the field of a new site."""
        del tape, row, frame
        self.fields.append(self.run.field_of(out))

    def residual(self, tape: Tape, skip: Tensor, branch: Tensor, /) -> None:
        """Nothing to take."""


def predict(
    model: nn.Module | Callable[[], nn.Module],
    inputs: Any,
    *,
    input_stats: Any = None,
    loss: Any = None,
    width_band: bool = True,
) -> Record:
    """Predicts signal and gradient at every site of a network."""
    from isograd.prediction.assembling import assemble

    batch = as_batch(inputs)
    run = Propagation()
    reader = Reader(run)
    tape = Tape(model, reader)
    run.where = lambda: tape.stack[-1].path if tape.stack else ""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(torch.no_grad())
        abstract = _abstract(run, batch)
        stack.enter_context(run)
        stack.enter_context(tape.recording())
        with tape.quiet():
            for tensor in abstract.inputs():
                tape.introduce(tensor, "input")
        outputs = abstract.call(model)
        seeds = []
        with tape.quiet():
            for out in tensors(outputs):
                field = run.field_of(out)
                if field is not None and out.is_floating_point():
                    n = max(1, out.numel() // max(1, out.shape[0] if out.ndim else 1))
                    seeds.append((field, independent(tuple(out.shape), 0.0, 1 / n)))
    run.backward(seeds)
    return assemble(model, tape, reader, run)


def _abstract(run: Propagation, batch: Batch) -> Batch:
    def swap(value: Any) -> Any:
        if isinstance(value, Tensor):
            if not value.is_floating_point():
                return value
            return run.abstract(empirical(value.double().numpy()), value.dtype)
        if isinstance(value, tuple):
            return tuple(swap(v) for v in value)
        if isinstance(value, list):
            return [swap(v) for v in value]
        return value

    return Batch(swap(batch.args), {k: swap(v) for k, v in batch.kwargs.items()}, batch.targets)


_ = (np, ModelError, PredictionError)
