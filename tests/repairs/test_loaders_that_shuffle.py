"""A loader that shuffles: its order comes from the seed, and no generator is moved."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import isograd
from isograd.remedies._examples import plain


class Augmented(Dataset[tuple[Tensor, int]]):
    """Samples with noise of three generators."""

    def __init__(self) -> None:
        self.x = torch.randn(512, 20, generator=torch.Generator().manual_seed(3))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        more = random.random() + np.random.rand() + torch.rand(()).item()  # noqa: NPY002
        x = self.x[place]
        return x + 0.1 * more, int(x[0] > 0) + 2 * int(x[1] > 0)


def generators() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002


def test_the_seed_tells_the_repair_of_a_loader_that_shuffles() -> None:
    torch.manual_seed(0)
    model = plain(12, nn.Sigmoid)
    loader = DataLoader(Augmented(), 64, shuffle=True)
    x, y = next(iter(loader))
    told = []
    for state in (1, 2):
        torch.manual_seed(state)
        random.seed(state)
        np.random.seed(state)  # noqa: NPY002
        before = generators()
        done = isograd.repair(model, (x, y), data=loader, budget=60, seed=5)
        assert generators() == before
        assert done.verdict == "repaired"
        told.append((done.reason, done.code, done.trials))
    assert told[0] == told[1]
    other = isograd.repair(model, (x, y), data=loader, budget=60, seed=6)
    assert other.trials != told[0][2]
