"""A family: an architecture at its usual initialization, and the batch it is looked at with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, nn

Inputs = Callable[[Generator], Any]
"""Draws a batch without targets: a tensor, or a dict of keyword arguments."""


@dataclass(frozen=True)
class Target:
    """Largest relative errors of rms, over the sites, that a prediction may have."""

    forward: tuple[float, float] = (0.01, 0.08)
    """Median and 90th percentile."""
    backward: tuple[float, float | None] = (0.05, 0.20)
    """Median and 90th percentile; `None` where none is set. For weight gradients too."""


PLAIN = Target()
NORMED = Target(backward=(0.10, None))
"""Batch norm, whose statistics fluctuate in a finite batch, and class-token readout."""
DENSE = Target(backward=(0.15, None))


@dataclass(frozen=True)
class Family:
    """One architecture. `build()` is the full size, `build(**small)` one that runs in no time."""

    build: Callable[..., nn.Module]
    inputs: Inputs
    small: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `build`."""
    small_inputs: Inputs | None = None
    """Batch for the small one; `None`: the same batch."""
    loss: Callable[[Any, Any], Any] | None = None
    """Of outputs and targets; `None`: random probes of every output."""
    seeds: int = 8
    """Draws of weights and batch that a measurement averages over."""
    target: Target = PLAIN
    note: str = ""
    """Widths, and what makes it special."""
    held_out: bool = False
    """Not among those that the prediction's rules were developed on."""

    def batch(self, seed: int) -> Any:
        """A batch of its own for every seed."""
        return self.inputs(torch.Generator().manual_seed(seed))


def gaussian(*shape: int) -> Inputs:
    """White noise of variance 1."""
    return lambda generator: torch.randn(*shape, generator=generator)


def images(batch: int, size: int, channels: int = 3) -> Inputs:
    """White noise images."""
    return gaussian(batch, channels, size, size)


def tokens(batch: int, length: int, words: int, *, first: int = 0) -> Inputs:
    """Uniformly random ids from `first` on, as the argument that transformers' models take."""
    shape = batch, length
    return lambda generator: {"input_ids": torch.randint(first, words, shape, generator=generator)}
