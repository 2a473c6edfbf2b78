"""Tests of local response normalization against the operation itself, on draws in float64."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from isograd.prediction.moments.known import independent
from isograd.prediction.propagation import Propagation


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [((5, 1e-4, 0.75, 2.0), 1e-3), ((4, 1e-2, 0.75, 1.0), 2e-3)],
)
def test_energy_of_output_and_gradient(settings, tolerance):
    shape = (6, 16, 5, 5)
    x = independent(shape, 0.5, 4.0)
    run = Propagation()
    with run:
        middle = functional.relu(run.abstract(x))
        out = run.field_of(functional.local_response_norm(middle, *settings))
    run.backward([(out, independent(shape, 0.0, 1.0))])
    rng = np.random.default_rng(4)
    found = []
    for _ in range(40):
        draw = torch.from_numpy(rng.normal(0.5, 2.0, size=shape)).requires_grad_()
        y = functional.local_response_norm(functional.relu(draw), *settings)
        y.backward(torch.from_numpy(rng.normal(size=shape)))
        found.append((float(y.detach().square().mean()), float(draw.grad.square().mean())))
    energy, back = np.mean(found, axis=0)
    noise = 4 * np.std(found, axis=0) / len(found) ** 0.5
    assert out.energy == pytest.approx(energy, abs=noise[0] + tolerance * energy)
    assert run.gradient_of(x).energy == pytest.approx(back, abs=noise[1] + tolerance * back)


def test_its_output_stays_a_function_of_what_went_in():
    """A ReLU before it and a pooling after it are taken together; all on the way get gradients."""
    run = Propagation()
    x = independent((4, 8, 8, 8), 0.0, 1.0)
    with run:
        middle = functional.relu(run.abstract(x))
        normed = functional.local_response_norm(middle, 5)
        out = run.field_of(functional.max_pool2d(normed, 2))
    assert out.energy == pytest.approx(
        run_pool(run, middle).energy * (run.field_of(normed).energy / run.field_of(middle).energy),
        rel=1e-3,
    )
    run.backward([(out, independent(out.shape, 0.0, 1.0))])
    found = [run.gradient_of(run.field_of(t)).energy for t in (normed, middle)]
    np.testing.assert_allclose(found, 0.25, rtol=1e-3)
    assert run.gradient_of(x).energy == pytest.approx(0.25 * (1 - 2**-4), rel=1e-3)


def run_pool(run, tensor):
    with run:
        return run.field_of(functional.max_pool2d(tensor, 2))
