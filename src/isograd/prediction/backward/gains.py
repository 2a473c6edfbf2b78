"""Gains: how the scale of a gradient follows the powers of what it is the gradient of.

A sample of larger power has other slopes in every layer, and its gradient gathers them: E g^2 f'^2
is (1 + Cov) times the product of both. The causes are those of
`isograd.prediction.functions.powers`. Behind a layer of few inputs an entry itself is such a cause:
of v = sum of N products w x the gradient f'(v)^2 grows with x^2, by kurtosis / (N + kurtosis - 1)
of what it does with v^2.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from isograd.prediction.functions.gaussian import Nodes
from isograd.prediction.functions.powers import (
    Filter,
    Loadings,
    Powers,
    common,
    noted,
    powers_of,
    scaled,
    summed,
)
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.pairs import Array

_LEAST = 1e-3
"""Part of a gradient's energy below which a correction does not matter."""
GAIN = "gain"
"""Note of a gradient."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What the scale of a gradient goes with."""

    samples: Loadings = field(default_factory=dict)
    """Causes common to all entries of a sample, with loadings."""
    places: Loadings = field(default_factory=dict)
    """Causes common to all channels at one place of a sample."""
    slope: float = 0.0
    """d ln E g^2 / d ln v^2 of the entry v that it belongs to."""


def gain_of(gradient: Field) -> Gain:
    """That of a gradient."""
    found: Gain = gradient.notes.get(GAIN, _NONE)
    return found


_NONE = Gain()


def shared(gain: Gain, of: Powers, factor: float = 1.0) -> tuple[float, float]:
    """Cov of the scales of a gradient and of something else, of one (sample, place)."""
    sample = sum(one * of.samples.get(cause, 0.0) for cause, one in gain.samples.items())
    place = sum(one * of.places.get(cause, 0.0) for cause, one in gain.places.items())
    return factor * sample, factor * (sample + place)


def with_slopes(
    result: Field, gradient: Field, origin: Field, nodes: Nodes, keys: tuple[str, ...] = ()
) -> None:
    """Corrects the gradient of f(u) at u for what f'(u) and the gradient have in common.

    Args:
        result: the gradient at u, as if they were independent.
        gradient: the gradient at f.
        origin: u.
        nodes: f.
        keys: notes of the result that are corrected alike.
    """
    gain = gain_of(gradient)
    if not noted(origin) and not gain.slope and not gain.samples:
        return
    of = powers_of(origin)[0]
    square = np.square(nodes.slopes)
    whole = np.maximum(nodes.expectation(square), 1e-300)
    stiffness = float((_scaling(nodes, square) / whole).mean())
    sample, place = shared(gain, of, stiffness)
    entry = 0.0
    if gain.slope:
        away = np.square(nodes.values - nodes.expectation(nodes.values)[..., None])
        size = np.maximum(nodes.expectation(away), 1e-300)
        entry = gain.slope * float((nodes.expectation(away * square) / size / whole - 1).mean())
    corrected(result, sample, place, of.reach, entry, keys)
    result.notes[GAIN] = Gain(
        summed(gain.samples, scaled(of.samples, stiffness)),
        summed(gain.places, scaled(of.places, stiffness)),
        stiffness,
    )


def _scaling(nodes: Nodes, values: Array) -> Array:
    """The rate d E h(sqrt(s) u) / ds at s = 1, of values of h at the nodes."""
    quadrature = nodes.quadrature
    if quadrature.correlation is None:
        z, away = quadrature.z, quadrature.mean / np.maximum(quadrature.deviation, 1e-300)
        return nodes.expectation(values * (np.square(z) - 1 + away[..., None] * z)) / 2
    rate = np.diff(values) / np.maximum(np.diff(quadrature.x), 1e-300)
    middle = (quadrature.x * quadrature.weights)[..., 1:]
    return np.asarray((middle * rate).sum(-1)) / 2


def corrected(
    result: Field, sample: float, place: float, reach: float, entry: float = 0.0,
    keys: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """Multiplies pairs of one sample, of one place and entries by 1 + something."""
    if max(abs(sample), abs(place), abs(entry)) < _LEAST:
        return
    factor = 1 + common(result, sample, place, reach)
    factor[tuple(slice(0, len(cut)) for cut in result.cuts)] += entry
    result.second = result.second * factor
    for key in keys:
        if key in result.notes and result.notes[key].cuts == result.cuts:
            note = result.notes[key]
            result.notes[key] = note.like(note.second * factor)


def hand_back(result: Field, gradient: Field) -> None:
    """Through what leaves scales alone."""
    if GAIN in gradient.notes:
        result.notes[GAIN] = gradient.notes[GAIN]


def through_weights(result: Field, gradient: Field, of: Filter, read: Powers) -> None:
    """Back through a convolution.

    Args:
        result: the gradient at its input.
        gradient: that at its output.
        of: what an output reads.
        read: the powers of the input.
    """
    gain = gain_of(gradient)
    if gain is not _NONE:
        share = of.kurtosis / (of.number + of.kurtosis - 1)
        places = of.smoothed(gain.places, read.reaches)
        result.notes[GAIN] = Gain(gain.samples, places, gain.slope * share)


def times(result: Field, gradient: Field, factor: Field, shape: tuple[int, ...]) -> None:
    """Of a gradient times the other factor of a product, at a factor of that shape."""
    gain = gain_of(gradient)
    if gain is _NONE and not noted(factor):
        return
    of = powers_of(factor)[0]
    alone = factor.shape[2:] != gradient.shape[2:]
    if alone:
        of = Powers(summed(of.samples, of.places), kurtosis=of.kurtosis)
    sample, place = shared(gain, of)
    same = shape[2:] == gradient.shape[2:]
    corrected(result, sample, place if same else sample, of.reach)
    samples, places = summed(gain.samples, of.samples), summed(gain.places, of.places)
    result.notes[GAIN] = Gain(samples, places if same else {})


def add(result: Field, first: Field, second: Field, share: float) -> None:
    """Of a sum of two gradients, of which the first has that share of the energy."""
    one, two, rest = gain_of(first), gain_of(second), 1 - share
    if one is not _NONE or two is not _NONE:
        result.notes[GAIN] = Gain(
            summed(scaled(one.samples, share), scaled(two.samples, rest)),
            summed(scaled(one.places, share), scaled(two.places, rest)),
            share * one.slope + rest * two.slope,
        )


def weighing(gradient: Field, x: Field) -> Field:
    """The gradient that meets x in the gradient of weights: pairs of one sample go together."""
    gain = gain_of(gradient)
    if gain is _NONE or not noted(x):
        return gradient
    of = powers_of(x)[0]
    sample, place = shared(gain, of)
    if max(abs(sample), abs(place)) < _LEAST:
        return gradient
    result = gradient.like(gradient.second)
    result.notes = gradient.notes
    corrected(result, sample, place, of.reach)
    return result


def without_places(result: Field, gradient: Field) -> None:
    """Back through means over places."""
    gain = gain_of(gradient)
    if gain is not _NONE:
        result.notes[GAIN] = replace(gain, places={}, slope=0.0)
