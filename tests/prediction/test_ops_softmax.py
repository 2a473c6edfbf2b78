"""Tests of softmax over keys that are unlike each other, against draws."""

import numpy as np
import pytest
import torch

from isograd.prediction.moments.known import independent
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


NEIGHBORS = torch.rand(48, 48, generator=torch.Generator().manual_seed(3)) < 0.12
NEIGHBORS.fill_diagonal_(True)


@pytest.mark.parametrize("masked", [False, True])
def test_what_all_keys_have_in_common_moves_nothing(masked):
    """Gradients of queries behind keys that are added to them; as if keys took no more than their
    mean share of a row, 1.3 and 2.2 times too large."""

    def weighed(query, key, value):
        logits = torch.nn.functional.leaky_relu(query + key.transpose(-1, -2), 0.2)
        if masked:
            logits = logits.masked_fill(~NEIGHBORS, float("-inf"))
        return torch.softmax(logits, -1) @ value

    shapes, run = ((48, 1), (48, 1), (48, 16)), Propagation()
    fields = [
        independent(shape, 0.0, variance)
        for shape, variance in zip(shapes, (0.3, 0.3, 1.0), strict=True)
    ]
    with run, torch.no_grad():
        out = weighed(*map(run.abstract, fields))
    run.backward([(run.field_of(out), independent(out.shape, 0.0, 1.0))])

    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(200):
        given = [torch.randn(f.shape, generator=generator) * f.energy**0.5 for f in fields]
        given = [one.requires_grad_() for one in given]
        probe = torch.randn(out.shape, generator=generator)
        gradients = torch.autograd.grad(weighed(*given), given, probe)
        found.append([float(g.square().mean()) for g in gradients])
    energies = [run.gradient_of(f).energy for f in fields]
    np.testing.assert_allclose(np.sqrt(energies), np.sqrt(np.mean(found, 0)), rtol=0.18)
