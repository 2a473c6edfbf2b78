"""Losses entry by entry with known targets: binary cross-entropy, absolute and Huber's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import empirical
from isograd.prediction.ops import Outcome
from isograd.prediction.ops.elementwise import as_nodes, evaluated
from isograd.prediction.ops.losses import array, finished

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array
    from isograd.prediction.propagation import Call

_TERMS = 10
"""Of Hermite series of a loss and its slope."""
_LEVELS = 64
"""Distinct targets at which such a series is computed; between them it is interpolated."""
_ENTRIES = 500_000
"""Targets that are looked at; of more, a part of the batch."""


def loss(call: Call, x: Field, target: Tensor, given: dict[str, Any]) -> Outcome:
    """Hermite series of value and slope at every target.

    The slope is that by the nearly Gaussian field of which `x` is a function, which then gets
    the gradient; `x` is told of its own.

    Args:
        call: under way.
        x: the output.
        target: known.
        given: arguments by name.
    """
    cuts = tuple((size,) for size in x.sizes)
    origin = x.origin if x.origin is not None and x.nodes is not None else x
    if x.nodes is not None and x.cuts != cuts:
        origin = x  # several classes: taken as Gaussian itself
    base = origin.recut(cuts)
    _, values, slopes, quadrature = as_nodes(x if origin is not x else base)
    weights = quadrature.weights.reshape(-1)
    known = np.broadcast_to(array(target), x.shape).reshape(x.sizes)
    if known.size > _ENTRIES:
        known = known[: max(2, len(known) * _ENTRIES // known.size)]
    reading = _Reading(
        _grid(known), known, _weights(call, given, x, len(known) if known.ndim else 0), base,
        quadrature.basis.reshape(len(weights), -1)[:, :_TERMS], weights,
    )  # fmt: skip
    wide = np.broadcast_to(values.reshape(1, -1), (len(reading.grid), len(weights)))
    goals = np.broadcast_to(reading.grid[:, None], wide.shape)
    function = partial(_at_targets, call.function, given)
    found, own, _ = evaluated(function, np.ascontiguousarray(wide), np.ascontiguousarray(goals))
    mean, second = reading.moments(found)
    each = base.like(second, np.full_like(base.mean, mean))
    by_origin = own * slopes.reshape(1, -1)
    slope = base.like(reading.moments(by_origin)[1])
    total = float(prod(x.shape))
    done = finished(origin, each, slope, given, total, [x], reading.rate(by_origin) ** 2)
    if x is origin:
        return done
    direct = finished(x, each, base.like(reading.moments(own)[1]), given, total, [x])

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        assert done.back is not None
        assert direct.back is not None
        for where, one in direct.back(gradient):
            call.run.arrive(where, one, passed_on=True)
        return list(done.back(gradient))

    return Outcome(done.out, back, [x], formula=done.formula)


@dataclass(frozen=True, slots=True)
class _Reading:
    """Pairs of entries of a function of output and target."""

    grid: Array
    """Targets at which the function is known, rising."""
    targets: Array
    """All of them, one axis a factor of the output."""
    table: Array
    """Their weights."""
    base: Field
    """The Gaussian field behind the output."""
    basis: Array
    """(nodes, terms): weighted Hermite polynomials."""
    weights: Array
    """(nodes,)."""

    def moments(self, values: Array) -> tuple[float, Array]:
        """(mean, E f f' per kind of pair) from (targets of the grid, nodes)."""
        base, terms = self.base, values @ self.basis
        square = np.square(values) @ self.weights
        variance = self.deviation**2
        rho = np.zeros_like(base.second)
        if variance > 0:
            rho = np.clip((base.second - base.products()) / variance, -1.0, 1.0)
        total, power, mean = np.zeros_like(rho), np.ones_like(rho), 0.0
        cuts = tuple((size,) for size in self.targets.shape)
        for k in range(terms.shape[1]):
            entries = self._entries(terms[:, k])
            mean = mean if k else float(entries.mean())
            if np.abs(entries).max() > 0:
                total += power * empirical(entries, cuts).second
            power = power * rho
        own = np.square(self.table) * np.interp(self.targets, self.grid, square)
        total[(0,) * total.ndim] = float(own.mean())
        return mean, total

    def rate(self, values: Array) -> float:
        """E df/du over all entries and targets, which is E f z over the deviation of u."""
        deviation = self.deviation
        if deviation <= 0:
            return 0.0
        return float(self._entries((values @ self.basis)[:, 1]).mean()) / deviation

    @property
    def deviation(self) -> float:
        """Of the field."""
        variance = np.maximum(self.base.energies - np.square(self.base.mean), 0.0)
        return float(np.sqrt(variance.reshape(-1)[0]))

    def _entries(self, column: Array) -> Array:
        return np.asarray(self.table * np.interp(self.targets, self.grid, column))


def _grid(targets: Array) -> Array:
    """Targets at which a series is computed."""
    levels = np.unique(targets)
    if len(levels) > _LEVELS:
        levels = np.unique(np.quantile(levels, np.linspace(0, 1, _LEVELS)))
    return levels


def _weights(call: Call, given: dict[str, Any], x: Field, part: int) -> Array:
    """Weights of the entries that are looked at."""
    weight = given.get("weight")
    if not isinstance(weight, Tensor) or not call.known(weight):
        return np.ones(())
    wide = np.broadcast_to(array(weight), x.shape).reshape(x.sizes)
    return np.asarray(wide[:part] if part else wide)


def _at_targets(function: Any, given: dict[str, Any], x: Tensor, target: Tensor) -> Tensor:
    rest = {k: v for k, v in given.items() if k not in ("reduction", "weight")}
    if isinstance(rest.get("pos_weight"), Tensor):
        rest["pos_weight"] = rest["pos_weight"].detach().double().mean()
    found: Tensor = function(x, target.detach(), reduction="none", **rest)
    return found
