"""Tests of resizing: torch's own operation as a matrix on all entries."""

import numpy as np
import pytest
import torch
from covariances import cuts_of, made
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_maps import check_linear
from torch.nn import functional


@st.composite
def maps(draw, d=(1, 2), most=5):
    """A field of samples, channels and spatial axes."""
    shape = [2, draw(st.integers(1, 2))]
    shape += [draw(st.integers(1, most)) for _ in range(draw(st.integers(*d)))]
    cuts = [draw(cuts_of(n, 2)) for n in shape if n > 1]
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    return made(rng, cuts, [int(n > 1) for n in shape])


MODES = {
    1: ["nearest", "nearest-exact", "linear", "area"],
    2: ["nearest", "bilinear", "bicubic", "area"],
}


@settings(deadline=None, max_examples=60)
@given(maps(), st.data())
def test_interpolate(x, data):
    d = len(x.groups) - 2
    mode = data.draw(st.sampled_from(MODES[d]))
    smooth = "linear" in mode or mode == "bicubic"
    corners = data.draw(st.sampled_from([None, True, False])) if smooth else None
    if data.draw(st.booleans()):
        size = [data.draw(st.integers(1, 6)) for _ in range(d)]
        check_linear(lambda t: functional.interpolate(t, size, None, mode, corners), x)
    else:
        scale = [data.draw(st.sampled_from((1.0, 1.5, 2.0, 2.7))) for _ in range(d)]
        again = data.draw(st.booleans())
        check_linear(lambda t: functional.interpolate(t, None, scale, mode, corners, again), x)


def field_of(*shape):
    return made(np.random.default_rng(9), [(n,) for n in shape], [1] * len(shape))


@pytest.mark.parametrize(
    "function",
    [
        lambda t: functional.interpolate(t, (2, 3), mode="bilinear", antialias=True),
        lambda t: functional.interpolate(t, scale_factor=2),
        torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        lambda t: functional.interpolate(
            t[..., None].expand(2, 2, 4, 5, 2), (2, 2, 4), mode="trilinear"
        ),
    ],
)
def test_other_ways_to_interpolate(function):
    check_linear(function, field_of(2, 2, 4, 5))


def test_old_names():
    with pytest.warns(UserWarning, match="deprecated"):
        check_linear(
            lambda t: functional.upsample_bilinear(t, scale_factor=2), field_of(2, 2, 2, 3)
        )
    with pytest.warns(UserWarning, match="deprecated"):
        check_linear(lambda t: functional.upsample_nearest(t, scale_factor=2), field_of(2, 2, 2, 3))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda t: functional.pixel_shuffle(t, 2), (2, 8, 2, 3)),
        (lambda t: functional.pixel_unshuffle(t, 2), (2, 2, 4, 6)),
        (lambda t: functional.channel_shuffle(t, 3), (2, 6, 2, 3)),
        (lambda t: torch.pixel_shuffle(t, 3), (9, 2, 2)),
    ],
)
def test_moved_entries(function, shape):
    check_linear(function, field_of(*shape))
