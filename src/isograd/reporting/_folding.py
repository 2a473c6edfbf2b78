"""Repeated blocks told once: `h.0 … 11`, with what goes from the first to the last."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from isograd.records import Record

LONGEST = 12
"""Parts of a pattern that repeats: more are no block that a reader would recognize."""


@dataclass(frozen=True)
class Group:
    """Sites that are told in one row."""

    label: str
    """Name of the site, or what follows the number of its block."""
    sites: tuple[int, ...]
    """Indices, in order of execution."""
    heading: str = ""
    """Said above the first row of a block: `h.0 … 11`."""
    inner: bool = False
    """Whether it stands under such a heading."""


@dataclass(frozen=True)
class _Part:
    """Consecutive sites of one module of a list."""

    prefix: str
    """Name up to and without the number."""
    number: str
    sites: tuple[int, ...]
    signature: tuple[object, ...]


def fold(record: Record, kept: Sequence[int]) -> list[Group]:
    """The sites in order, blocks that repeat in one group per site of a block.

    Args:
        record: the record.
        kept: indices of the sites to tell.
    """
    return list(_folded(record, tuple(kept), ""))


def _folded(record: Record, sites: tuple[int, ...], owner: str) -> Iterator[Group]:
    """Folds the sites of one block, `h.3`, by the next number in their names."""
    parts = _parts(record, sites, len(owner.split(".")) if owner else 0)
    place, heading = 0, owner
    while place < len(parts):
        period, times = _period(parts[place:])
        part = parts[place]
        if times > 1:
            yield from _repeated(record, parts[place : place + period * times], period)
        elif len(part.sites) > 1:
            yield from _folded(record, part.sites, f"{part.prefix}{part.number}")
        else:
            (site,) = part.sites
            label = record.sites[site].name.removeprefix(owner)
            yield Group(label, (site,), heading, inner=bool(owner))
        heading = "" if times == 1 == len(part.sites) else owner
        place += period * times


def _parts(record: Record, sites: tuple[int, ...], start: int) -> list[_Part]:
    """Runs of sites with the same words up to the next number."""
    found = []
    for (prefix, number), run in itertools.groupby(
        sites, lambda i: _split(record.sites[i].name, start)
    ):
        several = tuple(run)
        # Without a number each site is a part of its own, and repeats nothing.
        groups = [several] if number else [(one,) for one in several]
        for group in groups:
            signature = tuple(_looks(record, i, f"{prefix}{number}") for i in group)
            found.append(_Part(prefix, number, group, signature))
    return found


def _split(name: str, start: int) -> tuple[str, str]:
    """(words up to the first number behind `start` words, that number): ("h.", "3")."""
    words = name.partition(":")[0].split(".")
    for place in range(start, len(words)):
        if words[place].partition("#")[0].isdigit():
            number = words[place].partition("#")[0]
            return "".join(f"{word}." for word in words[:place]), number
    return name, ""


def _looks(record: Record, index: int, owner: str) -> tuple[object, ...]:
    site = record.sites[index]
    return site.name.removeprefix(owner), site.kind, site.label, site.shape


def _period(parts: Sequence[_Part]) -> tuple[int, int]:
    """(parts of a pattern, how often it comes) of what the sequence begins with."""
    best = (1, 1)
    for period in range(1, min(LONGEST, len(parts) // 2) + 1):
        pattern = parts[:period]
        if any(p.prefix != pattern[0].prefix or not p.number for p in pattern):
            break
        times = 1
        while _same(pattern, parts[times * period : (times + 1) * period]):
            times += 1
        rows = sum(len(p.sites) for p in pattern)
        # Two single sites alike take no more room than one told twice.
        if times > (1 if rows > 1 else 2) and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _same(pattern: Sequence[_Part], other: Sequence[_Part]) -> bool:
    return len(other) == len(pattern) and all(
        a.prefix == b.prefix and a.signature == b.signature
        for a, b in zip(pattern, other, strict=True)
    )


def _repeated(record: Record, parts: Sequence[_Part], period: int) -> Iterator[Group]:
    times = len(parts) // period
    first, last = parts[0], parts[(times - 1) * period]
    if period == 1 and len(first.sites) == 1:
        name = record.sites[first.sites[0]].name
        yield Group(f"{name} … {last.number}", tuple(p.sites[0] for p in parts))
        return
    end = parts[-1].number if period > 1 else last.number
    heading = f"{first.prefix}{first.number} … {end}, {times} times"
    for offset in range(period):
        of_kind = parts[offset::period]
        for place, site in enumerate(of_kind[0].sites):
            owner = f"{of_kind[0].prefix}{of_kind[0].number}"
            label = record.sites[site].name.removeprefix(owner)
            if period > 1:
                label = f"{of_kind[0].number} … {of_kind[-1].number}{label}"
            yield Group(label, tuple(p.sites[place] for p in of_kind), heading, inner=True)
            heading = ""
