"""What a prediction says of recurrent layers over time: how state and gradient change per step."""

from __future__ import annotations

import math

import numpy as np

from isograd.prediction.moments.axes import of_entries, weighed
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.pairs import Array
from isograd.prediction.recurrent.timeline import OVER_TIME
from isograd.records import Number

_KEYS = ("forward.time_steps", "forward.time_growth", "backward.time_decay")


def time_numbers(
    field: Field | None, axis: int | None, gradient: Field | None
) -> dict[str, Number]:
    """Numbers over time of a site.

    Args:
        field: of the layer's output.
        axis: of time; None for a site that is no recurrent layer.
        gradient: of the layer's input.
    """
    found: dict[str, Number] = dict.fromkeys(_KEYS)
    if axis is None or field is None or len(field.groups) != 3:
        return found
    found["forward.time_steps"] = float(field.shape[axis])
    found["forward.time_growth"] = _rate(_course(field, axis), 1)
    if gradient is not None and len(gradient.groups) == 3:
        found["backward.time_decay"] = _rate(_course(gradient, axis), -1)
    return found


def _course(field: Field, axis: int) -> tuple[Array, Array, Array]:
    """Steps, how many each stands for, and their energies; of one class all have the same."""
    if OVER_TIME in field.notes:
        at, weights, energies = field.notes[OVER_TIME]
        return at.astype(np.float64) + (weights - 1) / 2, weights, energies
    energy = field.energies
    for place in reversed(range(len(field.cuts))):
        cut = field.cuts[place]
        if place in field.factors_of(axis):
            energy = np.repeat(energy, cut, place)
        else:
            energy = weighed(energy, place, of_entries(cut))
    energy = energy.reshape(-1)
    return np.arange(len(energy), dtype=np.float64), np.ones(len(energy)), energy


def _rate(course: tuple[Array, Array, Array], sign: int) -> Number:
    """Least-squares slope of ln rms per step without the first quarter, as of a measurement."""
    at, weights, energies = course
    kept = (energies > 0) & np.isfinite(energies) & (at >= weights.sum() // 4)
    if kept.sum() < 3:
        return None
    t, y, w = at[kept], np.log(energies[kept]) / 2, weights[kept]
    t = t - np.average(t, weights=w)
    slope = sign * float((w * t) @ (y - np.average(y, weights=w))) / float((w * t) @ t)
    return slope if math.isfinite(slope) else None
