"""Tests of patches: torch's own operation as a matrix on all entries."""

import numpy as np
import pytest
from covariances import cuts_of, made
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_maps import check_linear
from torch.nn import functional


def field_of(rng, shape, cuts=None):
    cuts = cuts or [(n,) for n in shape if n > 1]
    return made(rng, cuts, [int(n > 1) for n in shape])


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_unfold_and_fold(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**20)))
    d = range(2)
    kernel = [data.draw(st.integers(1, 3)) for _ in d]
    dilation = [data.draw(st.integers(1, 2)) for _ in d]
    padding = [data.draw(st.integers(0, 1)) for _ in d]
    stride = [data.draw(st.integers(1, 2)) for _ in d]
    reach = [a * (k - 1) + 1 for k, a in zip(kernel, dilation, strict=True)]
    size = [data.draw(st.integers(r, 5)) for r in reach]
    shape = [*data.draw(st.sampled_from([(2,), (2, 1), (1, 2)])), *size]
    args = kernel, dilation, padding, stride
    cuts = [data.draw(cuts_of(n, 2)) for n in shape if n > 1]
    check_linear(lambda t: functional.unfold(t, *args), field_of(rng, shape, cuts))
    steps = [
        (n + 2 * p - r) // s + 1 for n, p, r, s in zip(size, padding, reach, stride, strict=True)
    ]
    columns = [*shape[:-3], shape[-3] * kernel[0] * kernel[1], steps[0] * steps[1]]
    x = field_of(rng, columns)
    check_linear(lambda t: functional.fold(t, size, *args), x)


@pytest.mark.parametrize("args", [(1, 3, 1), (1, 2, 2), (-1, 2, 1), (0, 2, 1), (2, 4, 1)])
def test_windows_of_one_axis(args):
    x = field_of(np.random.default_rng(1), (2, 5, 4))
    check_linear(lambda t: t.unfold(*args), x)


def test_patches_of_an_image():
    """Two calls cut an image into patches that do not overlap."""
    x = field_of(np.random.default_rng(1), (2, 1, 4, 6))
    check_linear(lambda t: t.unfold(2, 2, 2).unfold(3, 3, 3), x)
