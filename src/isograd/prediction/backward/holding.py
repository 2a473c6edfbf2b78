"""Gradients that hold another output of the weights that they come to.

Where a loss compares outputs of one layer (z z', cosines, distances of two branches), the gradient
of one of them is a sum over others, W z with z their inputs. W' W z is no W' g of an independent g:
it is n v z and a random rest, v the variance of the weights, n outputs, m inputs, which together is
1 + n / m times the energy. The part that is z holds outputs of the layer before, which are gated by
its function alike: E[f(u)^2 f'(u')^2] of two entries that have something in common, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.backward.links import Link
from isograd.prediction.backward.noise import LIKE
from isograd.prediction.moments import pairs
from isograd.prediction.moments.axes import of_others, weighed
from isograd.prediction.moments.known import sign_of

if TYPE_CHECKING:
    from isograd.prediction.backward.twins import Twins
    from isograd.prediction.functions.gaussian import Nodes
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.steps import Step

DIVIDED = "divided"
"""Note of a gradient that a norm has divided by the deviation of what it is the gradient of."""
TURNED = "turned"
"""Note of a gradient: (draw, axis of the weights that was summed over, share) if it is W' g."""
HELD, APART = "held", "apart"
"""Notes of a gradient, and of the difference of two outputs of one layer."""
_PASSED = ("multiple", "layout", "cat")
_FAR = 40
_FEW_TERMS, _HEAVY = 0.2, 1.0
"""Share of the energy that a row of few terms has; variance of ln energy of its weights' gradient:
two draws of retention differ by half in rms."""
_POINTS = 12
_LEAST = 1e-3


@dataclass(frozen=True, slots=True)
class Held:
    """Note of a gradient: it is a known field times something that all features have in common."""

    share: float
    """Of the gradient's energy."""
    other: Field
    """What it holds: outputs of the same layer, of other samples or of another branch."""
    less: float = 0.0
    """How many times the field itself has been taken away: the cosine by a norm, 1 in x - y."""


def pass_on(step: Step, gradient: Field | None, found: Field) -> None:
    """Through what changes neither features nor weights, and of directions through anything."""
    if gradient is not None and LIKE in gradient.notes:
        found.notes.setdefault(LIKE, gradient.notes[LIKE])
    if gradient is None or gradient is found:
        return
    if isinstance(step.link, Link) and step.link.kind in _PASSED:
        for key in (HELD, TURNED, DIVIDED):
            if key in gradient.notes:
                found.notes.setdefault(key, gradient.notes[key])


def turned_back(twins: Twins, gradient: Field, found: Field, weight: Field, axis: int) -> Field:
    """The gradient behind weights that it has come through before, the other way round.

    W' D W g of m inputs and n outputs, whose D is a gate: (1 + n / m share) times what
    independent matrices give, as W' W is n Var(w) and a random rest.

    Args:
        twins: what made the fields of the run.
        gradient: at their output.
        found: behind them, as if it were independent of the weights.
        weight: two axes.
        axis: of the weights that is summed over.
    """
    source = twins.plain(weight)
    draw = source.notes.get("draw")
    if draw is None or len(weight.shape) != 2 or len(source.shape) != 2:
        return found
    n, m = weight.shape[axis], weight.shape[1 - axis]
    axis = axis if source is weight else 1 - axis
    before, other, share = gradient.notes.get(TURNED, (None, axis, 0.0))
    if before == draw and other != axis:
        changed = found.scaled((1 + share * n / m) ** 0.5)
        changed.noise, changed.common, changed.notes = found.noise, found.common, found.notes
        return changed
    found.notes[TURNED] = draw, axis, 1.0
    return found


def added(result: Field, first: Field, second: Field, share: float) -> None:
    """Of two gradients that arrive at one field, the first having that share of the energy."""
    known = [
        (f.notes[HELD], part)
        for f, part in ((first, share), (second, 1 - share))
        if HELD in f.notes
    ]
    if known:
        total = sum(one.share * part for one, part in known)
        result.notes[HELD] = Held(total, max(known, key=lambda one: one[1])[0].other)


