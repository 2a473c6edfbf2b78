"""What a negative log-likelihood takes for probabilities."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import isograd


@pytest.mark.parametrize(
    ("make", "fits"),
    [
        (lambda o: o - o.logsumexp(1, keepdim=True), True),
        (lambda o: (F.softplus(o) / F.softplus(o).sum(1, keepdim=True)).log(), True),
        (lambda o: (o.softmax(1) + 1e-6).log(), True),
        (lambda o: F.softplus(o).log(), False),
        (lambda o: o.sigmoid().log(), False),
    ],
)
def test_probabilities_of_a_likelihood_add_up_to_one(
    make: Callable[[Tensor], Tensor], fits: bool
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    batch = torch.randn(40, 20), torch.randint(5, (40,))
    found = isograd.check(model, batch, lambda o, t: F.nll_loss(make(o), t)).findings
    assert ("IG605" in [f.code for f in found]) is not fits


@pytest.mark.parametrize(
    ("targets", "fits"),
    [
        (F.one_hot(torch.arange(40) % 5, 5).float(), True),
        (F.one_hot(torch.arange(40) % 5, 5) * 0.9 + 0.02, True),  # smoothed
        (torch.rand(40, 5).softmax(1), True),
        ((torch.arange(200).reshape(40, 5) % 3 == 0).float(), False),  # one or two a sample
    ],
)
def test_labels_of_a_cross_entropy_exclude_each_other(targets: Tensor, fits: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    batch = torch.randn(40, 20), targets
    found = isograd.check(model, batch, F.cross_entropy).findings
    assert ("IG605" in [f.code for f in found]) is not fits
    also = isograd.check(model, batch, F.binary_cross_entropy_with_logits).findings
    assert "IG605" not in [f.code for f in also]
