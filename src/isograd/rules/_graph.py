"""Walks over the sites of a record: what reads what."""

from collections.abc import Callable, Iterator

from isograd.records import Record

NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
"""Kinds of sites that set the scale of the signal themselves."""

_TRANSPARENT = ("dropout", "pool")
"""Kinds of sites that hand the signal on at about its scale."""


def readers(record: Record) -> list[list[int]]:
    """For every site, the sites that read its output, looking through dropout and pooling."""
    direct: list[list[int]] = [[] for _ in record.sites]
    for index, site in enumerate(record.sites):
        for source in site.inputs:
            if 0 <= source < index:
                direct[source].append(index)
    for index in range(len(direct) - 1, -1, -1):
        direct[index] = list(_through(record, direct, index))
    return direct


def _through(record: Record, direct: list[list[int]], index: int) -> Iterator[int]:
    for reader in direct[index]:
        if record.sites[reader].kind in _TRANSPARENT and direct[reader]:
            yield from direct[reader]
        else:
            yield reader


def least_on_a_path(record: Record, weighs: Callable[[int], float]) -> float:
    """What lies on the way from the inputs to the last site, added up.

    Where ways meet, the one with the least counts: a skip connection spares the gradient all
    that it skips.

    Args:
        record: the record.
        weighs: what the site of an index counts.
    """
    passed: list[float] = []
    for index, site in enumerate(record.sites):
        before = [passed[source] for source in site.inputs if 0 <= source < index]
        passed.append(min(before, default=0) + weighs(index))
    return max(passed, default=0)
