"""One tester for every backend: every column against numpy, over types, shapes, strides, sizes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from witness import (
    FLOATS,
    LARGE,
    THRESHOLDS,
    agree,
    check,
    expected,
    expected_flags,
    random,
    row_of,
    tensors,
)

from isograd.errors import InputError
from isograd.statistics import COLUMNS, merge
from isograd.statistics.backends import BACKENDS, Backend, Target
from isograd.statistics.columns import ALIVE, FLAT, UNREAD, empty


@settings(max_examples=120, deadline=None)
@given(x=tensors(), low=THRESHOLDS, high=THRESHOLDS)
def test_any_tensor(backend: Backend, x: Tensor, low: float | None, high: float | None) -> None:
    check(backend, x, low, high)


@settings(max_examples=80, deadline=None)
@given(x=tensors(), low=THRESHOLDS, high=THRESHOLDS, axis=st.integers(-4, 3))
def test_flags(
    backend: Backend, x: Tensor, low: float | None, high: float | None, axis: int
) -> None:
    if not -x.dim() <= axis < x.dim() or not x.numel():
        return
    flags = torch.zeros(x.shape[axis], dtype=torch.uint8)
    backend.read(x, Target(empty(1, "cpu")[0], low, high, flags, axis))
    assert flags.tolist() == expected_flags(x, axis, low, high)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_many_blocks(backend: Backend, make, dtype: torch.dtype) -> None:
    check(backend, make().to(dtype), -0.5, 0.5)


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e-12, 1.0, 1e12, 1e30, 1e38])
def test_no_power_leaves_the_range(backend: Backend, size: float) -> None:
    x = (random(70_001, seed=1).float()).clamp(-3, 3) * size
    assert x.isfinite().all()
    check(backend, x)


@pytest.mark.parametrize("dtype", FLOATS)
def test_smallest_and_largest_numbers(backend: Backend, dtype: torch.dtype) -> None:
    info = torch.finfo(dtype)
    for value in (info.smallest_normal * info.eps, info.smallest_normal, info.max):
        x = torch.tensor([value, -value, value, 0.0, -0.0], dtype=dtype)
        assert x[0] != 0
        check(backend, x, 0.0, value)


def test_row(backend: Backend) -> None:
    row = row_of(backend, torch.tensor([1.0, -2.0, 0.0, math.nan, math.inf, 3.0]), 0.0, 1.0)
    assert row.tolist() == [6, 2, 1, 2, 2, 14, 6, 98, -2, 3, 1, 2, 2]


@pytest.mark.parametrize("shape", [(0,), (3, 0, 5), ()])
def test_empty_and_scalar(backend: Backend, shape: tuple[int, ...]) -> None:
    check(backend, torch.ones(shape), 1.0, 1.0)


def test_nothing_finite(backend: Backend) -> None:
    check(backend, torch.full((3, 5), math.nan), 0.0)
    check(backend, torch.full((3, 5), math.inf), 0.0, 0.0)


def test_complex_counts_both_parts(backend: Backend) -> None:
    x = torch.randn(3, 5, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))
    for z in (x, x.conj(), x.t(), x.conj().imag):
        check(backend, z, -1.0, 1.0)
        flags = torch.zeros(z.shape[1], dtype=torch.uint8)
        backend.read(z, Target(empty(1, "cpu")[0], 0.5, 1.0, flags, 1))
        both = torch.view_as_real(z.resolve_conj()) if z.is_complex() else z
        assert flags.tolist() == expected_flags(both, 1, 0.5, 1.0)


def test_eight_bit_floats(backend: Backend) -> None:
    x = torch.tensor([0.5, -448.0, 0.0, 2.0**-9]).to(torch.float8_e4m3fn)
    assert row_of(backend, x).tolist() == row_of(backend, x.float()).tolist()


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_integers_are_refused(backend: Backend, dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match=rf"{dtype} tensor of shape \(2, 3\).*\.float\(\)"):
        row_of(backend, torch.zeros(2, 3, dtype=dtype))


def test_graph_and_tensor_stay_as_they_were(backend: Backend) -> None:
    x = torch.randn(3, 5, requires_grad=True)
    before = x.detach().clone()
    assert not row_of(backend, x * 1).requires_grad
    row_of(backend, x)
    assert torch.equal(x, before)
    assert x.grad is None
    assert x._version == 0


@settings(max_examples=60, deadline=None)
@given(first=tensors(), second=tensors())
def test_two_tensors_are_one(backend: Backend, first: Tensor, second: Tensor) -> None:
    """Whichever way: read one after the other, read at once, or rows of each merged."""
    both = torch.cat([first.double().reshape(-1), second.double().reshape(-1)])
    truth = expected(both, 0.5)
    table = empty(3, "cpu")
    backend.read(first, Target(table[0], 0.5))
    backend.read(second, Target(table[0], 0.5))
    backend.read_all([first, second], [Target(table[1], 0.5)] * 2)
    backend.read(second, Target(table[2], 0.5))
    apart = merge(row_of(backend, first, 0.5), table[2])
    for row in (table[0], table[1], apart):
        # A scale that is right for one of them costs the other at most what nobody can see.
        agree(row, truth, relative=1e-6)


def test_flags_only_rise(backend: Backend) -> None:
    flags = torch.zeros(3, dtype=torch.uint8)
    target = Target(empty(1, "cpu")[0], 0.0, None, flags, 1)
    backend.read(torch.empty(0, 3), target)
    assert flags.tolist() == [UNREAD, UNREAD, UNREAD]
    backend.read(torch.tensor([[-1.0, 0.0, 2.0], [-1.0, 0.0, -2.0]]), target)
    assert flags.tolist() == [FLAT, FLAT, ALIVE]
    backend.read(torch.tensor([[1.0, 0.0, -2.0]]), target)
    assert flags.tolist() == [ALIVE, FLAT, ALIVE]
    backend.read(torch.ones(2, 4), target)  # other units than these
    assert flags.tolist() == [ALIVE, FLAT, ALIVE]
    backend.read(torch.full((1, 3), math.nan), target)
    assert flags.tolist() == [ALIVE, ALIVE, ALIVE]


def test_columns_are_known_by_name() -> None:
    assert len(COLUMNS) == len(set(COLUMNS)) == 13
    assert [one.code for one in BACKENDS] == sorted(one.code for one in BACKENDS)
