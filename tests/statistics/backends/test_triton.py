"""The Triton backend: on a GPU where there is one, else interpreted on the CPU, see conftest."""

import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from witness import FLOATS, LARGE, THRESHOLDS, agree, check, expected, expected_flags, tensors

from isograd.statistics import Place, Table, unscale
from isograd.statistics.backends import BACKENDS, Target
from isograd.statistics.backends.triton import _add
from isograd.statistics.columns import empty
from isograd.statistics.moves import RUN, SAMPLE, sample

TRITON = BACKENDS["triton"]
WHERE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = [
    pytest.mark.skipif(TRITON.missing() is not None, reason="triton is not installed"),
    # Interpreted, it is numpy that adds infinities up, and says so.
    pytest.mark.filterwarnings("ignore:(invalid|overflow) .*:RuntimeWarning"),
]

COMPILING = """
import triton
from triton import language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from isograd.statistics.backends import _kernels as kernels
from isograd.statistics.backends import triton as ours

DTYPES = [(name, name == "float64") for name in ours._DTYPES.values()]
POINTERS = {"float32": "*fp32", "float64": "*fp64", "float16": "*fp16", "int16": "*i16"}


def binary(kernel, runtime, fixed, **options):
    signature = dict.fromkeys(kernel.arg_names, "constexpr") | runtime
    source = ASTSource(kernel, signature, fixed)
    options["num_warps"] = ours._WARPS
    made = triton.compile(source, GPUTarget("cuda", 80, 32), options)
    print([*made.asm][-1])


BOUNDS = {"low": "fp32", "high": "fp32"}
for name, wide in DTYPES:
    size = {"height": ours._HEIGHT // (1 + wide), "width": ours._WIDTH}
    fixed = {"dtype": getattr(tl, name), "aligned": True, "ends": True, **size}
    most = {} if wide else {"maxnreg": ours._REGISTERS}
    binary(kernels.pieces, {"plan": "*i64", "rows": "*fp64", **BOUNDS}, fixed, **most)
    sizes = dict.fromkeys(("entries", "units", "stride"), "i32")
    runtime = {"x": POINTERS[name], "raised": "*u8", **sizes, **BOUNDS}
    binary(kernels.flags, runtime, {"wide": wide, "tile": ours._FLAGS})
binary(kernels.totals, {"plan": "*i64", "rows": "*fp64"}, {"tile": ours._ROWS})
"""


@settings(max_examples=30, deadline=None)
@given(x=tensors(), low=THRESHOLDS, high=THRESHOLDS)
def test_any_tensor(x: Tensor, low: float | None, high: float | None) -> None:
    check(TRITON, x.to(WHERE), low, high)


@settings(max_examples=20, deadline=None)
@given(x=tensors(), low=THRESHOLDS, high=THRESHOLDS, axis=st.integers(-4, 3))
def test_flags(x: Tensor, low: float | None, high: float | None, axis: int) -> None:
    if not -x.dim() <= axis < x.dim() or not x.numel():
        return
    flags = torch.zeros(x.shape[axis], dtype=torch.uint8, device=WHERE)
    TRITON.read(x.to(WHERE), Target(empty(1, WHERE)[0], low, high, flags, axis))
    assert flags.tolist() == expected_flags(x, axis, low, high)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_many_pieces(make, dtype: torch.dtype) -> None:
    check(TRITON, make().to(dtype).to(WHERE), -0.5, 0.5)


@pytest.mark.parametrize("low", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("high", [-1.0, 0.0, 1.0])
def test_what_is_not_finite_lies_beyond_no_threshold(low: float, high: float) -> None:
    x = torch.randn(20_001, generator=torch.Generator().manual_seed(1))
    x[5], x[9_000], x[9_001], x[20_000] = math.nan, math.inf, 0.0, -math.inf
    check(TRITON, x.to(WHERE), low, high)
    check(TRITON, x[1:].to(WHERE), low, high)  # whose address is odd


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e-12, 1e12, 1e30, 1e38])
def test_no_power_leaves_the_range(size: float) -> None:
    x = torch.randn(9_001, generator=torch.Generator().manual_seed(1)).clamp(-3, 3) * size
    check(TRITON, x.to(WHERE))


