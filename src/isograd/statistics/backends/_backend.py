"""What a backend is: it reads a tensor and adds its numbers to a row."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from torch import Tensor


class Target(NamedTuple):
    """Where the numbers of tensors go, and what is asked of them besides their sums."""

    row: Tensor
    """float64 [len(COLUMNS)], on the device of the tensors; their numbers are added to it."""
    low: float | None = None
    """A float32 number; finite entries at or below are counted as `below`. None: none are."""
    high: float | None = None
    """The same for entries at or above, counted as `above`."""
    flags: Tensor | None = None
    """uint8 [units], beside the row, raised to FLAT or ALIVE (see `columns`)."""
    axis: int = -1
    """Axis of a tensor along which its units are; where it has others, no flag is raised."""


class Backend(ABC):
    """Reads tensors into rows, waiting for nothing and leaving the tensors as they are."""

    code: ClassVar[str]
    devices: ClassVar[frozenset[str]]
    """Types of devices whose tensors it reads."""
    rank: ClassVar[int]
    """Of those that read a device the one with the highest rank is taken."""

    def missing(self) -> str | None:
        """Why it cannot work here and what would help; None if it can."""
        return None

    @abstractmethod
    def read(self, x: Tensor, target: Target) -> None:
        """Adds the numbers of a tensor to a row.

        Args:
            x: any floating-point or complex dtype (a complex entry counts as two), shape, strides.
            target: the row.

        Raises:
            InputError: the tensor holds integers or booleans.
        """

    def read_all(self, tensors: Sequence[Tensor], targets: Sequence[Target]) -> None:
        """The same for several tensors at once."""
        for x, target in zip(tensors, targets, strict=True):
            self.read(x, target)

    def gather(self, tensors: Sequence[Tensor], runs: int, run: int) -> Tensor | None:  # noqa: ARG002
        """What `spread_runs` takes of several tensors, at once.

        Returns:
            float64 [tensors, runs * run] on their device, of smaller tensors all entries and then
            zeros; None where the backend has no such way.
        """
        return None

    def reader(self, _: Target, /, *, part: bool = False) -> Callable[[Tensor], bool] | None:  # noqa: ARG002
        """A short cut: reads a tensor into this row, or returns False and leaves it to `read`.

        Args:
            part: whether of a large tensor what `statistics.part` takes is read, without flags.
        """
        return None

    def read_each(
        self, readers: Sequence[Callable[[Tensor], bool]], tensors: Sequence[Tensor | None]
    ) -> list[int]:
        """Reads tensors, each by its own reader.

        Returns:
            The places of those that are left to `read`, among them whatever is no tensor.
        """
        return [i for i, x in enumerate(tensors) if x is None or not readers[i](x)]
