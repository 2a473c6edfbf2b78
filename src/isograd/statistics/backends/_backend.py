"""What a backend is: it reads a tensor and adds its numbers to a row."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from torch import Tensor


class Read(NamedTuple):
    """One tensor, what is asked of it and where the answer goes."""

    x: Tensor
    """Any floating-point or complex dtype (a complex entry counts as two), shape and strides."""
    row: Tensor
    """float64 [len(COLUMNS)] on the device of x, to which the numbers of x are added."""
    low: float | None = None
    """A float32 number; finite entries at or below are counted as `below`. None: none are."""
    high: float | None = None
    """The same for entries at or above, counted as `above`."""
    flags: Tensor | None = None
    """uint8 [units] on the device of x, raised to FLAT or ALIVE (see `columns`)."""
    axis: int = -1
    """Axis of x along which the units are; where its length is not theirs, no flag is raised."""


class Backend(ABC):
    """Reads tensors into rows, waiting for nothing and leaving them as they are."""

    code: ClassVar[str]
    devices: ClassVar[frozenset[str]]
    """Types of devices whose tensors it reads."""
    rank: ClassVar[int]
    """Of those that read a device the one with the highest rank is taken."""

    def missing(self) -> str | None:
        """Why it cannot work here and what would help; None if it can."""
        return None

    @abstractmethod
    def read(
        self,
        x: Tensor,
        row: Tensor,
        low: float | None = None,
        high: float | None = None,
        flags: Tensor | None = None,
        axis: int = -1,
    ) -> None:
        """Adds the numbers of a tensor to a row; the arguments are those of `Read`.

        Raises:
            InputError: the tensor holds integers or booleans.
        """

    def read_all(self, reads: Sequence[Read]) -> None:
        """The same for several tensors at once."""
        for one in reads:
            self.read(*one)
