"""The bench of one run: its seed, its device, its data."""

from dataclasses import dataclass
from functools import cached_property

import torch

from isograd.errors import DataError
from isograd.lab import images


@dataclass(frozen=True)
class Bench:
    """What an experiment is given besides its settings."""

    seed: int
    device: torch.device
    data_name: str | None
    """The data set that is used; None where the experiment needs none."""

    @cached_property
    def data(self) -> images.Images:
        """The data set, read at first use.

        Raises:
            DataError: the experiment declares no data set.
        """
        if self.data_name is None:
            raise DataError("this experiment declares no data set in `data`; add one there")
        return images.load(self.data_name)

    def generator(self, offset: int = 0) -> torch.Generator:
        """A stream of random numbers of its own, on the CPU, so that devices draw the same."""
        return torch.Generator().manual_seed(self.seed + offset)
