"""Thinned keeps a bounded part of what comes, spread over the whole."""

import itertools

import pytest

from isograd.probe.thinning import Thinned


def kept(count: int, *, recent: int, older: int) -> list[int]:
    series = Thinned[int](recent=recent, older=older)
    for number in range(count):
        series.append(number)
    return series.items


def test_keeps_everything_while_there_is_room() -> None:
    assert kept(20, recent=7, older=13) == list(range(20))


@pytest.mark.parametrize("count", [21, 100, 999, 12345])
def test_is_bounded_evenly_spread_and_keeps_both_ends(count: int) -> None:
    found = kept(count, recent=7, older=13)
    old, new = found[:-7], found[-7:]
    assert new == list(range(count - 7, count))
    assert 13 / 2 <= len(old) <= 13
    assert old[0] == 0
    gaps = {b - a for a, b in itertools.pairwise(old)}
    assert len(gaps) == 1
    assert new[0] - old[-1] <= gaps.pop()
