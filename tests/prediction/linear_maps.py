"""Operations that are linear in their input, as matrices on all its entries."""

import numpy as np
import torch
from covariances import assert_moments, made, matrix_of, written_out

from isograd.prediction.propagation import Propagation


def check_linear(function, x, cuts_g=None, seed=0):
    """Field of function(x) and of its gradient, against the function's matrix."""
    run = Propagation()
    with run:
        out = run.field_of(function(run.abstract(x)))

    def plain(values):
        return function(torch.from_numpy(values)).numpy()

    matrix = matrix_of(plain, x.shape)
    shape = plain(np.zeros(x.shape)).shape
    assert out.shape == shape
    second, mean = written_out(x)
    assert_moments(out, matrix @ second @ matrix.T, matrix @ mean)
    cuts = cuts_g or [(n,) for n in shape if n > 1]
    g = made(np.random.default_rng(seed), cuts, [int(n > 1) for n in shape])
    g = g.like(g.second)
    run.backward([(out, g)])
    second, _ = written_out(g)
    back = matrix.T @ second @ matrix
    assert_moments(run.gradient_of(x), back, np.zeros(len(back)))
