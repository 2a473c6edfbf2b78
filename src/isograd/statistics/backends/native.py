"""Native: C++ with vector instructions, for tensors in the memory of the processor."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import ClassVar

import torch
from torch import Tensor

from isograd.errors import InputError
from isograd.statistics._extension import DTYPES, extension
from isograd.statistics._layout import real
from isograd.statistics.backends._backend import Backend, Target

_LARGE = 1 << 21
# Entries from which on several threads share a tensor, if torch has several.


class Native(Backend):
    """One pass at the speed of memory: float32 within a block, float64 across blocks."""

    code: ClassVar[str] = "native"
    devices: ClassVar[frozenset[str]] = frozenset({"cpu"})
    rank: ClassVar[int] = 1

    def missing(self) -> str | None:
        """Why the extension is not there; None if it is."""
        if extension() is None:
            return (
                "not built, for want of a C++ compiler: statistics of tensors on the CPU take "
                "about ten times as long. Install gcc or clang, then isograd again"
            )
        return None

    def reader(self, target: Target, /, *, part: bool = False) -> Callable[[Tensor], bool]:
        """Reads plain tensors of moderate size with next to no overhead, see `Backend.reader`."""
        row, low, high, flags, axis = target
        address, units = (0, 0) if flags is None else (flags.data_ptr(), len(flags))
        found: Callable[[Tensor], bool] = _native().reader(
            row.data_ptr(), low, high, address, units, axis, part
        )
        return found

    def read_each(
        self, readers: Sequence[Callable[[Tensor], bool]], tensors: Sequence[Tensor | None]
    ) -> list[int]:
        """All in one call, see `Backend.read_each`."""
        left: list[int] = _native().read_each(list(readers), list(tensors))
        return left

    def read(self, x: Tensor, target: Target) -> None:
        """Adds the numbers of a tensor to a row, see `Backend.read`."""
        row, low, high, flags, axis = target
        native = _native()
        dtype = DTYPES.get(x.dtype)
        if dtype is None or x.is_neg():
            if flags is not None and x.dim():
                axis %= x.dim()
            x = real(x).resolve_neg()
            dtype = DTYPES[x.dtype]
        entries = x.numel()
        if entries and not x.data_ptr():
            raise InputError(
                f"statistics: a {type(x).__name__} holds no memory that could be read; hand in the "
                "tensor that it stands for"
            )
        threads = 1 if entries < _LARGE else torch.get_num_threads()
        if x.is_contiguous():
            native.read(x.data_ptr(), dtype, entries, row.data_ptr(), low, high, threads)
        else:
            native.read_strided(
                x.data_ptr(), dtype, x.shape, x.stride(), row.data_ptr(), low, high, threads
            )
        if flags is not None and entries and x.dim() and x.shape[axis] == len(flags):
            native.raise_flags(
                x.data_ptr(),
                dtype,
                x.shape,
                x.stride(),
                axis % x.dim(),
                flags.data_ptr(),
                low,
                high,
            )


def _native() -> ModuleType:
    native = extension()
    assert native is not None, "missing() said so"
    return native
