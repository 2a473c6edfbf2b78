"""Table: the statistics of many places, one row each, on the device where the tensors are."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from isograd.statistics._layout import LARGE, local, part
from isograd.statistics.backends import BACKENDS, Backend, Target, best
from isograd.statistics.columns import FLAT, SUMS, clear, empty, merge

_MOST = 1 << 10
"""Parts that wait to be read together, 16 KB each."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is asked of the tensors of one row besides their sums.

    `low` and `high` are the ends of the part on which an activation is not flat, in units of its
    output: finite entries at or below `low` count as `below`, those at or above `high` as `above`
    (None: none do). Both are rounded to float32.
    """

    low: float | None = None
    high: float | None = None
    units: int = 0
    """Units that are told apart: one is dead if all its entries are below or above. 0: none are."""
    axis: int = -1
    """Along which the units are: 1 for the channels of a convolution's output, -1 for features."""


class Table:
    """Rows of `COLUMNS`, one per place, to which tensors are added as they come by.

    A row stands for all tensors that were read into it since it was last cleared, as if they had
    been one: the forwards of several micro-batches, or the calls of a shared module. Nothing is
    read back and no tensor is kept. Reads that torch.compile is to trace need the backend `graph`.

    Args:
        places: what is asked, per row.
        device: where most tensors are. One on another device is measured there, its row sent over.
        backend: code of a backend for that device; None: the fastest.

    Attributes:
        flags: uint8 [units of all places], UNREAD, FLAT or ALIVE; over ranks the largest holds.
        backend: what reads.
    """

    def __init__(
        self, places: Sequence[Place], device: torch.device | str, backend: str | None = None
    ) -> None:
        device = torch.device(device)
        if device.type == "mps":  # which has no float64
            device = torch.device("cpu")
        self._values = empty(len(places), device)
        self.device = self._values.device
        self._waiting: list[tuple[int, Tensor]] = []
        units = [place.units for place in places]
        self.flags = torch.zeros(sum(units), dtype=torch.uint8, device=device)
        self.backend: Backend = best(device.type) if backend is None else BACKENDS[backend]
        owners = torch.repeat_interleave(torch.arange(len(places)), torch.tensor(units))
        self._owners = owners.to(device)
        # Views made once: indexing a tensor costs as much as reading 16 KB.
        self._targets = [
            Target(
                row,
                _single(place.low),
                _single(place.high),
                flags if place.units else None,
                place.axis,
            )
            for place, row, flags in zip(
                places, self._values.unbind(0), self.flags.split(units), strict=True
            )
        ]
        self._readers = [self.backend.reader(target) for target in self._targets]
        self._parts = [self.backend.reader(target, part=True) for target in self._targets]
        self._bare = [target._replace(flags=None) for target in self._targets]

    @property
    def values(self) -> Tensor:
        """float64 [places, len(COLUMNS)]; may be summed over ranks by `merge`."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            targets = [self._bare[row] for row, _ in waiting]
            self._read_all(targets, [some for _, some in waiting])
        return self._values

    def read(self, row: int, x: Tensor, *, units: bool = True) -> None:
        """Adds a tensor to a row.

        Args:
            row: index of the place.
            x: any floating-point or complex dtype (a complex entry counts as two), shape, strides.
            units: whether flags of units are raised, too.

        Raises:
            InputError: the tensor holds integers or booleans.
        """
        target = self._targets[row] if units else self._bare[row]
        reader = self._readers[row]
        if units and reader is not None and reader(x):
            return
        if x.device == self.device:
            self.backend.read(x, target)
        else:
            self._from_elsewhere(target, x)

    def part_reader(self, row: int) -> Callable[[Tensor], bool] | None:
        """A short cut for one row: reads `part` of a tensor, and its units where that is all of it.

        Returns:
            A function that returns True, or False where it has left the tensor to `read`; None
            where the backend has none.
        """
        return self._parts[row]

    def read_part(self, row: int, x: Tensor) -> None:
        """Adds a tensor to a row, of a large one a part, and then without its units."""
        reader = self._parts[row]
        if reader is not None and reader(x):
            return
        if x.numel() < LARGE:
            self.read(row, x)
        else:  # all of them at once, when somebody asks
            self._waiting.append((row, part(x)))
            if len(self._waiting) == _MOST:
                self.values  # noqa: B018

    def read_parts(self, rows: Sequence[int], tensors: Sequence[Tensor | None]) -> Sequence[int]:
        """The same for many rows at once.

        Returns:
            The places of those that are left to `read`, among them whatever is no tensor.
        """
        readers = [reader for row in rows if (reader := self._parts[row]) is not None]
        if len(readers) < len(rows):
            return range(len(rows))
        return self.backend.read_each(readers, tensors)

    def read_all(self, rows: Sequence[int], tensors: Sequence[Tensor]) -> None:
        """Adds tensors to rows, in as few calls on the device as there can be."""
        self._read_all([self._targets[row] for row in rows], tensors)

    def _read_all(self, targets: Sequence[Target], tensors: Sequence[Tensor]) -> None:
        here = []
        for target, x in zip(targets, tensors, strict=True):
            if x.device == self.device:
                here.append((x, target))
            else:
                self._from_elsewhere(target, x)
        self.backend.read_all([x for x, _ in here], [target for _, target in here])

    def dead(self) -> Tensor:
        """Units that were read and, of these, units that are dead: float64 [places, 2]."""
        seen = torch.stack([self.flags >= FLAT, self.flags == FLAT], dim=1).double()
        return seen.new_zeros(len(self._values), 2).index_add_(0, self._owners, seen)

    def clear(self) -> None:
        """Forgets everything that was read."""
        self._waiting = []
        clear(self._values)
        self.flags.zero_()

    def _from_elsewhere(self, target: Target, x: Tensor) -> None:
        if x.device.type == "mps":
            x = x.cpu()
        flags = None if target.flags is None else torch.zeros_like(target.flags, device=x.device)
        theirs = target._replace(row=empty(1, x.device)[0], flags=flags)
        best(x.device.type).read(x, theirs)
        row = theirs.row.to(self.device, non_blocking=True)
        target.row.copy_(merge(target.row, row))
        if target.flags is not None and flags is not None:
            flags = flags.to(self.device, non_blocking=True)
            target.flags.copy_(torch.maximum(target.flags, flags))


def sums(x: Tensor) -> Tensor:
    """Every sum of `SUMS` over all entries of a tensor, without reading back from its device.

    Counts, min and max are exact; the error of a sum is below 1e-6 of the sum of magnitudes.

    Args:
        x: any floating-point or complex dtype (a complex entry counts as two), shape and strides.

    Returns:
        float64 vector [len(SUMS)] on the tensor's device. An empty tensor has count 0; one without
        finite entries has min = inf, max = -inf.

    Raises:
        InputError: the tensor holds integers or booleans.
    """
    x = local(x.detach())
    device = torch.device("cpu") if x.device.type == "mps" else x.device
    row = empty(1, device)[0]
    best(device.type).read(x.to(device), Target(row))
    return row[: len(SUMS)]


def _single(threshold: float | None) -> float | None:
    if threshold is None:
        return None
    rounded: float = struct.unpack("f", struct.pack("f", threshold))[0]
    return rounded
