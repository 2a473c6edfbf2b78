"""Inputs: mean and size of what goes into the model, in the steps that are looked at."""

from typing import Any

import torch

from isograd.sites.batches import Batch, is_signal
from isograd.statistics import Place, Table, local


class Inputs:
    """Reads the first floating-point input of each call into one row; see `sites.facts`.

    Args:
        device: where the row is.
    """

    def __init__(self, device: torch.device) -> None:
        self._table = Table([Place()], device)
        self._readable = True

    @property
    def values(self) -> torch.Tensor:
        """The row: float64 [1, columns]; count 0 where there was no such input."""
        return self._table.values

    def clear(self) -> None:
        """Forgets what was read."""
        self._table.clear()

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model is called."""
        if not self._readable:
            return
        given = Batch(args, kwargs).inputs()
        x = next((t for t in given if t.is_floating_point() and t.ndim), None)
        if x is None or x.layout != torch.strided or not is_signal(x):
            return
        try:
            self._table.read_part(0, local(x.detach()))
        except Exception:  # a class of tensors of its own: the rest of a look does without it
            self._readable = False
