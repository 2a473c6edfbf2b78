"""Responses: how a gradient answers to the very output that it is the gradient of.

With y = W x and g = dLoss/dy, g holds y and so x: given W, Stein's lemma makes E[g_i x_j] =
E[dg_i/dy_i] W_ij Var x_j. That does not average out over samples and places, so that the gradient
of W_ij, a sum over p of g_p x_p, has beside what independent g and x give

    sum over pairs p, q of E[r_p r_q] Var(w) Var(x)^2,    r = dg/dy.

r is 2 / n for a mean square; where y goes into f with the gradient h, g = h f'(y) and E[r r'] =
E[h h'] dE[f' f']/dCov(y, y') + E[s s'] E[f'^2 f'^2] with s = dh/df. The first of both is a unit's
own, of any sign, and so is kept apart.

Behind weights the gradient of one unit answers to all units, H = W' S W, and what counts is the sum
over a row, E sum over k of H_ik H'_ik = Var(w)^2 (E tr S tr S' + (n + 1) E tr S S'). The field of
responses holds that for a unit and itself, and E H_ii H'_kk = Var(w)^2 E tr S tr S' for two units.

A norm takes away what a gradient has of its own output, y mean(g y): H_ii, which all units have in
common, and 1 / m of what is one's own, where m of them are normalized together. The rest of each
row remains.

What a gradient answers to its own output goes back along the input, W' r W x = c x with c = Var(w)
times the sum of r over the outputs, and is the larger for it: of x = f(u), c f f' is gated by u.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from isograd.prediction.functions.gaussian import Nodes
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.means import averaged
from isograd.prediction.moments.pairs import Array

RESPONSE = "response"
"""Note of a gradient: the field of its responses."""
ALONG = "along"
"""Note of a gradient at x that is c x and an independent rest: the field of E[c c']."""
OWN = "own response"
"""The same of what two units' responses have not in common."""
WEIGHTED = "weighted"
"""Note of a field that comes from weights as it is: its axis of units."""


def through_function(
    result: Field, gradient: Field, origin: Field, nodes: Nodes, units: int
) -> None:
    """Of the gradient at u, from that at f(u)."""
    if nodes.quadrature.correlation is not None:
        return
    own = None
    # A gradient whose entries are independent has no two that answer alike.
    alike = np.count_nonzero(gradient.second) > gradient.mean.size
    if WEIGHTED in origin.notes and alike:
        turned, g = aligned(origin.like(nodes.turning(origin)), gradient)
        own = g.like(g.second * turned.second)
    for key in (RESPONSE, OWN):
        before = gradient.notes.get(key)
        if before is None:
            continue
        squares = origin.like(nodes.squared_chain(origin))
        chain, slopes, r = aligned(squares, origin.like(nodes.chain(origin)), before)
        second = r.second * chain.second
        if key == RESPONSE:
            _keep_rows(second, r, chain.second, slopes.second, units)
            result.notes[RESPONSE] = r.like(second)
        else:
            own = r.like(second) if own is None else _sum(own, r.like(second))
    if own is not None:
        result.notes[OWN] = own


def response_of(gradient: Field) -> Field | None:
    """All of what is known of a gradient's responses."""
    known = [gradient.notes[key] for key in (RESPONSE, OWN) if key in gradient.notes]
    return _sum(*known) if len(known) > 1 else known[0] if known else None


def rows_behind(
    gradient: Field, units: int, weight: Field, n: int, contract: Callable[[Field, Field], Field],
    axis: int,
) -> Field:  # fmt: skip
    """The responses of the gradient behind weights; it has some.

    Args:
        gradient: at their output.
        units: its axis of units.
        weight: the weights.
        n: features that a unit reads.
        contract: (responses, squares of weights) -> summed over the units.
        axis: of the features in what that gives.
    """
    response = response_of(gradient)
    assert response is not None
    found = contract(response, squared(weight, n))
    alone = _in_common(response, units)
    if alone is None or not found.groups[axis]:
        return found
    whole, apart = aligned(found.as_one(axis), contract(alone, squared(weight, n)).as_one(axis))
    place = whole.factors_of(axis)[0]
    if len(whole.cuts[place]) > 1:
        return found
    second = np.array(apart.second)
    np.moveaxis(second, place, 0)[0] = np.moveaxis(whole.second, place, 0)[0]
    return whole.like(second)


def _in_common(response: Field, axis: int) -> Field | None:
    """With E H_ii H'_ii taken as that of two units; None where it is, or is not known."""
    if not response.groups[axis]:
        return None
    whole = response.as_one(axis)
    place = whole.factors_of(axis)[0]
    rows = np.moveaxis(whole.second, place, 0)
    if len(rows) != 2 or np.allclose(rows[0], rows[1], rtol=1e-3, atol=0.0):
        return None
    second = np.array(whole.second)
    np.moveaxis(second, place, 0)[0] = rows[1]
    return whole.like(second)


def weighted(out: Field, x: Field) -> None:
    """Of a norm over several channels, each of which remains one's own but for its scale."""
    if WEIGHTED in x.notes:
        out.notes[WEIGHTED] = x.notes[WEIGHTED]


def along(result: Field, x: Field, axis: int) -> Field:
    """The gradient at x, behind weights, with what is c x of it.

    Args:
        result: without that; knows its responses.
        x: what it is the gradient of.
        axis: of the features.
    """
    before = result.notes[RESPONSE]
    second = before.second
    for place in before.factors_of(axis):
        if len(before.cuts[place]) > 1:
            return result
        second = np.broadcast_to(second.take([1], place), second.shape)
    g, own, rate = aligned(result, x, before.like(second))
    found = g.like(g.second + rate.second * own.second)
    found.notes = result.notes | {ALONG: rate}
    found.noise = result.noise
    return found


def gated(
    result: Field,
    gradient: Field,
    out: Field,
    origin: Field,
    nodes: Nodes,
    factor: Array | None = None,
) -> Field:
    """The gradient at u from that at f(u), of which some is c f(u) and goes with the gate f'(u).

    Args:
        result: without that.
        gradient: at f(u).
        out: f(u).
        origin: u.
        nodes: f.
        factor: at the nodes, by which the gradient at u is multiplied: E[f f' f f' s s'].
    """
    if ALONG not in gradient.notes or nodes.quadrature.correlation is not None:
        return result
    slopes = nodes.slopes if factor is None else nodes.slopes * factor
    chain = nodes.chain(origin) if factor is None else nodes.between(slopes, origin)
    change = nodes.between(nodes.values * slopes, origin) - chain * out.second
    found, rate, more = aligned(result, gradient.notes[ALONG], origin.like(change))
    changed = found.like(found.second + rate.second * more.second)
    changed.noise, changed.notes = result.noise, result.notes
    return changed


def through_norm(result: Field, gradient: Field, x: Field, units: int, together: int) -> None:
    """Back through a norm of x.

    Args:
        result: the gradient at x.
        gradient: that of what was normalized.
        x: the input.
        units: its axis of units.
        together: units that have one mean and one deviation.
    """
    variance = x.energy - x.average**2
    if WEIGHTED not in x.notes or variance <= 0 or not x.groups[units]:
        return
    before = gradient.notes.get(RESPONSE)
    if before is not None and before.groups[units]:
        whole = before.as_one(units)
        place = whole.factors_of(units)[0]
        rows = np.moveaxis(np.array(whole.second), place, 0)
        if len(rows) == 2:
            rows[0] -= rows[1]
            rows[1] = 0.0
            kept = whole.like(np.moveaxis(rows, 0, place))
            result.notes[RESPONSE] = kept.like(kept.second / variance**2)
    own = gradient.notes.get(OWN)
    if own is not None and together > 1:
        result.notes[OWN] = own.like(own.second * ((1 - 1 / together) / variance**2))


def _keep_rows(second: Array, r: Field, chain: Array, own: Array, axis: int) -> None:
    """Of a unit and itself: what answers to other units has their slopes, too."""
    for place in r.factors_of(axis):
        k = len(r.cuts[place])
        rows, sums, squares, slopes = (
            np.moveaxis(a, place, 0) for a in (second, r.second, chain, own)
        )
        if k != 1 or len(rows) != 2:
            continue
        alone = np.sign(sums[0]) * np.clip(sums[1] * np.sign(sums[0]), 0.0, np.abs(sums[0]))
        rows[0] = alone * squares[0] + (sums[0] - alone) * np.square(slopes[0])


def _sum(first: Field, second: Field) -> Field:
    a, b = aligned(first, second)
    return a.like(a.second + b.second)


def add(result: Field, first: Field, second: Field) -> None:
    """Of two gradients that arrive at one field."""
    for key in (RESPONSE, OWN):
        known = [f.notes[key] for f in (first, second) if key in f.notes]
        if known:
            result.notes[key] = known[0] if len(known) == 1 else _sum(*known)


def hand_back(result: Field, gradient: Field, factor: float = 1.0) -> None:
    """Through a sum, or what multiplies responses by a number."""
    for key in (RESPONSE, OWN):
        if key in gradient.notes:
            result.notes[key] = gradient.notes[key].scaled(factor)


def squared(weight: Field, n: int) -> Field:
    """The field of the squares of independent weights, where sums over rows are to come out.

    Args:
        weight: the weights.
        n: features that a unit reads.
    """
    variance = max(weight.energy - weight.average**2, 0.0)
    second = np.full(weight.second.shape, variance**2)
    same = tuple(slice(0, len(cut)) for cut in weight.cuts)
    second[same] *= n + 2
    return weight.like(second, np.full_like(weight.mean, variance))


def varied(x: Field, axis: int) -> Field:
    """Var(x)^2 for any two entries of one feature, for what meets a response; see above.

    Args:
        x: what the weights multiply.
        axis: of the features.
    """
    places = set(range(len(x.cuts))) - set(x.factors_of(axis))
    variance = max(x.energy - averaged(x.second, x.cuts, places), 0.0)
    second = np.zeros_like(x.second)
    same = tuple(
        slice(0, len(cut)) if place not in places else slice(None)
        for place, cut in enumerate(x.cuts)
    )
    second[same] = variance**2
    return x.like(second)


def coherent(found: Field, more: Field, weight: Field) -> Field:
    """The gradient of weights with what responses add to each entry.

    Args:
        found: the gradient without.
        more: responses contracted with `varied`.
        weight: the weights.
    """
    variance = max(weight.energy - weight.average**2, 0.0)
    whole, extra = aligned(found, more)
    second = whole.second.copy()
    same = tuple(slice(0, len(cut)) for cut in whole.cuts)
    second[same] += variance * np.maximum(extra.second[same], 0.0)
    result = whole.like(second, whole.mean)
    result.noise, result.notes = found.noise, found.notes
    return result
