"""Alike: how alike the samples of a batch are at many sites, a few sites at a time."""

import torch
from torch import Tensor

from isograd.statistics import FEATURES, correlations, ranks, some_samples

TOGETHER = 1 << 18
"""Entries that are compared in one go, which costs little more than one site: 1 MB of float32."""


class Alike:
    """Takes tensors site by site, keeps a copy of a few samples, and compares them.

    Args:
        features: entries of a sample that are compared, evenly strided.
    """

    def __init__(self, features: int = FEATURES) -> None:
        self._features = features
        self._waiting: dict[tuple[object, ...], dict[int, Tensor]] = {}
        self._numbers: dict[str, dict[int, Tensor]] = {}

    def clear(self) -> None:
        """Forgets everything."""
        self._waiting, self._numbers = {}, {}

    def add(self, row: int, x: Tensor) -> None:
        """Takes the output of a site, [samples, ...]; one that was taken before is forgotten."""
        with torch.no_grad():  # a copy, for it may be changed in place
            table = some_samples(x, self._features).clone(memory_format=torch.contiguous_format)
        for group in self._waiting.values():
            group.pop(row, None)
        group = self._waiting.setdefault((table.shape, table.dtype, table.device), {})
        group[row] = table
        if len(group) * table.numel() >= TOGETHER:
            self._compare(group)

    def numbers(self) -> dict[str, dict[int, Tensor]]:
        """`forward.correlation` and `forward.rank` by site."""
        for group in self._waiting.values():
            self._compare(group)
        return self._numbers

    def _compare(self, group: dict[int, Tensor]) -> None:
        if not group:
            return
        tables = torch.stack(list(group.values()))
        with torch.no_grad(), torch.autocast(tables.device.type, enabled=False):
            found = {"forward.correlation": correlations(tables), "forward.rank": ranks(tables)}
        for key, column in found.items():
            self._numbers.setdefault(key, {}).update(zip(group, column.unbind(), strict=True))
        group.clear()
