"""The sheet: what the first look tells of the places that later looks read."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from isograd.records import Number, Parameter, Record, Site
from isograd.sites import ACTIVATIONS, RECTIFIERS
from isograd.statistics import Place

FIXED = (
    "forward.units forward.slope_theory forward.band backward.band weight.fan_in weight.fan_out "
    "weight.gain_fit weight.gain_slope"
).split()
"""Columns that stay as the first look has them."""

_FLAT: dict[str, tuple[float | None, float | None]] = {
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "elu": (-0.95, None),
    "celu": (-0.95, None),
    "selu": (-1.6701884, None),
    "softplus": (0.0512933, None),
    "logsigmoid": (None, -0.0512933),
    "sigmoid": (0.0126604, 0.9873396),
    "tanh": (-0.9746794, 0.9746794),
    "hardtanh": (-1.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "softsign": (-0.7763932, 0.7763932),
}
"""Outputs at and beyond which the derivative is below 5 % of its largest value, from the derivative
as a function of the output: y(1 - y) for the sigmoid, 1 - y^2 for tanh, y + 1 for ELU, y + 1.7581
against 1.7581 for SELU, 1 - e^-y for softplus, (1 - |y|)^2 for softsign."""

_EXACT = RECTIFIERS | {"hardtanh", "hardsigmoid"}
"""Kinds whose derivative is exactly zero there, so that a unit can be dead."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a row is read: the k-th call of a module, or of an operation in a module's own code."""

    module: str
    """Path of the module."""
    call: int
    """Which one of its calls within one forward of the model, from 0."""
    op: str = ""
    """Name of the operation; empty: the module's output."""


@dataclass(frozen=True)
class Sheet:
    """Places, in the order of the rows."""

    sites: tuple[Site, ...]
    parameters: tuple[Parameter, ...]
    spots: tuple[Spot | None, ...]
    """None: a site that later looks cannot find again."""
    channels: tuple[bool, ...]
    """Whether units are on axis 1."""
    fixed: Mapping[str, tuple[Number, ...]] = field(default_factory=dict)

    @cached_property
    def places(self) -> list[Place]:
        """What is asked of each site's output."""
        found = []
        for site, channels in zip(self.sites, self.channels, strict=True):
            low, high = _FLAT.get(site.kind, (None, None))
            units = 0
            if site.kind in _EXACT and site.kind in _FLAT and len(site.shape) > 1:
                units = site.shape[1 if channels else -1]
            found.append(Place(low, high, units, 1 if channels else -1))
        return found

    @cached_property
    def told(self) -> list[bool]:
        """Whether the share of saturated entries can be told from outputs, per site."""
        return [place.low is not None or place.high is not None for place in self.places]

    @cached_property
    def told_apart(self) -> list[int]:
        """Sites whose units are told apart."""
        return [row for row, place in enumerate(self.places) if place.units]

    @cached_property
    def starts(self) -> list[int]:
        """Where the flags of each of them begin."""
        units = [self.places[row].units for row in self.told_apart]
        return [0, *itertools.accumulate(units)][:-1]

    def samples(self, row: int) -> bool:
        """Whether its samples are compared: not where they are as far apart as those before."""
        site = self.sites[row]
        passing = site.kind in ACTIVATIONS | {"dropout", "pool", "softmax", "log_softmax"}
        return not passing and len(site.shape) > 1 and site.shape[0] > 1


def sheet_of(record: Record, spots: list[Spot | None], channels: list[bool]) -> Sheet:
    """The sheet of what the first look saw."""
    fixed = {key: record.series[key] for key in FIXED if key in record.series}
    return Sheet(record.sites, record.parameters, tuple(spots), tuple(channels), fixed)
