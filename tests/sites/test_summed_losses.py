"""Over how many terms a loss is summed."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isograd.probe.measuring import measure
from isograd.sites.chance import terms


@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (lambda out, y: F.mse_loss(out, F.one_hot(y, 10).float()), 1.0),
        (lambda out, y: 10 * F.mse_loss(out, F.one_hot(y, 10).float()), 10.0),
    ],
    ids=["a mean", "a sum"],
)
def test_what_a_squared_error_sums_over_is_told_by_its_gradient(
    error: Callable[[Tensor, Tensor], Tensor], expected: float, scale: float
) -> None:
    # Labels are no entries that could be halved; ten entries, so that the sum is ten means.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 10), nn.Sigmoid())
    nn.init.normal_(model[0].weight, std=scale)
    batch = torch.randn(32, 20), torch.randint(10, (32,))
    seen = measure(model, batch, error)
    assert seen.fact("loss.kind") == "mse"
    assert seen.fact("loss.summed_entries") is None
    assert terms(seen) == expected
