"""Batches whose ids are partly padding, whose row of the table is zero."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import isograd


class _Bag(nn.Module):
    def __init__(self, *, drawn_anew: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 32, padding_idx=0)
        if drawn_anew:  # padding is no longer zero, and learns nothing still
            nn.init.normal_(self.table.weight)
        self.head = nn.Linear(32, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(ids).mean(1))


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 50, (32, 20), generator=generator)
    lengths = torch.randint(3, 20, (32, 1), generator=generator)
    ids[torch.arange(20)[None] >= lengths] = 0
    return ids, torch.randint(3, (32,), generator=generator)


@pytest.mark.parametrize("drawn_anew", [False, True])
def test_padding_counts_with_its_share(drawn_anew: bool) -> None:
    batch = _batch()
    energies = [0.0, 0.0, 0.0]
    for seed in range(40):
        torch.manual_seed(seed)
        known = isograd.measure(_Bag(drawn_anew=drawn_anew), batch, seed=seed)
        found = known.series["forward.rms"][0], known.series["forward.rms"][-1]
        found = *found, known.series["weight.grad_rms"][0]
        energies = [total + value**2 / 40 for total, value in zip(energies, found, strict=True)]
    predicted = isograd.predict(lambda: _Bag(drawn_anew=drawn_anew), batch)
    table, out = predicted.series["forward.rms"][0], predicted.series["forward.rms"][-1]
    assert table == pytest.approx(energies[0] ** 0.5, rel=0.02)
    assert out == pytest.approx(energies[1] ** 0.5, rel=0.1)
    assert predicted.series["weight.grad_rms"][0] == pytest.approx(energies[2] ** 0.5, rel=0.1)


def test_a_real_table_is_asked_for_its_row_of_padding() -> None:
    batch = _batch()
    model = _Bag()
    found = isograd.predict(model, batch).series["forward.rms"][0]
    known = isograd.measure(model, batch).series["forward.rms"][0]
    assert found == pytest.approx(known, rel=0.02)


def test_only_f_embedding_counts_padding_from_the_end() -> None:
    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(50, 32, padding_idx=49)
            self.head = nn.Linear(32, 3)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(torch.embedding(self.table.weight, ids, -1))

    ids = torch.full((4, 8), 49)
    found = isograd.predict(Direct, ids)
    assert found.series["weight.grad_rms"][0] > 0
    none = isograd.predict(lambda: nn.Sequential(nn.Embedding(50, 32, -1), nn.Linear(32, 3)), ids)
    assert none.series["weight.grad_rms"][0] == none.series["forward.rms"][0] == 0