def through_weights(twins: Twins, gradient: Field, found: Field, weight: Field, x: Field) -> Field:
    """The gradient at x behind weights.

    Args:
        twins: what made the fields of the run.
        gradient: at the output.
        found: at x, as if the gradient were independent of the weights.
        weight: (outputs, inputs).
        x: the input.
    """
    held: Held | None = gradient.notes.get(HELD)
    step = None if held is None else _maker(twins, held.other)
    if (
        held is None
        or step is None
        or not any(one is weight for one in step.inputs[:2])
        or len(weight.shape) != 2
    ):
        return found
    inputs = next((one for one in step.inputs[:2] if one is not weight), x)
    out, (n, m) = step.outputs[0], weight.shape
    own = m * (weight.energy - weight.average**2) * inputs.energy
    rate = held.share * min(own / max(out.energy, 1e-300), 1.0) * n / m
    result = found.scaled((1 + rate) ** 0.5)
    result.noise, result.common, result.notes = found.noise, found.common, dict(found.notes)
    result.notes[HELD] = Held(rate / (1 + rate), inputs, held.less)
    return result


def through_function(twins: Twins, gradient: Field, result: Field, out: Field) -> Field:
    """The gradient at u, from that at out = f(u).

    Args:
        twins: what made the fields of the run.
        gradient: at f(u).
        result: at u, as if what it holds were independent of the gate.
        out: f(u).
    """
    held, nodes = gradient.notes.get(HELD), out.nodes
    if TURNED in gradient.notes and nodes is not None:
        slopes = nodes.square_slope()
        draw, axis, share = gradient.notes[TURNED]
        kept = nodes.mean_slope() ** 2 / max(slopes, 1e-300)
        result.notes[TURNED] = draw, axis, share * min(kept, 1.0)
    other = None if held is None else _passed(twins, held.other)
    if held is None or other is None or nodes is None or other.nodes is None:
        return result
    if out.origin is None or other.origin is None or nodes.quadrature.correlation is not None:
        return result
    if nodes.values.shape != other.nodes.values.shape:
        return result
    rho = _alike(twins, out.origin, other.origin)
    kept = float(nodes.expectation(nodes.slopes).mean()) ** 2
    slopes = nodes.square_slope()
    if slopes <= 0:
        return result
    ratio = _together(out, other, rho)
    if held.less:
        own, cosine = _together(out, out, 1.0), _cosine(twins, out, other)
        less = held.less * (held.less - 2 * cosine)
        ratio = max((ratio + less * own) / max(1 + less, _LEAST), 0.0)
    ratio /= slopes
    gain = 1 + held.share * (ratio - 1)
    changed = result.scaled(gain**0.5)
    changed.noise, changed.common, changed.notes = result.noise, result.common, result.notes
    changed.notes[HELD] = Held(held.share * ratio / gain * kept / slopes, other.origin, held.less)
    return changed


def of_difference(result: Field, gradient: Field, origin: Field, nodes: Nodes) -> None:
    """The gradient at a difference d of f(d), as far as f' goes with d, holds d."""
    if APART not in origin.notes:
        return
    x, slopes = nodes.quadrature.x, nodes.slopes
    both = float(nodes.expectation(x * slopes).mean())
    alone = nodes.expectation(np.square(x)) * nodes.expectation(np.square(slopes))
    share = both**2 / max(float(alone.mean()), 1e-300) * of_all_features(gradient)
    if share > _LEAST:
        result.notes[HELD] = Held(share, origin)


def of_all_features(gradient: Field) -> float:
    """What two features of a gradient have in common, over what one has."""
    table = gradient.second
    for place in reversed(range(len(gradient.cuts))):
        cut = gradient.cuts[place]
        last = place in gradient.factors_of(-1)
        table = weighed(table, place, of_others(cut) if last else pairs.same_shares(cut))
    return float(table) / max(gradient.energy, 1e-300)


