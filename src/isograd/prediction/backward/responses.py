"""Responses: how a gradient answers to the very output that it is the gradient of.

With y = W x and g = dLoss/dy, g holds y and so x: given W, Stein's lemma makes E[g_i x_j] =
E[dg_i/dy_i] W_ij Var x_j. That does not average out over samples and places, so that the gradient
of W_ij, a sum over p of g_p x_p, has beside what independent g and x give

    sum over pairs p, q of E[r_p r_q] Var(w) Var(x)^2,    r = dg/dy.

r is 2 / n for a mean square; where y goes into f with the gradient h, g = h f'(y) and E[r r'] =
E[h h'] dE[f' f']/dCov(y, y') + E[s s'] E[f'^2 f'^2] with s = dh/df. A norm takes it away: the
gradient before it is orthogonal to what was normalized.

Behind weights the gradient of one unit answers to all units, H = W' S W, and what counts is the sum
over a row, E sum over k of H_ik H'_ik = Var(w)^2 (E tr S tr S' + (n + 1) E tr S S'). The field of
responses holds that for a unit and itself, and E H_ii H'_kk for two units.

What a gradient answers to its own output goes back along the input, W' r W x = c x with c = Var(w)
times the sum of r over the outputs, and is the larger for it: of x = f(u), c f f' is gated by u.
"""

from __future__ import annotations

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
WEIGHTED = "weighted"
"""Note of a field that comes from weights as it is: its axis of units."""


def through_function(result: Field, gradient: Field, origin: Field, nodes: Nodes) -> None:
    """Of the gradient at u, from that at f(u)."""
    if nodes.quadrature.correlation is not None:
        return
    found = None
    # A gradient whose entries are independent has no two that answer alike.
    alike = np.count_nonzero(gradient.second) > gradient.mean.size
    if WEIGHTED in origin.notes and alike:
        turned, g = aligned(origin.like(nodes.turning(origin)), gradient)
        found = g.like(g.second * turned.second)
    before = gradient.notes.get(RESPONSE)
    if before is not None:
        squares = origin.like(nodes.squared_chain(origin))
        chain, own, r = aligned(squares, origin.like(nodes.chain(origin)), before)
        second = r.second * chain.second
        if WEIGHTED in origin.notes:
            _keep_rows(second, r, chain.second, own.second, origin.notes[WEIGHTED])
        more = r.like(second)
        found = more if found is None else _sum(found, more)
    if found is not None:
        result.notes[RESPONSE] = found


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


def gated(result: Field, gradient: Field, out: Field, origin: Field, nodes: Nodes) -> Field:
    """The gradient at u from that at f(u), of which some is c f(u) and goes with the gate f'(u)."""
    if ALONG not in gradient.notes or nodes.quadrature.correlation is not None:
        return result
    table = nodes.between(nodes.values * nodes.slopes, origin)
    plain = nodes.chain(origin) * out.second
    found, rate, change = aligned(result, gradient.notes[ALONG], origin.like(table - plain))
    changed = found.like(found.second + rate.second * change.second)
    changed.noise, changed.notes = result.noise, result.notes
    return changed


def through_norm(result: Field, gradient: Field, x: Field, left: float) -> None:
    """Back through a norm of x that leaves a share of the responses."""
    before = gradient.notes.get(RESPONSE)
    variance = x.energy - x.average**2
    if before is not None and WEIGHTED in x.notes and variance > 0:
        result.notes[RESPONSE] = before.like(before.second * (left / variance**2))


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
    known = [f.notes[RESPONSE] for f in (first, second) if RESPONSE in f.notes]
    if known:
        result.notes[RESPONSE] = known[0] if len(known) == 1 else _sum(*known)


def hand_back(result: Field, gradient: Field) -> None:
    """Through a sum."""
    if RESPONSE in gradient.notes:
        result.notes[RESPONSE] = gradient.notes[RESPONSE]


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