@pytest.mark.parametrize("dtype", FLOATS)
def test_smallest_and_largest_numbers(dtype: torch.dtype) -> None:
    info = torch.finfo(dtype)
    for value in (info.smallest_normal * info.eps, info.smallest_normal, info.max):
        check(TRITON, torch.tensor([value, -value, value, 0.0, -0.0], dtype=dtype, device=WHERE))


def test_several_tensors_at_once_are_two_launches_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of different dtypes and thresholds, two of them into one row."""
    launched = []
    monkeypatch.setattr(
        "isograd.statistics.backends.triton._add", lambda g: (launched.append(len(g)), _add(g))
    )
    generator = torch.Generator().manual_seed(3)
    given = [torch.randn(n, generator=generator) for n in (70_001, 3, 0, 5_000, 70_000)]
    given[3] = given[3].double() * 1e-250
    given[4][::7] = math.nan
    rows = [0, 1, 2, 3, 1]
    places = [Place(), Place(), Place(), Place(0.0), Place()]
    table = Table(places, WHERE, backend="triton")
    truth = Table(places, "cpu", backend="reference")
    for one in (table, truth):
        one.read_all(rows, [x.to(one.device) for x in given])
        one.read(0, torch.ones(7, device=one.device))
    assert launched == [3, 1, 1]
    for seen, exact in zip(
        unscale(table.values).tolist(), unscale(truth.values).tolist(), strict=True
    ):
        for place, (one, other) in enumerate(zip(seen, exact, strict=True)):
            size = exact[6] if place == 4 else abs(other)
            assert one == other or abs(one - other) <= 1e-6 * size, place


def test_the_kernels_compile(tmp_path: Path) -> None:
    """For a real GPU, which none of it needs: interpreted, much passes that no compiler takes."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILING], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["cubin"] * 9


def test_what_does_not_run_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("Failed to find C compiler\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("isograd.statistics.backends.triton.empty", fails)
    monkeypatch.setattr("isograd.statistics.backends.triton.torch.ones", lambda *_, **__: None)
    assert "does not work here (Failed to find C compiler): " in str(TRITON.missing())


def test_runs_of_several_tensors_are_those_of_each() -> None:
    generator = torch.Generator().manual_seed(5)
    given = [torch.randn(n, generator=generator) for n in (200_003, 3, 1024, 1025, 0)]
    given.insert(1, torch.randn(70, 90, generator=generator).bfloat16())
    given.append(torch.randn(99, 33, generator=generator).double().T)
    rows = TRITON.gather([x.to(WHERE) for x in given], SAMPLE // RUN, RUN)
    assert rows is not None
    for row, x in zip(rows.cpu(), given, strict=True):
        expected = sample(x).flatten().double()
        assert torch.equal(row[: len(expected)], expected)
        assert not row[len(expected) :].any()


def test_a_slice_of_units() -> None:
    x = torch.randn(7, 11, 5, generator=torch.Generator().manual_seed(4))[:, 2:9, 1:4]
    x[:, 3] = -1.0
    flags = torch.zeros(7, dtype=torch.uint8, device=WHERE)
    row = empty(1, WHERE)[0]
    TRITON.read(x.to(WHERE), Target(row, 0.0, None, flags, 1))
    agree(row.cpu(), expected(x, 0.0), relative=1e-6)
    assert flags.tolist() == [2, 2, 2, 1, 2, 2, 2]


@pytest.mark.skipif(WHERE == "cpu", reason="needs a GPU")
def test_the_host_waits_for_nothing() -> None:
    table = Table([Place(0.0, units=5)] * 2, "cuda", backend="triton")
    x = torch.randn(7, 5, device="cuda")
    table.read_all([0, 1], [x, x.bfloat16()])  # compiles
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls the mode a prototype
            torch.cuda.set_sync_debug_mode("error")
        table.read(0, x)
        table.read_all([0, 1], [x, x.bfloat16()])
        table.dead()
        table.clear()
    finally:
        torch.cuda.set_sync_debug_mode("default")
