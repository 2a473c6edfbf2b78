"""Tests of softmax over keys that are unlike each other, against draws."""

import numpy as np
import torch

from isograd.prediction.known import independent
from isograd.prediction.propagation import Propagation

SHAPE, DRAWS = (4, 5), 20_000
SPREADS = 0.8, 0.9, 1.0, 1.1, 1.2, 1.3


def test_keys_that_are_classes_by_themselves_still_differ():
    run = Propagation()
    fields = [independent(SHAPE, 0.0, spread**2) for spread in SPREADS]
    with run:
        out = torch.softmax(torch.stack([run.abstract(f) for f in fields], -1), -1)
    found = run.field_of(out)
    run.backward([(found, independent(out.shape, 0.0, 1.0))])

    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor(SPREADS, dtype=torch.float64)
    x = scale * torch.randn(DRAWS, len(SPREADS), dtype=torch.float64, generator=generator)
    a = torch.softmax(x, -1)
    g = torch.randn(a.shape, dtype=torch.float64, generator=generator)
    back = a * (g - (a * g).sum(-1, keepdim=True))

    np.testing.assert_allclose(found.energies.squeeze(), a.square().mean(0), rtol=0.1)
    energies = [run.gradient_of(f).energy for f in fields]
    np.testing.assert_allclose(np.mean(energies), back.square().mean(), rtol=0.1)