def _together(out: Field, other: Field, rho: float) -> float:
    """E[f(u')^2 f'(u)^2] / E f(u')^2 of u, u' with that correlation."""
    nodes, beyond = out.nodes, other.nodes
    assert nodes is not None
    assert beyond is not None
    z, weights = np.polynomial.hermite_e.hermegauss(_POINTS)
    own = nodes.quadrature.z.reshape(-1, nodes.quadrature.z.shape[-1])
    at = beyond.quadrature.z.reshape(own.shape)
    squares = np.square(beyond.values).reshape(own.shape)
    width = (1 - rho**2) ** 0.5
    found = np.stack(
        [
            np.interp(rho * row[:, None] + width * z, x, f) @ weights / weights.sum()
            for row, x, f in zip(own, at, squares, strict=True)
        ]
    ).reshape(nodes.values.shape)
    both = nodes.expectation(found * np.square(nodes.slopes))
    return float((both / np.maximum(nodes.expectation(found), 1e-300)).mean())


def _cosine(twins: Twins, a: Field, b: Field) -> float:
    """E a b over the root of E a^2 E b^2."""
    shared = None if a is b else twins.covariance(a, b)
    together = a.average * b.average + (0.0 if shared is None else shared.energy)
    return float(min(together / max(a.energy * b.energy, 1e-300) ** 0.5, 1.0))


def _alike(twins: Twins, a: Field, b: Field) -> float:
    """Correlation of entries of two branches; of two samples, if both are one field."""
    own = max(a.energy - a.average**2, 1e-300)
    shared = None if a is b else twins.covariance(a, b)
    if a is not b:
        return min(max(shared.energy / own, 0.0), 1.0) if shared is not None else 0.0
    table = a.second - a.products()
    for place in reversed(range(len(a.cuts))):
        cut = a.cuts[place]
        weights = of_others(cut) if place in a.factors_of(0) else pairs.same_shares(cut)
        table = weighed(table, place, weights)
    return min(max(float(table) / own, 0.0), 1.0)


def same_layer(twins: Twins, *fields: Field) -> bool:
    """Whether fields are outputs of one layer of weights, or functions of such."""
    layers = []
    for f in fields:
        passed = _passed(twins, f)
        origin = passed.origin if passed is not None and passed.nodes is not None else passed
        step = None if origin is None else _maker(twins, origin)
        if step is None:
            return False
        layers.append({one.notes.get("draw") for one in step.inputs[:2]} - {None})
    return bool(set.intersection(*layers))


def _maker(twins: Twins, f: Field) -> Step | None:
    """The layer of weights that made a field, if nothing but norms and layouts is between."""
    found = _passed(twins, f)
    step = None if found is None or found.nodes is not None else twins.made.get(id(found))
    if step is None or getattr(step.link, "kind", "") != "product":
        return None
    return step if any("draw" in one.notes for one in step.inputs[:2]) else None


def _passed(twins: Twins, f: Field) -> Field | None:
    """What a field is but for norms, layouts and other parts."""
    for _ in range(_FAR):
        step = twins.made.get(id(f))
        if f.nodes is not None or step is None:
            return f
        link = step.link
        if not isinstance(link, Link) or link.kind not in _PASSED or not step.inputs:
            return f
        if link.kind == "layout" and link.where is not None:  # a part: of other weights
            return f
        if link.kind == "cat" and not same_layer(twins, *step.inputs):
            return f
        f = step.inputs[0]
    return None


def of_few_terms(gradient: Field, found: Field, mine: Field, out: Field) -> None:
    """Widens the band of the weights of an average that a norm divides by itself.

    Where a row has few terms (the first tokens of linear attention), w v over its own deviation
    leaves 1 / |w| of the gradient of w, whose square has no mean if w has no sign.

    Args:
        gradient: at the average.
        found: that of its weights; gets the noise.
        mine: the weights.
        out: the average.
    """
    if DIVIDED not in gradient.notes or mine.energy <= 0 or sign_of(mine):
        return
    if float(out.energies.min()) < _FEW_TERMS * out.energy:
        found.noise += _HEAVY
