"""The input of a case that has a scale: where it is, and its tensors over the data."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor

from isograd.errors import DataError
from isograd.remedies._remedy import Case
from isograd.sites.batches import as_batch, is_signal

_BATCHES = 400
"""Of the data, at most: means and variances are known to a percent long before."""


def place_of(case: Case) -> int | str | None:
    """Position or keyword of the first floating-point input; None without one."""
    batch = as_batch(case.batch)
    for position, value in enumerate(batch.args):
        if isinstance(value, Tensor) and is_signal(value) and not value.is_complex():
            return position
    for key, value in batch.kwargs.items():
        if isinstance(value, Tensor) and is_signal(value) and value is not batch.targets:
            return key
    return None


@dataclass(frozen=True)
class Parts:
    """Tensors of all batches, read anew whenever they are gone through.

    Of an iterator, which could be gone through only once, nothing is taken: it is the user's.
    """

    case: Case
    place: int | str | None
    """Of an input; None for the targets."""

    def __iter__(self) -> Iterator[Tensor]:
        data: Any = self.case.data
        if data is None or iter(data) is data:
            data = [self.case.batch]
        for item in islice(data, _BATCHES):
            batch = as_batch(item)
            if self.place is None:
                value = batch.targets
            elif isinstance(self.place, str):
                value = batch.kwargs.get(self.place)
            else:
                value = batch.args[self.place] if self.place < len(batch.args) else None
            if not isinstance(value, Tensor):
                raise DataError("data: a batch is not made like the first one; check the loader")
            yield value
