"""Every sum against numpy in extended precision, over types, shapes, strides and sizes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from isograd.errors import InputError
from isograd.statistics import SUMS, derive, sums
from isograd.statistics._layout import flatten, rows
from isograd.statistics.reference import _DEVICE_CHUNK, _on_device

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def brute_force(x: Tensor) -> dict[str, float | None]:
    """What `derive` says, from all entries as an array of 80-bit floats."""
    entries = np.asarray(x.double().numpy(), dtype=np.longdouble).ravel()
    finite = entries[np.isfinite(entries)]
    largest = np.abs(finite).max() if finite.size and finite.any() else np.longdouble(1)
    y = finite / largest
    square = (y**2).mean() if finite.size else 0
    return {
        "count": entries.size,
        "nonfinite": entries.size - finite.size if entries.size else None,
        "zero": (finite == 0).sum() / entries.size if entries.size else None,
        "positive": (finite > 0).sum() / entries.size if entries.size else None,
        "mean": float(y.mean() * largest) if finite.size else None,
        "rms": float(np.sqrt(square) * largest) if finite.size else None,
        "abs_mean": float(np.abs(y).mean() * largest) if finite.size else None,
        "kurtosis": float((y**4).mean() / square**2) if square else None,
        "min": float(finite.min()) if finite.size else None,
        "max": float(finite.max()) if finite.size else None,
    }


def agree(seen: dict[str, float | None], x: Tensor) -> None:
    truth = brute_force(x)
    assert list(seen) == list(truth)
    for key, value in truth.items():
        if value is None or key in ("count", "nonfinite", "zero", "positive", "min", "max"):
            assert seen[key] == value, key
        elif key == "mean":  # signed entries cancel: relative to the mean magnitude
            assert seen[key] == pytest.approx(value, rel=0, abs=1e-5 * truth["abs_mean"]), key
        else:
            assert seen[key] == pytest.approx(value, rel=1e-5, abs=0), key


def check(x: Tensor) -> None:
    agree(derive(sums(x).tolist()), x)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(FLOATS))
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 5, 7, 11]), max_size=4))
    power = {torch.float16: 3, torch.float64: 300}.get(dtype, 36)
    size = draw(st.integers(-power, power))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * 10.0**size
    mask = torch.rand(shape, generator=generator)
    x = torch.where(mask < draw(st.sampled_from([0.0, 0.3, 1.0])), 0.0, x)
    for odd in draw(st.lists(st.sampled_from([math.nan, math.inf, -math.inf]), max_size=2)):
        x = torch.where(torch.rand(shape, generator=generator) < 0.1, odd, x)
    x = x.to(dtype).permute(draw(st.permutations(range(x.dim()))))
    if x.dim() and draw(st.booleans()):
        x = x[:: draw(st.sampled_from([1, 2]))]
    return x


@settings(max_examples=300, deadline=None)
@given(tensors())
def test_any_tensor(x: Tensor) -> None:
    check(x)


@settings(max_examples=300, deadline=None)
@given(tensors())
def test_device_path_says_the_same(x: Tensor) -> None:
    flat = x.reshape(-1)
    agree(derive(_on_device(flat).tolist()), x)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "make",
    [
        lambda g: torch.randn(3, 70_001, generator=g),
        lambda g: torch.randn(210_011, generator=g).relu(),
        lambda g: torch.full((300_007,), 0.1),
        lambda g: torch.rand(200_003, generator=g) + 30.0,
        lambda g: torch.randn(5, 7, 67, 71, generator=g).to(memory_format=torch.channels_last),
        lambda g: torch.randn(2, 500_009, generator=g).t()[::3],
        lambda g: torch.tensor(0.3).expand(411, 1_009),
        lambda g: torch.randn(200_003, generator=g) * torch.linspace(-9, 4, 200_003).exp(),
    ],
)
def test_many_chunks(make, dtype: torch.dtype) -> None:
    check(make(torch.Generator().manual_seed(0)).to(dtype))


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e-12, 1.0, 1e12, 1e30, 1e38])
def test_no_power_leaves_the_range(size: float) -> None:
    x = torch.randn(70_001, generator=torch.Generator().manual_seed(1)).clamp(-3, 3) * size
    assert x.isfinite().all()
    check(x)
    agree(derive(_on_device(x).tolist()), x)


def test_smallest_and_largest_numbers_of_every_type() -> None:
    for dtype in FLOATS:
        info = torch.finfo(dtype)
        for value in (info.smallest_normal * info.eps, info.smallest_normal, info.max):
            x = torch.tensor([value, -value, value, 0.0], dtype=dtype)
            assert x[0] != 0
            check(x)
            agree(derive(_on_device(x).tolist()), x)


def test_device_path_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isograd.statistics.reference._DEVICE_CHUNK", 1_000)
    assert _DEVICE_CHUNK == 1 << 22
    x = torch.randn(7_001, generator=torch.Generator().manual_seed(2))
    x[3], x[5_000], x[6_000:6_500] = math.nan, math.inf, 0.0
    agree(derive(_on_device(x).tolist()), x)


def test_vector() -> None:
    vector = sums(torch.tensor([1.0, -2.0, 0.0, math.nan, math.inf, 3.0]))
    assert vector.dtype == torch.float64
    expected = [6, 2, 1, 2, 2, 14, 6, 98, -2, 3, 1]
    assert vector.tolist() == expected


def test_scale_is_a_power_of_two() -> None:
    scale = sums(torch.tensor([3e-20, 1e-20]))[SUMS.index("scale")].item()
    assert math.frexp(scale)[0] == 0.5
    assert 3e-20 <= scale <= 6e-20


@pytest.mark.parametrize("shape", [(0,), (3, 0, 5)])
def test_empty(shape: tuple[int, ...]) -> None:
    check(torch.empty(shape))
    assert derive(sums(torch.empty(shape)).tolist())["count"] == 0


def test_nothing_finite() -> None:
    check(torch.full((3, 5), math.nan))


def test_complex_counts_both_parts() -> None:
    x = torch.randn(3, 5, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))
    for z in (x, x.conj(), x.t(), x.conj().imag):
        agree(
            derive(sums(z).tolist()), torch.view_as_real(z.resolve_conj()) if z.is_complex() else z
        )


def test_eight_bit_floats() -> None:
    x = torch.tensor([0.5, -448.0, 0.0, 2.0**-9]).to(torch.float8_e4m3fn)
    check(x.float())
    assert sums(x).tolist() == sums(x.float()).tolist()


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_integers_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match=rf"{dtype} tensor of shape \(2, 3\).*\.float\(\)"):
        sums(torch.zeros(2, 3, dtype=dtype))


def test_graph_and_tensor_stay_as_they_were() -> None:
    x = torch.randn(3, 5, requires_grad=True)
    before = x.detach().clone()
    vector = sums(x * 1)
    assert not vector.requires_grad
    sums(x)
    assert torch.equal(x, before)
    assert x.grad is None
    assert x._version == 0


def test_dense_tensors_are_not_copied() -> None:
    x = torch.randn(3, 5, 7, 11).to(memory_format=torch.channels_last)
    for dense in (x, x.transpose(0, 2), x[1:2]):
        assert flatten(dense).data_ptr() == dense.data_ptr()
    assert rows(x).data_ptr() == x.data_ptr()
    assert rows(x).shape == (3, 385)
