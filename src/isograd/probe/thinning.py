"""Thinned: a sequence of bounded length that keeps the whole of a run in sight."""

from typing import Generic, TypeVar

Item = TypeVar("Item")


class Thinned(Generic[Item]):
    """Keeps the latest items, and of the older ones every 2^k-th: as few as fit, evenly spread.

    Memory stays bounded however many items come. The very first one is always kept.

    Args:
        recent: latest items that are all kept.
        older: how many before them are kept at most; at least half as many are, once there are.
    """

    def __init__(self, *, recent: int, older: int) -> None:
        self.recent, self.older = recent, max(1, older)
        self._stride = 1
        self._count = 0
        self._old: list[tuple[int, Item]] = []
        self._new: list[tuple[int, Item]] = []

    def append(self, item: Item) -> None:
        """Adds the next item."""
        self._new.append((self._count, item))
        self._count += 1
        if len(self._new) <= self.recent:
            return
        passed = self._new.pop(0)
        if passed[0] % self._stride:
            return
        self._old.append(passed)
        while len(self._old) > self.older:
            self._stride *= 2
            self._old = [pair for pair in self._old if pair[0] % self._stride == 0]

    def __len__(self) -> int:
        return len(self._old) + len(self._new)

    def latest(self, count: int) -> list[Item]:
        """At most this many of the latest items, in order."""
        return [item for _, item in self._new[-count:]]

    @property
    def items(self) -> list[Item]:
        """What is kept, in order."""
        return [item for _, item in (*self._old, *self._new)]
