"""The input of a case that has a scale: where it is, and its tensors over the data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor

from isograd.errors import DataError
from isograd.remedies._code import quoted
from isograd.remedies._remedy import Case
from isograd.sites.batches import LABEL_KEYS, as_batch, beside, is_signal

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
    whole: bool = False
    """Whether the batches themselves are given, each with such a tensor in it."""

    def __iter__(self) -> Iterator[Any]:
        data: Any = self.case.data
        if data is None or iter(data) is data:
            data = [self.case.batch]
        for item in islice(data, _BATCHES):
            item = beside(item, self.case.model)
            batch = as_batch(item)
            if self.place is None:
                value = batch.targets
            elif isinstance(self.place, str):
                value = batch.kwargs.get(self.place)
            else:
                value = batch.args[self.place] if self.place < len(batch.args) else None
            if not isinstance(value, Tensor):
                raise DataError("data: a batch is not made like the first one; check the loader")
            yield item if self.whole else value


def gathered(case: Case, name: str, place: int | str | None) -> tuple[str, dict[str, Any]]:
    """The line that makes one name of the tensors of all batches, and what it is run with.

    Args:
        case: whose batches show how they are taken apart; else the line is a comment.
        name: `inputs` or `targets`.
        place: of an input; None for the targets.
    """
    data = case.data if isinstance(case.data, (list, tuple)) else ()
    one = tensor_of(data[0] if data else case.batch, place)
    if one is None:
        what = "targets" if place is None else "input tensors"
        told = f"# {name}: the {what} of your training batches, one after the other"
        return told, {name: Parts(case, place)}
    if case.data is None or (len(data) == 1 and data[0] is case.batch):
        line = f"{name} = ({one} for batch in [batch])  # better: in your training batches"
        return line, {"batch": case.batch}
    line = f"{name} = ({one} for batch in data)  # data: your training batches, as in data="
    return line, {"data": Parts(case, place, whole=True)}


def tensor_of(batch: Any, place: int | str | None) -> str | None:
    """`batch[0]`, `batch["x"]`: a tensor of a batch as code; None where it is made otherwise.

    Args:
        batch: as the user has it.
        place: of an input; None for the targets.
    """
    given, told = batch, "batch"
    if type(batch) in (list, tuple):
        if place is None:
            return "batch[1]" if len(batch) == 2 else None
        given, told = batch[0], "batch[0]"
    elif place is None:
        key = next((k for k in LABEL_KEYS if isinstance(batch, Mapping) and k in batch), None)
        return None if key is None else f"batch[{quoted(key)}]"
    if isinstance(given, Tensor):
        return told if place == 0 else None
    fits = isinstance(place, str) if isinstance(given, Mapping) else type(given) in (list, tuple)
    shown = quoted(place) if isinstance(place, str) else place
    return f"{told}[{shown}]" if fits else None
