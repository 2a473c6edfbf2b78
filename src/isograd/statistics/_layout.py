"""Tensors laid out for a fast pass: flat or one row per sample, in memory order where possible."""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from isograd.errors import InputError


def local(x: Tensor) -> Tensor:
    """The shard that this process holds of a distributed tensor; other tensors unchanged."""
    if type(x) in (Tensor, Parameter):
        return x
    shard: Any = x.to_local() if hasattr(x, "to_local") else x
    # A result that is on its way between processes is no memory yet.
    arrived: Tensor = shard.wait() if type(shard).__name__ == "AsyncCollectiveTensor" else shard
    return arrived


def real(x: Tensor) -> Tensor:
    """The tensor without its graph, complex entries as a last axis of two; of shards the own one.

    Raises:
        InputError: the tensor holds integers or booleans.
    """
    x = local(x.detach())
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj())
    if not x.is_floating_point():
        raise InputError(
            f"statistics of a {x.dtype} tensor of shape {tuple(x.shape)}: only floating-point and "
            "complex tensors carry a signal; convert it with .float() or leave it out"
        )
    if x.itemsize < 2:
        x = x.float()  # torch has next to no arithmetic in 8-bit formats
    # Apple's devices have no float64, in which everything is accumulated.
    return x.cpu() if x.device.type == "mps" else x


def flatten(x: Tensor) -> Tensor:
    """All entries as one axis, in the order of memory: a view wherever the entries are dense."""
    x = real(x)
    return (x if x.is_contiguous() else in_memory_order(x, 0)).reshape(-1)


def rows(x: Tensor) -> Tensor:
    """[samples, features]: axis 0 stays, the others are one, in the order of memory."""
    x = real(x)
    if not x.dim():
        x = x.reshape(1)
    if not x.is_contiguous():
        x = in_memory_order(x, 1)
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def working_dtype(x: Tensor) -> torch.dtype:
    """float64 for float64, otherwise float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def thin(x: Tensor, at_most: int) -> Tensor:
    """At most so many entries, evenly strided through all axes; a view where they are dense."""
    flat = flatten(x)
    return flat[:: stride_for(len(flat), at_most)] if len(flat) > at_most else flat


LARGE = 1 << 17
"""Entries from which on a tensor counts as large."""

_RUNS, _RUN = 128, 32
"""`part` keeps so many runs of so many entries: 2^12, which tell an rms to within 1.1 percent (one
sd, Gaussian)."""


def part(x: Tensor) -> Tensor:
    """Short runs of a large tensor, spread over all of it: 2^12 entries.

    Runs, because memory is read in lines: single entries would cost several times as much. Short
    ones, because samples, channels and rows differ in size: the more of them are met, the better.
    """
    return x if x.numel() < LARGE else spread_runs(flatten(x), _RUNS, _RUN)


GOLDEN = 0x9E3779B1  # 2^32 times the golden ratio's fraction


def spread_runs(flat: Tensor, runs: int, run: int) -> Tensor:
    """[runs * run]: of each even share of a vector one run, at a place that the golden ratio tells.

    At even distances all of them could be of the same few columns: those of a 512 x 512 weight
    would be. Multiples of the golden ratio fall everywhere, in whatever the entries are laid out.
    """
    return flat.index_select(0, _places(flat.numel(), runs, run, flat.device))


@lru_cache(maxsize=256)
def _places(entries: int, runs: int, run: int, device: torch.device) -> Tensor:
    share = (entries - run) // runs
    starts = [k * share + ((k * GOLDEN % 2**32) * share >> 32) for k in range(runs)]
    return (torch.tensor(starts)[:, None] + torch.arange(run)).flatten().to(device)


def stride_for(count: int, at_most: int) -> int:
    """Smallest step that takes at most `at_most` of `count` entries and meets no pattern in them.

    It has no factor in common with `count`, so that in a tensor of any shape every index of every
    axis is met equally often: a step of 64 through 64 channels would see one channel only.
    """
    step = -(-count // at_most)
    while math.gcd(step, count) > 1:
        step += 1
    return step


def in_memory_order(x: Tensor, first: int) -> Tensor:
    strides = x.stride()
    later = sorted(range(first, x.dim()), key=lambda axis: -strides[axis])
    return x.permute(*range(first), *later)
