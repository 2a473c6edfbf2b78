"""Keys and values of one attention, made from the same features: their products go together.

The gradient of a query is a sum over keys, d q_i = sum_j ds_ij k_j, with ds_ij made of the values
v_j. Keys and values are linear in the same features x_j, so that two tokens whose features happen
to be alike have both alike keys and alike values: E[ds_ij ds_ij' k_j k_j'] holds the square of the
correlation of x_j and x_j', whose mean is not the square of its mean. In d features that gives
(1 + n / d) times the energy for n keys; the weights of the keys get it in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.functions.tokens import VALUES, unlikeness
from isograd.prediction.moments import pairs
from isograd.prediction.moments.fields import Field

if TYPE_CHECKING:
    from isograd.prediction.propagation import Propagation
    from isograd.prediction.steps import Step

KEYS, FEATURES = "gram keys", "gram features"
"""Notes of a product: (the factor that holds the keys, variance); variance alone."""
EVENNESS = "evenness"
"""Note of weights of attention: E[a_j a_j'] of two keys over E a_j^2 of one."""
_SPREAD = "spread"
_FAR = 40
_CHOSEN = frozenset("cat concat concatenate".split())


def attended(run: Propagation, weights: Field, values: Field) -> None:
    """Marks the products behind an attention, for their backward.

    Args:
        run: under way.
        weights: one factor of a product, maybe of attention.
        values: the other.
    """
    softmax = _back(run, weights, lambda step: step.name == "softmax")
    if softmax is None:
        return
    logits = _back(run, softmax.inputs[0], _is_product)
    made = _back(run, values, _has_weights)
    if logits is None or made is None or len(logits.inputs) < 2:
        return
    features = _features(made)
    for keys in logits.inputs[:2]:
        own = _back(run, keys, _has_weights)
        if own is None or _features(own) is not features or keys is logits.inputs[0]:
            continue
        evenness = softmax.outputs[0].notes.get(EVENNESS, 1.0)
        variance = (spread(run, features) + unlikeness(run, features)) * evenness
        logits.outputs[0].notes[KEYS] = keys, variance
        if own is not made:
            own.outputs[0].notes[FEATURES] = variance


def spread(run: Propagation, f: Field) -> float:
    """Variance of the correlation of two tokens over their features.

    One over their number, and as much again for each map by random weights before.
    """
    found = f.notes.get(_SPREAD)
    if found is None:
        found = f.notes[_SPREAD] = _spread(run, f)
    return float(found)


def _spread(run: Propagation, f: Field) -> float:
    size = f.shape[-1] if f.shape else 1
    step = run.twins.made.get(id(f))
    if VALUES in f.notes:
        return 0.0
    if step is None or not step.inputs:
        return 1 / size
    if step.name.startswith("conv") and len(step.inputs) > 1:
        kernel = step.inputs[1].shape
        return 1 / kernel[0] + 1 / max(int(np.prod(kernel[1:])), 1)
    kind = getattr(step.link, "kind", "")
    if _has_weights(step):
        return spread(run, _features(step)) + 1 / size
    if kind == "product" or f.nodes is not None or step.name == "embedding":
        return 1 / size
    if kind == "sum" and len(step.inputs) == 2:
        one, two = step.inputs
        share = one.energy / max(one.energy + two.energy, 1e-300)
        both = share**2 * spread(run, one) + (1 - share) ** 2 * spread(run, two)
        return both + 2 * share * (1 - share) / size
    if step.name in _CHOSEN:
        return spread(run, max(step.inputs, key=lambda one: np.prod(one.shape)))
    return spread(run, step.inputs[0])


def paired(g: Field, other: Field, place: int, there: int, variance: float) -> tuple[Field, Field]:
    """Factors whose contraction is what goes together, to be added to that of `g` and `other`.

    Args:
        g: gradient.
        other: keys or features.
        place: factor of the tokens that are summed over, in the gradient.
        there: the same in the other.
        variance: of the correlation of two of them.
    """
    cut = g.cuts[place]
    k = len(cut)
    first, second_of = pairs.ends(cut)
    number = pairs.counts(cut)
    inner = np.where((first == second_of) & (np.arange(len(first)) >= k), number, 0.0)
    apart = np.zeros((k, len(first)))  # per class the mean over different entries of it
    apart[first, range(len(first))] = inner
    lone = apart.sum(axis=1) == 0
    apart[lone, np.flatnonzero(lone)] = 1.0
    apart /= apart.sum(axis=1, keepdims=True)
    found = []
    for f, at, centered in ((g, place, False), (other, there, True)):
        rows = np.moveaxis(f.second, at, 0)
        same = rows[:k]
        if centered:
            same = same - np.tensordot(apart, rows, 1)
        one, two = same[first[k:]], same[second_of[k:]]
        across = np.where(one * two > 0, np.sign(one) * np.sqrt(np.abs(one * two)), 0.0)
        second = np.concatenate([np.zeros_like(same), across * np.sqrt(variance)])
        found.append(f.like(np.moveaxis(second, 0, at)))
    return found[0], found[1]


def _is_product(step: Step) -> bool:
    return getattr(step.link, "kind", "") == "product"


def _has_weights(step: Step) -> bool:
    return _is_product(step) and any("draw" in one.notes for one in step.inputs[:2])


def _features(step: Step) -> Field:
    """The factor of a weight layer that is no weight."""
    return next((one for one in step.inputs[:2] if "draw" not in one.notes), step.inputs[0])


def _back(run: Propagation, f: Field, wanted: object) -> Step | None:
    """The step nearest before a field that is as wanted; through first inputs."""
    assert callable(wanted)
    for _ in range(_FAR):
        step = run.twins.made.get(id(f))
        if step is None:
            return None
        if wanted(step):
            return step
        if not step.inputs or _is_product(step):
            return None
        f = step.inputs[0]
    return None
