"""A batch with NaN or infinite values is refused, and told where they are."""

import pytest
import torch

from isograd.errors import DataError
from isograd.sites.batches import as_batch, check_filled, check_finite

X, Z, Y = torch.randn(5, 7), torch.randn(5, 3), torch.arange(5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_non_finite_input_is_located(value: float) -> None:
    bad = Z.clone()
    bad[2, 1] = bad[4, 0] = value
    pattern = r"input 1 holds 2 NaN or infinite values of 15 \(the first at \(2, 1\)\)"
    with pytest.raises(DataError, match=pattern):
        check_finite(as_batch(((X, bad), Y)))


def test_what_is_finite_is_let_through() -> None:
    large = torch.full((9,), torch.finfo(torch.float32).max)  # its sum is infinite
    check_finite(as_batch(((X, Y, large), Y)))
    check_finite(as_batch({"ids": Y, "labels": large}))


def test_targets_are_looked_at_as_well() -> None:
    targets = torch.tensor([1.0, float("nan"), 2.0, float("inf")])
    with pytest.raises(DataError, match=r"the targets hold 2 NaN or infinite values of 4"):
        check_finite(as_batch((X, targets)))


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match=r"input 1 is float32\[0, 3\], which holds no entries"):
        check_filled(as_batch(((X, Z[:0]), Y)))
    check_filled(as_batch(((X, Z), Y)))
