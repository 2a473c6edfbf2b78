"""Samples of many sites compared together are as alike as compared one by one."""

import pytest
import torch

from isograd.probe.alike import TOGETHER, Alike
from isograd.statistics import correlation, rank

FEATURES = 512


def test_together_is_as_one_by_one() -> None:
    torch.manual_seed(0)
    given = {
        row: torch.randn(40 + row % 3, 700 if row % 2 else 30).cumsum(0) + row for row in range(35)
    }
    given[5] = torch.zeros(9, 11)
    given[6] = torch.randn(1, 11)
    alike = Alike(FEATURES)
    for row, x in given.items():
        alike.add(row, x)
    assert 9 * 32 * FEATURES < TOGETHER < 18 * 32 * FEATURES  # some go before the end
    found = alike.numbers()
    for key, single in (("forward.correlation", correlation), ("forward.rank", rank)):
        assert set(found[key]) == set(given)
        for row, x in given.items():
            expected = single(x, FEATURES).item()
            assert found[key][row].item() == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_the_latest_holds_and_what_is_changed_in_place_was_copied() -> None:
    alike = Alike(FEATURES)
    first, x = torch.randn(7, 5), torch.randn(11, 5)
    alike.add(3, first)
    alike.add(3, x)
    expected = rank(x, FEATURES).item()
    x.zero_()
    assert alike.numbers()["forward.rank"][3].item() == pytest.approx(expected, rel=1e-9)
    alike.clear()
    assert alike.numbers() == {}
