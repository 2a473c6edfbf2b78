"""Moves: samples of tensors, and how far their entries have moved since."""

from collections.abc import Sequence

import torch
from torch import Tensor

from isograd.statistics._extension import extension
from isograd.statistics._layout import flatten, spread_runs
from isograd.statistics.backends import best

SAMPLE, RUN = 1024, 8
"""Entries of a tensor that are compared, in runs that lie in a line or two of memory: a ratio of
two rms is then known to within 3 to 6 percent (one sd). Smaller tensors are compared whole."""


class Moves:
    """Keeps samples of tensors until they are compared with what has become of them.

    Args:
        device: where the numbers are.
    """

    def __init__(self, device: torch.device) -> None:
        self._native = extension() if device.type == "cpu" else None
        self._device = device
        self._before = torch.zeros(0, dtype=torch.float64, device=device)
        self._sizes = torch.zeros(0, dtype=torch.long)
        self._together = False

    def take(self, tensors: list[Tensor]) -> None:
        """Samples tensors; what was taken before is forgotten."""
        if self._native is not None:
            if self._before.shape != (len(tensors), SAMPLE):
                self._before = torch.empty(len(tensors), SAMPLE, dtype=torch.float64)
                self._sizes = torch.empty(len(tensors), dtype=torch.long)
            addresses = self._before.data_ptr(), self._sizes.data_ptr()
            self._together = self._native.take(tensors, *addresses)
            if self._together:
                return
        self._together = False
        self._before, self._sizes = self._sampled(tensors)

    def compare(self, tensors: list[Tensor]) -> Tensor:
        """Compares samples of the same tensors, in the same order.

        Returns:
            float64 [tensors, 3]: sums of the squares of what the entries were and of what they have
            changed by, and their number; 0 where a tensor is another one by now.
        """
        found = torch.zeros(len(tensors), 3, dtype=torch.float64, device=self._device)
        if self._together and self._native is not None:
            addresses = self._before.data_ptr(), self._sizes.data_ptr(), found.data_ptr()
            return found if self._native.compare(tensors, *addresses) else found.zero_()
        old, (new, sizes) = self._before, self._sampled(tensors)
        if not tensors or not torch.equal(sizes, self._sizes):
            return found
        lengths = sizes.to(self._device, non_blocking=True)
        if old.ndim == 2:
            found[:, 0], found[:, 1] = old.square().sum(1), (new - old).square().sum(1)
        else:
            squares = torch.stack([old, new - old], dim=1).square_()
            found[:, :2] = torch.segment_reduce(squares, "sum", lengths=lengths)
        found[:, 2] = lengths
        return found

    def _sampled(self, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Samples in float64, a row each or one after the other, and the length of each."""
        if self._native is None and tensors:
            lengths = torch.tensor([min(x.numel(), SAMPLE) for x in tensors], dtype=torch.long)
            rows = best(self._device.type).gather(tensors, SAMPLE // RUN, RUN)
            if rows is not None and rows.device == self._device:
                return rows, lengths
        views = [sample(x).reshape(-1).to(self._device) for x in tensors]
        lengths = torch.tensor([len(view) for view in views], dtype=torch.long)
        return torch.cat(views).double() if views else self._before[:0].flatten(), lengths


def sample(x: Tensor) -> Tensor:
    """Short runs of entries, spread over all of a tensor."""
    flat = flatten(x)
    return flat if len(flat) <= SAMPLE else spread_runs(flat, SAMPLE // RUN, RUN)
