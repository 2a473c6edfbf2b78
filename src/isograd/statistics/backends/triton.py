"""Triton: two kernels for any number of tensors on a GPU, and nothing that the host waits for."""

import importlib
import importlib.util
import math
from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor

from isograd.statistics._layout import flatten, in_memory_order, real
from isograd.statistics.backends._backend import Backend, Target
from isograd.statistics.columns import COLUMNS, FLAT, empty

_WARPS, _REGISTERS = 4, 96
# Of a program, and of each of its threads: five programs then fit where there is room for one.
_WIDTH, _HEIGHT = 4 * 32 * _WARPS, 8
# Columns of a tile, four for each thread, and rows: what a program holds at a time.
_TILES = 16
# Tiles of a piece, at the least: its row is then a hundredth of what is read, or less.
_PIECES = 4096
# Pieces of a tensor, at the most: several for each place on the largest GPUs.
_ROWS = 512
# Rows of pieces that are added at a time.
_FLAGS = 4096
# Entries whose units a program looks at.
_DTYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "int16",  # see the kernels
}


class Triton(Backend):
    """One pass at the speed of the GPU's memory, one launch for several tensors of a dtype."""

    code: ClassVar[str] = "triton"
    devices: ClassVar[frozenset[str]] = frozenset({"cuda", "xpu"})
    rank: ClassVar[int] = 1

    def missing(self) -> str | None:
        """Why triton is not there, or does not work on the GPU of this machine; None if it does."""
        slow = "statistics of tensors on a GPU take dozens of small kernels each, instead of two"
        if importlib.util.find_spec("triton") is None:
            return (
                f"not installed: {slow} for all. pip install triton, where there is one for the "
                "platform"
            )
        for device in self.devices:
            if torch.get_device_module(device).is_available():
                try:
                    self.read(torch.ones(1, device=device), Target(empty(1, device)[0]))
                except Exception as error:  # no compiler, an old driver, a GPU that is not known
                    told = (str(error).strip() or type(error).__name__).splitlines()[0]
                    return f"does not work here ({told}): {slow} for all"
        return None

    def read(self, x: Tensor, target: Target) -> None:
        """Adds the numbers of a tensor to a row, see `Backend.read`."""
        self.read_all([x], [target])

    def read_all(self, tensors: Sequence[Tensor], targets: Sequence[Target]) -> None:
        """The same for several tensors, one launch per dtype and pair of thresholds."""
        groups: dict[Any, list[tuple[Tensor, Target]]] = {}
        for x, target in zip(tensors, targets, strict=True):
            flat = flatten(x).resolve_neg().contiguous()
            if flat.numel():
                alike = (flat.dtype, flat.device, target.low, target.high, _aligned(flat))
                groups.setdefault(alike, []).append((flat, target))
            if target.flags is not None:
                _raise(x, target)
        for group in groups.values():
            _add(group)

    def gather(self, tensors: Sequence[Tensor], runs: int, run: int) -> Tensor | None:
        """Runs of several tensors, one launch per dtype, see `Backend.gather`."""
        flats = [flatten(x).resolve_neg().contiguous() for x in tensors]
        where = flats[0].device
        out = torch.empty(len(flats), runs * run, dtype=torch.float64, device=where)
        plans: dict[torch.dtype, array[int]] = {}
        for place, flat in enumerate(flats):
            if flat.device != where:
                return None
            plan = plans.setdefault(flat.dtype, array("q"))
            plan.extend((flat.data_ptr(), flat.numel(), place))
        with _on(where):
            for dtype, plan in plans.items():
                _kernels().gather[(len(plan) // 3,)](
                    _sent(plan, where), out, dtype=_entries(dtype), runs=runs, run=run
                )
        return out


def _add(group: list[tuple[Tensor, Target]]) -> None:
    """Adds flat tensors of one dtype and device to rows with the same thresholds."""
    import numpy as np

    kernels = _kernels()
    first, (_, low, high, _, _) = group[0]
    wide = first.dtype == torch.float64
    height = _HEIGHT * 4 // max(first.itemsize, 4)
    tile = height * _WIDTH
    # Pieces of one row are neighbours, also where several tensors are added to it.
    group.sort(key=lambda pair: pair[1].row.data_ptr())
    plan, ends = list[Any](), array("q")
    count = last = 0
    for flat, target in group:
        begin, entries, item = flat.data_ptr(), flat.numel(), flat.itemsize
        size = tile * max(_TILES, -(-entries // (tile * _PIECES)))
        starts = np.arange(0, entries, size)
        plan.append(np.stack([begin + starts * item, np.minimum(size, entries - starts)], 1))
        pieces = len(starts)
        if target.row.data_ptr() == last:
            ends[-1] += pieces
        else:
            last = target.row.data_ptr()
            ends.extend((last, count, pieces))
        count += pieces
    where = first.device
    rows = torch.empty(count, len(COLUMNS), dtype=torch.float64, device=where)
    with _on(where):
        kernels.pieces[(count,)](
            _sent(np.concatenate(plan), where),
            rows,
            *_thresholds(low, high),
            dtype=_entries(first.dtype),
            aligned=_aligned(first),
            ends=low is not None or high is not None,
            height=height,
            width=_WIDTH,
            num_warps=_WARPS,
            **({"maxnreg": _REGISTERS} if torch.version.cuda and not wide else {}),
        )
        kernels.totals[(len(ends) // 3,)](_sent(ends, where), rows, tile=_ROWS, num_warps=_WARPS)


def _aligned(flat: Tensor) -> bool:
    return flat.data_ptr() % (4 * flat.itemsize) == 0


def _raise(x: Tensor, target: Target) -> None:
    """Raises the flags of a tensor's units."""
    flags, axis = target.flags, target.axis
    if flags is None or not x.numel() or not x.dim() or x.shape[axis] != len(flags):
        return
    axis %= x.dim()
    x = real(x).resolve_neg()
    dense = in_memory_order(x, 0)
    if not dense.is_contiguous():
        x = dense = x.contiguous()
    flags.clamp_(min=FLAT)
    with _on(x.device):
        _kernels().flags[(-(-x.numel() // _FLAGS),)](
            dense.view(torch.int16) if dense.dtype == torch.bfloat16 else dense,
            flags,
            x.numel(),
            len(flags),
            x.stride(axis),
            *_thresholds(target.low, target.high),
            wide=x.dtype == torch.float64,
            tile=_FLAGS,
            num_warps=_WARPS,
        )


def _sent(numbers: Any, where: torch.device) -> Tensor:
    """Numbers on a device, without waiting for it: from memory that its own engine copies."""
    here = torch.frombuffer(numbers, dtype=torch.int64)
    return here if where.type == "cpu" else here.pin_memory().to(where, non_blocking=True)


def _thresholds(low: float | None, high: float | None) -> tuple[float, float]:
    return math.nan if low is None else low, math.nan if high is None else high


def _on(where: torch.device) -> AbstractContextManager[Any]:
    """Kernels are launched on the current device, which need not be that of the tensors."""
    return nullcontext() if where.type == "cpu" else torch.get_device_module(where).device(where)


def _entries(dtype: torch.dtype) -> Any:
    return getattr(importlib.import_module("triton.language"), _DTYPES[dtype])


@cache
def _kernels() -> ModuleType:
    return importlib.import_module("isograd.statistics.backends._kernels")
