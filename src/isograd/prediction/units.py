"""What a prediction says of the units of a rectifier: how many are off, at times and always."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial.hermite_e import hermegauss

from isograd.prediction.moments import pairs
from isograd.prediction.moments.axes import of_entries, of_others, weighed
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.pairs import Array
from isograd.records import Number, Site

if TYPE_CHECKING:
    from isograd.prediction.steps import Step

_NODES, _WEIGHTS = hermegauss(96)


def unit_numbers(
    site: Site, axis: int, field: Field | None, maker: Step | None
) -> dict[str, Number]:
    """Numbers `forward.units`, `forward.zero` and `forward.dead` of a site.

    Args:
        site: the site.
        axis: of the units.
        field: of its output.
        maker: the operation that gave the field.
    """
    units = float(site.shape[axis]) if len(site.shape) > 1 else None
    found: dict[str, Number] = {"forward.units": units, "forward.zero": None, "forward.dead": None}
    if site.kind != "relu" or field is None or maker is None or not maker.inputs:
        return found
    if field.nodes is not None:
        off = field.nodes.expectation((field.nodes.values == 0).astype(np.float64))
        found["forward.zero"] = float(np.average(off, weights=_sizes(field.cuts)))
    before = maker.inputs[0]
    # Only of a nearly Gaussian input is its sign known from two moments.
    if units and before.shape == field.shape and (before.nodes is None or before.affine):
        found["forward.dead"] = _dead(before, axis)
    return found


def _sizes(cuts: Iterable[pairs.Sizes]) -> Array:
    """Entries of each class of some factors."""
    sizes = np.ones(())
    for cut in cuts:
        sizes = np.multiply.outer(sizes, np.array(cut, dtype=np.float64))
    return sizes


def _dead(field: Field, axis: int) -> Number:
    """Share of units that are not positive for any sample or position.

    A unit's entries are m + sqrt(c) u + sqrt(v - c) e with c what two of its samples share, so
    that all n are off with probability E_u[Phi(-(m + sqrt(c) u) / sqrt(v - c))^n].
    """
    if not field.groups or not field.groups[0]:
        return None
    own = field.factors_of(axis)
    common, energy, mean = field.second, field.energies, field.mean
    for place in reversed(range(len(field.cuts))):
        cut = field.cuts[place]
        if place in own:
            common = common.take(range(len(cut)), place)
            continue
        weights = pairs.shares(cut)
        if place in field.factors_of(0):
            weights = of_others(cut)
        common = weighed(common, place, weights)
        share = of_entries(cut)
        energy, mean = (weighed(one, place, share) for one in (energy, mean))
    entries = math.prod(field.shape) / math.prod(field.sizes[place] for place in own)
    total = np.maximum(energy - np.square(mean), 1e-300)
    shared = np.clip(common - np.square(mean), 0.0, total)
    alone = np.sqrt(np.maximum(total - shared, 1e-12 * total))
    z = (mean[..., None] + np.sqrt(shared)[..., None] * _NODES) / alone[..., None]
    off = (0.5 * _erfc(z / math.sqrt(2))) ** entries
    dead = off @ (_WEIGHTS / _WEIGHTS.sum())
    return float(np.average(dead, weights=_sizes([field.cuts[place] for place in own])))


_erfc = np.vectorize(math.erfc, otypes=[np.float64])
