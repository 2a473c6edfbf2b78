"""The native backend: what its speed must not cost."""

import gc
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from witness import FLOATS, agree, expected, row_of

from isograd.statistics import Place, Table
from isograd.statistics._extension import DTYPES, extension
from isograd.statistics.backends import BACKENDS
from isograd.statistics.columns import empty

NATIVE = BACKENDS["native"]
pytestmark = pytest.mark.skipif(NATIVE.missing() is not None, reason="built without a compiler")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [*range(70), 1_023, 1_024, 1_025, 1_039, 2_049])
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_remainder(count: int, dtype: torch.dtype) -> None:
    """Vectors, chains and blocks end anywhere; the worst value may be the last one."""
    x = noise(count).to(dtype)
    if count:
        x[-1] = 60.0
    agree(row_of(NATIVE, x, 0.0, 1.0), expected(x, 0.0, 1.0), relative=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.floats(2**-60, 2**60, width=32), st.sampled_from(FLOATS))
def test_equal_entries_round_alike(value: float, dtype: torch.dtype) -> None:
    """The worst case of float32 sums: every rounding has the same sign."""
    x = torch.full((70_001,), value).to(dtype)
    if x.isfinite().all():
        agree(row_of(NATIVE, x), expected(x), relative=1e-6)


@pytest.mark.parametrize("size", [1e-40, 1e-22, 1e-7, 1.0, 1e9, 1e30])
@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_odd_entries_among_small_and_large(size: float, odd: float) -> None:
    x = noise(30_011) * size
    x[5], x[20_000:20_100], x[-1] = odd, odd, odd
    agree(row_of(NATIVE, x, 0.0), expected(x, 0.0), relative=1e-6)


def test_flushing_subnormals_is_left_as_found() -> None:
    x = torch.full((3_001,), 1e-40)
    truth = expected(x)
    for flush in (True, False):
        torch.set_flush_denormal(flush)
        try:
            row = row_of(NATIVE, x)
            flushed = (x * 1.5).count_nonzero() == 0
        finally:
            torch.set_flush_denormal(False)
        assert flushed == flush
        agree(row, truth, relative=1e-6)


