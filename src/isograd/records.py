"""What was seen in a network: sites, parameters, and plain numbers about them. No tensors."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Number = float | None
"""One statistic; `None` where it was not measured or has no meaning. May be inf or NaN."""


@dataclass(frozen=True, slots=True)
class Site:
    """One place in the network where a tensor is read: a module call or a traced operation."""

    name: str
    """Unique: `encoder.3.fc`, `fc#2` (second call of a shared module), `block.1:relu` (an op)."""
    kind: str
    """What it computes, a word of `isograd.sites.KINDS`: linear, conv, relu, batch_norm, add …"""
    label: str
    """What the user calls it: class name of the module, or name of the function."""
    depth: int
    """Weight layers passed so far, this one included; along the longest path."""
    shape: tuple[int, ...]
    """Shape of the output tensor, batch first as the model has it."""
    inputs: tuple[int, ...] = ()
    """Indices of the nearest sites upstream that feed it, in order of its arguments."""
    parameters: tuple[int, ...] = ()
    """Indices of the parameters used by it directly."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter tensor of the model."""

    name: str
    shape: tuple[int, ...]
    kind: str
    """linear, conv, recurrent (hidden to hidden), embedding: a weight; norm, bias or other."""
    trainable: bool = True
    """Whether it asks for a gradient."""

    @property
    def is_weight(self) -> bool:
        """Whether it multiplies a signal as a matrix or kernel."""
        return self.kind in ("linear", "conv", "recurrent")


@dataclass(frozen=True)
class Record:
    """All numbers of one look at a network, measured or predicted.

    `series` holds one column per key. A key that begins with `weight.` has one entry per
    parameter, every other key one entry per site. `docs/records.md` lists all keys with units.
    """

    sites: tuple[Site, ...]
    parameters: tuple[Parameter, ...] = ()
    series: Mapping[str, tuple[Number, ...]] = field(default_factory=dict)
    histograms: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    """Counts of binary exponents, one histogram per site: see `isograd.records.EXPONENTS`."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Numbers and words about the batch, the loss, the optimizer and the model as a whole."""
    notes: tuple[str, ...] = ()
    """What was chosen for the user, and what could not be measured and why."""
    source: str = "measured"
    """measured or predicted."""
    step: int = 0
    """Optimizer steps done before this look."""

    def __post_init__(self) -> None:
        for key, column in self.series.items():
            rows = self.parameters if key.startswith("weight.") else self.sites
            if len(column) != len(rows):
                raise ValueError(f"{key} has {len(column)} entries for {len(rows)} rows")

    def has(self, key: str) -> bool:
        """Whether the column exists and holds at least one number."""
        return any(value is not None for value in self.series.get(key, ()))

    def value(self, key: str, index: int) -> Number:
        """The entry of a column, `None` where the column is absent."""
        column = self.series.get(key)
        return None if column is None else column[index]

    def pairs(self, key: str) -> Iterator[tuple[int, float]]:
        """(index, number) for every entry of the column that is a finite number."""
        for index, number in enumerate(self.series.get(key, ())):
            if number is not None and math.isfinite(number):
                yield index, number

    def fact(self, key: str, default: Any = None) -> Any:
        """One fact, or `default` where it was not recorded."""
        return self.facts.get(key, default)

    def consumers(self, index: int) -> tuple[int, ...]:
        """Indices of the sites that read the output of this one."""
        return tuple(i for i, site in enumerate(self.sites) if index in site.inputs)

    def weight_sites(self) -> tuple[int, ...]:
        """Indices of the sites that are weight layers, in order of execution."""
        return tuple(i for i, site in enumerate(self.sites) if site.kind in WEIGHT_KINDS)


WEIGHT_KINDS = ("linear", "conv", "recurrent", "attention")
"""Kinds of sites that pass the signal through a weight matrix; the ones that count as depth."""

NONFINITE = {
    "forward.rms": "forward.nonfinite",
    "backward.rms": "backward.nonfinite",
    "weight.rms": "weight.nonfinite",
    "weight.grad_rms": "weight.grad_nonfinite",
}
"""Where the entries that are NaN or infinite are counted: a rms is of the others."""

EXPONENTS = range(-150, 129)
"""Bins of an exponent histogram: entry k counts values with 2^e <= |x| < 2^(e+1),
e = EXPONENTS[k]; exact zeros and non-finite values are not in it; values below 2^-150 are in
the first bin, above 2^128 in the last."""


@dataclass(frozen=True)
class Reading:
    """Everything the rules may look at."""

    seen: Record
    """The network as it stands, before any step of a rehearsal."""
    expected: Record | None = None
    """The same network by theory alone, where it was predicted."""
    history: Sequence[Record] = ()
    """Later looks, in order of their `step`; the last one holds the fact `rehearsal.losses`, in a
    watched run `watch.losses`."""

    @property
    def last(self) -> Record:
        """The latest look."""
        return self.history[-1] if self.history else self.seen


@dataclass(frozen=True)
class RunInfo:
    """What is known of a watched run when it begins."""

    name: str
    """What the user calls it."""
    path: str
    """Its run file; what else is written about it stands beside that file by default."""
    started: str
    """When: ISO 8601, UTC."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Plain values about model, optimizer, machine and how it is watched: `model.name`,
    `optimizer.lr`, `torch.version` …"""
