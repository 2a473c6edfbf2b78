"""Networks that have learned before: what a training takes from them counts."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import isograd
from isograd.repairs import wording
from isograd.repairs.result import Trial


def rings(seed: int, count: int = 64) -> tuple[Tensor, Tensor]:
    """Points at about three distances from the middle, by which they are told."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=draw)
    x = torch.randn(count, 2, generator=draw)
    radius = 0.5 + labels + 0.3 * torch.randn(count, generator=draw)
    return x / x.norm(dim=1, keepdim=True) * radius[:, None], labels


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    return (rings(seed) for seed in range(1000))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_rate_that_destroys_what_was_learned_is_lowered(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    model.append(nn.Linear(64, 3))
    adam, loss = torch.optim.Adam(model.parameters(), 1e-2), nn.CrossEntropyLoss()
    for _, (x, y) in zip(range(100), batches(), strict=False):
        adam.zero_grad()
        loss(model(x), y).backward()
        adam.step()
    assert float(loss(model(x), y).detach()) < 0.5
    bold = torch.optim.SGD(model.parameters(), lr=20.0)
    done = isograd.repair(model, rings(0), loss, optimizer=bold, data=batches(), seed=seed)
    assert done.verdict == "repaired"
    assert done.remedies == ("optimizer-lr",)
    assert done.comparison is not None
    before, after = done.comparison.before, done.comparison.after
    assert min(before) > 0.5 * math.log(3)  # lost: it counts in full, not as what there was
    assert max(after) < 0.2


def test_what_runs_came_to_is_told_as_it_was() -> None:
    def end(*scores: float) -> str:
        return wording._end(Trial("as it is", ((),), scores, (None,)))

    assert end(2.0, 4.0) == "comes to 3"
    assert end(1e9, 3e9) == "comes to 2e+09"
    assert end(math.inf, 2.0, 4.0) == "comes to 3 and breaks in 1 of 3 runs"
    assert end(math.inf, math.inf) == "breaks"
