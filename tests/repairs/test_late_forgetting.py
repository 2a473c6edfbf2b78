"""Post-norm stacks may learn at first, at a rate that they do not bear."""

import functools

import pytest
import torch
from torch import nn

import isograd
from isograd.remedies import case_of
from isograd.repairs.rehearsing import SETTLED, _post_norm
from patients import data


class Encoder(nn.Module):
    """torch's transformer layers over eight rows of an image."""

    def __init__(self, depth: int, *, norm_first: bool = False) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 32), nn.Linear(32, 10)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=norm_first)
            for _ in range(depth)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x.unflatten(1, (8, 8)))
        for layer in self.layers:
            x = layer(x)
        out: torch.Tensor = self.head(x.mean(1))
        return out


@pytest.mark.parametrize(
    ("depth", "norm_first", "stack"), [(6, False, True), (5, False, False), (6, True, False)]
)
def test_what_counts_as_a_stack(depth: int, norm_first: bool, stack: bool) -> None:
    torch.manual_seed(0)
    case = case_of(Encoder(depth, norm_first=norm_first), data.digits(16))
    assert _post_norm(case) is stack


@pytest.mark.parametrize(("rate", "to_the_end"), [(0.01, True), (0.001, False)])
def test_a_post_norm_stack_is_trained_to_the_end_at_a_high_rate(
    rate: float, to_the_end: bool
) -> None:
    torch.manual_seed(0)
    x, y = data.digits(1280)
    batches = list(zip(x.split(32), y.split(32), strict=True))
    make = functools.partial(torch.optim.Adam, lr=rate)
    done = isograd.repair(Encoder(6), batches[0], optimizer=make, data=batches, budget=120)
    assert done.verdict == "healthy", str(done)  # these digits are easy enough
    assert (f"in {SETTLED} steps" in done.reason) is to_the_end
    assert any("is unusually high" in note for note in done.notes) is to_the_end
