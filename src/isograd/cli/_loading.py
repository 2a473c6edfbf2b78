"""Loading: the model of a TARGET, and the batch that came with it."""

import sys
from typing import Any

from isograd.cli import _batches, _targets
from isograd.errors import InputError


def load(place: _targets.Target, seed: int) -> tuple[Any, Any]:
    """The model and, where its factory gave one, the batch; weights drawn from a seed."""
    # The weights a factory draws must be the same in every run. A source that imports nothing
    # but the standard library draws none, and its errors should not wait for torch.
    if place.needs_more or "torch" in sys.modules:
        import torch

        torch.manual_seed(seed)
    return _targets.model(place)


def own_batch(target: str, batch: Any) -> _batches.Data:
    """The batch that came with the model.

    Raises:
        InputError: there is none.
    """
    if batch is None:
        raise InputError(
            f"{target}: came without a batch to measure on; add --data (digits, batch.npz, "
            "module:factory …), or let the factory return (model, batch)"
        )
    return _batches.Data(batch)