@pytest.mark.parametrize("threads", [2, 3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_share_a_large_tensor(threads: int, dtype: torch.dtype) -> None:
    native = extension()
    assert native is not None
    x = noise(7 * (1 << 19) + 13).to(dtype)
    if dtype == torch.float64:
        x *= 1e-250
    x[3], x[-2] = math.nan, -math.inf
    row = empty(1, "cpu")[0]
    native.read(x.data_ptr(), FLOATS.index(dtype), len(x), row.data_ptr(), 0.0, None, threads)
    truth = row_of(BACKENDS["reference"], x, 0.0)
    assert row.tolist() == pytest.approx(truth.tolist(), rel=1e-6, abs=1e-6 * truth[6].item())


def test_more_entries_than_32_bits_count() -> None:
    x = torch.ones((), dtype=torch.bfloat16).expand((1 << 31) + 6)
    row = row_of(NATIVE, x, 0.0, 1.0)
    assert row[:4].tolist() == [2**31 + 6, 0, 0, 2**31 + 6]
    assert row[4].item() == 2**31 + 6
    assert row[-1].item() == 2**31 + 6


def test_short_rows_of_a_larger_tensor() -> None:
    whole = noise(37, 41, 43)
    for x in (
        whole[:, :3, 2:9],
        whole[::2, 1:, ::5],
        whole[:, :, 7],
        whole.permute(2, 0, 1)[:, 1:],
    ):
        assert not x.is_contiguous()
        agree(row_of(NATIVE, x, 0.0, 1.0), expected(x, 0.0, 1.0), relative=1e-6)


def test_other_threads_run_during_a_large_read() -> None:
    x, stop = torch.ones(1 << 25), threading.Event()
    seen = deque[float](maxlen=1_000_000)

    def note() -> None:
        while not stop.is_set():
            seen.append(time.perf_counter())

    def amid() -> bool:
        """Whether it ran in the middle of a read, where nothing of Python does."""
        begin = time.perf_counter()
        row_of(NATIVE, x)
        rest = (time.perf_counter() - begin) / 4
        times = seen.copy()
        return any(begin + rest < t < begin + 3 * rest for t in times)

    other = threading.Thread(target=note)
    other.start()
    try:
        assert any(amid() for _ in range(20))  # a busy machine may have had no turn for it
    finally:
        stop.set()
        other.join()


@pytest.fixture(params=["at once", "one by one"])
def told(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a tensor is, torch tells by DLPack's table of functions, or, before 2.10, bit by bit."""
    native = extension()
    assert native is not None
    exchange = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    if request.param == "at once" and exchange is None:
        pytest.skip("this torch has no such table")
    known = (*DTYPES, torch.Tensor, torch.nn.Parameter)
    native.know(*known, exchange if request.param == "at once" else None)
    yield
    native.know(*known, exchange)


@pytest.mark.usefixtures("told")
def test_a_table_reads_what_is_plain_and_what_is_not() -> None:
    table = Table([Place(0.0, 1.0, units=3, axis=1)] * 2, "cpu", backend="native")
    truth = Table([Place(0.0, 1.0, units=3, axis=1)] * 2, "cpu", backend="reference")
    z = torch.complex(noise(2, 3), noise(2, 3, seed=1))
    for x in (
        noise(7, 3),
        noise(2, 3, 5, 5),
        noise(5, 3).requires_grad_(),
        noise(3, 7).t(),
        z,
        torch._neg_view(noise(2, 3)),
        noise(300, 3, 101),
        torch.empty(0, 3),
        noise(2, 4),
        torch.nn.Parameter(noise(2, 3)),
        torch.tensor(1.5),
        noise(2, 3).double(),
        noise(2, 3).half(),
        noise(2, 3).bfloat16(),
        noise(4, 3)[1:],
        noise(1, 3, 1).expand(5, 3, 1),
        noise(2, 3, 5, 7).to(memory_format=torch.channels_last),
    ):
        for one in (table, truth):
            one.read(0, x)
            one.read_all([1], [x])
    assert table.values.tolist()[0] == pytest.approx(truth.values.tolist()[0], rel=1e-6)
    assert table.values.tolist()[1] == pytest.approx(truth.values.tolist()[1], rel=1e-6)
    assert torch.equal(table.flags, truth.flags)
    assert torch.equal(table.dead(), truth.dead())


def test_a_table_and_its_tensors_are_let_go() -> None:
    table = Table([Place()], "cpu", backend="native")
    x = noise(7)
    table.read(0, x)
    gone = weakref.ref(x), weakref.ref(table)
    gc.disable()
    try:
        del x, table
        assert [one() for one in gone] == [None, None]
    finally:
        gc.enable()


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("odd", [torch.arange(3), torch.ones(3, dtype=torch.bool), "no tensor"])
def test_what_holds_no_signal_is_left(odd: object) -> None:
    table = Table([Place()], "cpu", backend="native")
    reader = table.part_reader(0)
    assert reader is not None
    assert not reader(odd)  # type: ignore[arg-type]
    assert not reader(torch.eye(3).to_sparse())
    assert not reader(torch.empty(3, device="meta"))
    assert reader(torch.ones(3))


def test_what_torch_tells_is_of_a_known_version() -> None:
    native = extension()
    assert native is not None
    with pytest.raises(ValueError, match="PyCapsule"):
        native.know(*DTYPES, torch.Tensor, torch.nn.Parameter, "no capsule")
    native.know(
        *DTYPES,
        torch.Tensor,
        torch.nn.Parameter,
        getattr(torch.Tensor, "__dlpack_c_exchange_api__", None),
    )


def test_a_tensor_without_memory_is_no_crash() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    table = Table([Place()], "cpu", backend="native")
    with FakeTensorMode():
        fake = torch.empty(3)
    with pytest.raises(Exception, match="data"):
        table.read(0, fake)


def test_wrong_calls_are_errors() -> None:
    native = extension()
    assert native is not None
    with pytest.raises(TypeError, match="expected 7 arguments, got 2"):
        native.read(1, 2)
    with pytest.raises(ValueError, match="unknown dtype 9"):
        native.read(0, 9, 0, 0, None, None, 1)
    with pytest.raises(ValueError, match="no level 'sse9'"):
        native.use("sse9")
    with pytest.raises(ValueError, match="sizes and strides"):
        native.read_strided(0, 0, (1, 2), (1,), 0, None, None, 1)


def test_a_fork_reads_too() -> None:
    """Workers of data loaders are forks of a process that has read with threads."""
    x = noise(1 << 22)
    row_of(NATIVE, x)
    if (child := os.fork()) == 0:
        os._exit(0 if row_of(NATIVE, x)[0].item() == 1 << 22 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
