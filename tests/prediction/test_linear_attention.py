"""Linear attention in the ways it is written, without a table of all weights, against draws."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from isograd import measure, predict

DRAWS = 16


def _fast(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Katharopoulos et al. 2020."""
    both = torch.einsum("nshd,nshm->nhmd", k, v)
    inverse = 1 / (torch.einsum("nlhd,nhd->nlh", q, k.sum(1)) + 1e-6)
    return torch.einsum("nlhd,nhmd,nlh->nlhm", q, both, inverse)


def _of_heads_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Choromanski et al. 2021."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    inverse = 1.0 / torch.einsum("...nd,...d->...n", q, k.sum(dim=-2))
    both = torch.einsum("...nd,...ne->...de", k, v)
    return torch.einsum("...de,...nd,...n->...ne", both, q, inverse).transpose(1, 2)


def _quotient(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    below = (q * k.sum(2, keepdim=True)).sum(-1, keepdim=True)
    return ((q @ (k.transpose(-2, -1) @ v)) / below).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, written: object, units: int = 64) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(units, units) for _ in range(4))
        self.written = written

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).view(*x.shape[:2], 4, -1) for f in (self.q, self.k, self.v))
        q, k = torch.exp(q - 1), nn.functional.elu(k) + 1
        return x + self.o(self.written(q, k, v).reshape(x.shape))  # type: ignore[operator]


@pytest.mark.parametrize("written", [_fast, _of_heads_first, _quotient])
def test_quotients_are_averages(written: object) -> None:
    def build() -> nn.Module:
        return nn.Sequential(Attention(written), nn.Linear(64, 5))

    x = torch.randn(4, 24, 64, generator=torch.Generator().manual_seed(0))
    energies = []
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        record = measure(build(), x, seed=seed)
        energies.append([record.series[key] for key in ("forward.rms", "backward.rms")])
    measured = np.sqrt(np.mean(np.square(np.array(energies, dtype=float)), axis=0))
    guess = predict(build(), x)
    for key, row in zip(("forward.rms", "backward.rms"), measured, strict=True):
        for site, value, known in zip(record.sites, guess.series[key], row, strict=True):
            if ":" in site.name:
                continue
            allowed = 0.06 if key == "forward.rms" or site.name not in ("0.q", "0.k") else 0.25
            assert value == pytest.approx(known, rel=allowed), (key, site.name)
