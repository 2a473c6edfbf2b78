"""Sums and products of two fields, and how gradients go back through them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from isograd.prediction.backward import gains, responses
from isograd.prediction.backward.gains import hand_back
from isograd.prediction.backward.gates import PASSING, profile_of
from isograd.prediction.backward.links import Link
from isograd.prediction.functions.differences import of_difference
from isograd.prediction.functions.mixtures import TERMS, law_of
from isograd.prediction.functions.powers import note_product, note_sum
from isograd.prediction.functions.scales import DEVIATION, of_own_spread
from isograd.prediction.functions.spread import ALIKE, note_blend
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import SIGN, sign_of
from isograd.prediction.moments.means import fluctuation
from isograd.prediction.ops import Outcome

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call

CUT = "cut"
"""Note of a field that no gradient passes: the field behind it."""
_BRANCHES = 0.06
"""Variance of ln energy by which gradients of a difference of two outputs of the same weights are
off (siamese heads): behind them W' W x of the other branch is not followed, 20 % in rms."""
_NOTHING = 1e-12
"""Not zero, which would mean that nothing was said."""


def added(call: Call, a: Field, b: Field, sign: float) -> Outcome:
    """A + sign b of independent fields."""
    if sign < 0 and b.averaged is a:
        return _centered(a, b)
    if sign < 0 and b.averaged is not None and (rest := _rest(call, a, b.averaged)) is not None:
        part = _centered(b.averaged, b)  # (v + x) - mean(x) is v + (x - mean(x))
        call.run.record("sub", "", part)
        return added(call, rest, part.out, 1.0)
    if sign > 0 and (through := _straight_through(call, a, b) or _straight_through(call, b, a)):
        return through
    if sign < 0 and call.run.twins.found and (apart := of_difference(call, a, b)) is not None:
        return apart
    out = summed(a, b, sign)
    unsure = 0.0
    if call.run.twins.found:
        unsure = _BRANCHES if _correlate(call, out, a, b, sign) and sign < 0 else 0.0
    if a.shape == b.shape:
        if (skewed := law_of(a)) is not None:
            out.notes["terms"] = (skewed, b, 1.0)
        elif (skewed := law_of(b)) is not None:
            out.notes["terms"] = (skewed, a, sign)
    if sign > 0 and (both := sign_of(a)) and both == sign_of(b):
        out.notes[SIGN] = both
    out.visible = a.visible if a.visible is not None else b.visible
    note_sum(out, a, b)
    note_blend(out, a, b)
    if "batch statistics" in a.notes or "batch statistics" in b.notes:
        out.notes["batch statistics"] = True

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        gradient.noise += unsure
        second = gradient if sign > 0 else _another(gradient)  # of its own: it points the other way
        return [
            (a, _passed(gradient, a, out, b, (1.0, sign))),
            (b, _passed(second, b, out, a, (sign, 1.0))),
        ]

    link = Link("sum", signs=(1.0, sign))
    return Outcome(out, back, [a, b], formula="E x^2 + E y^2 + 2 E x E y", link=link)


def _straight_through(call: Call, x: Field, other: Field) -> Outcome | None:
    """X + (y - x).detach(), or x + (y - x.detach()): y, whose gradient is that of x."""
    cut = other.notes.get(CUT)
    step = call.run.twins.made.get(id(other if cut is None else cut))
    if step is None or not isinstance(step.link, Link) or step.link.signs != (1.0, -1.0):
        return None
    y, less = step.inputs
    if (less if cut is not None else less.notes.get(CUT)) is not x or y.shape != x.shape:
        return None
    reached = [x] if cut is not None else [x, y]
    out = y.like(y.second, y.mean)
    return Outcome(out, lambda g: [(one, _another(g)) for one in reached], [x, y])


def _rest(call: Call, total: Field, term: Field) -> Field | None:
    """The other term of a sum of two, if `term` is one of them."""
    step = call.run.twins.made.get(id(total))
    if step is None or not isinstance(step.link, Link) or len(step.inputs) != 2:
        return None
    if step.link.kind != "sum" or step.link.signs != (1.0, 1.0) or term.shape != total.shape:
        return None
    one, other = step.inputs
    return other if one is term else one if other is term else None


def _another(gradient: Field) -> Field:
    result = gradient.like(gradient.second)
    result.noise, result.notes = gradient.noise, gradient.notes
    return result


def _correlate(call: Call, out: Field, a: Field, b: Field, sign: float) -> bool:
    """Adds what two terms have in common that were made by the same weights; whether they have."""
    if a.shape != out.shape or b.shape != out.shape:
        return False
    shared = call.run.twins.covariance(a, b)
    if shared is None:
        return False
    whole, both = aligned(out, shared)
    if whole.cuts == out.cuts:
        out.second = whole.second + 2 * sign * both.second
    return True


def _passed(
    gradient: Field, term: Field, total: Field, other: Field, signs: tuple[float, float]
) -> Field:
    """The gradient of a sum at one of its terms.

    Where the law of the sum is known, what the gradient has in common with a term is, too. Else the
    term is w total + an independent rest, w its share of the variance, so that what the gradient
    has in common with the total it has with the term w times.
    """
    result = gradient.summed_to(term.shape)
    if result is not gradient and term.shape == total.shape:
        hand_back(result, gradient)
        responses.hand_back(result, gradient)
    gate, moment = gradient.notes.get("gate"), gradient.notes.get("moment")
    if term.shape != total.shape or (gate is None and moment is None):
        return result
    if result is gradient:
        result = gradient.like(gradient.second)
        result.noise = gradient.noise
        hand_back(result, gradient)
        responses.hand_back(result, gradient)
        result.notes["kurtosis"] = gradient.notes.get("kurtosis", 3.0)
    law = law_of(term)
    if gate is not None and law is not None:
        x, energy, mean = gate
        for key, known in (("profile", energy), (PASSING, mean)):
            profile = profile_of((x, known), law, other, signs)
            if profile is not None:
                result.notes[key] = profile
    if moment is not None:
        terms = total.notes.get("terms")
        known = None
        if terms is not None:
            known = gradient.notes.get(TERMS[law is not terms[0]])
        if known is not None:
            g, own, more = aligned(result, term, known)
            found = more.second + g.second * (own.second - own.products())
        else:
            whole, part = (f.energy - f.average**2 for f in (total, term))
            share = (part / whole) ** 2 if whole > 0 else 0.0
            centered = gradient.notes.get("centered", moment)
            g, sums, own, joint = aligned(result, total, term, centered)
            rest = own.second - own.products() - share * (sums.second - sums.products())
            found = share * joint.second + g.second * rest
        result.notes["centered"] = g.like(found)
        result.notes["moment"] = g.like(found + g.second * own.products())
    return result


def summed(a: Field, b: Field, sign: float = 1.0) -> Field:
    """The field of a + sign b, independent."""
    first, second = aligned(a, b)
    cross = sign * _products(first, second)
    out = first.like(first.second + second.second + cross, first.mean + sign * second.mean)
    _blend(out, [(first, first.energy), (second, second.energy)])
    return out


def multiplied(a: Field, b: Field) -> Outcome:
    """A b of independent fields."""
    first, second = aligned(a, b)
    out = first.like(first.second * second.second, first.mean * second.mean)
    for x, scale in ((a, b), (b, a)):
        dependence = of_own_spread(x, scale)
        if dependence != 1.0 and len(x.groups) == len(scale.groups):
            same = tuple(  # pairs of entries that are divided by the same
                slice(0, len(out.cuts[place]) if number else None)
                for axis, number in enumerate(scale.groups)
                for place in out.factors_of(axis)
            )
            out.second = np.array(out.second)
            out.second[same] *= dependence
    out.noise = a.noise + b.noise
    if sign := sign_of(a) * sign_of(b):
        out.notes[SIGN] = sign
    if a.condition * b.condition < 0:  # what one gains the other loses, as in x / rms(x)
        out.noise = (a.noise**0.5 - b.noise**0.5) ** 2 or _NOTHING
    out.condition = a.condition + b.condition or _NOTHING
    note_product(out, a, b)
    for x in (a, b):
        if ALIKE in x.notes and x.shape == out.shape:
            out.notes[ALIKE] = x.notes[ALIKE]
    if a.shape != b.shape:  # the gradient of what is repeated is a sum over entries
        out.notes["batch statistics"] = True

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        g, one, two = aligned(gradient, first, second)
        result = []
        for mine, own, other, factor in ((a, one, two, b), (b, two, one, a)):
            found, moment = g.second * other.second, gradient.notes.get("moment")
            if moment is not None and mine.shape != out.shape and own.second.all():
                gated, own = aligned(moment, own)  # by a function of the product
                found = gated.second / own.second if gated.cuts == g.cuts else found
            result.append((mine, g.like(found).summed_to(mine.shape)))
            result[-1][1].noise = gradient.noise + factor.noise + fluctuation(factor)
            if moment is not None and mine.shape == out.shape:
                passed = result[-1][1]
                passed.notes["moment"] = moment
                if "centered" in gradient.notes:
                    passed.notes["centered"] = gradient.notes["centered"]
            gains.times(result[-1][1], gradient, b if mine is a else a, mine.shape)
        return result

    # What a product has in common with something else: E y of x's part, and E x of y's.
    link = Link("gated", signs=(b.average, a.average))
    return Outcome(out, back, [a, b], formula="E x^2 E y^2", link=link)


def _centered(x: Field, mean: Field) -> Outcome:
    """X - mean(x): what the mean takes away is what each entry has in common with it."""
    shape = mean.shape

    def axes_of(f: Field) -> list[int]:
        return [
            place
            for axis, size in enumerate(shape)
            if size == 1 and f.groups[axis]
            for place in f.factors_of(axis)
        ]

    whole, part = aligned(x, mean)
    out = whole.like(whole.centered(axes_of(whole)), whole.mean - part.mean)
    out.noise, out.condition = x.noise, x.condition
    out.notes[DEVIATION] = x

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        return [(x, gradient.like(gradient.centered(axes_of(gradient))))]

    return Outcome(out, back, [x, mean], formula="E x^2 - E mean(x)^2")


def _products(a: Field, b: Field) -> np.ndarray[Any, Any]:
    """E x_i y_j + E y_i x_j of independent fields on the same classes."""
    if a.is_centered or b.is_centered:
        return np.zeros(())
    a1, a2 = a.per_pair(a.mean)
    b1, b2 = b.per_pair(b.mean)
    return np.asarray(a1 * b2 + b1 * a2)


def _blend(out: Field, parts: list[tuple[Field, float]]) -> None:
    """Deviations of parts that share a cause add up by their share of the energy."""
    total = sum(energy for _, energy in parts)
    if total > 0:
        out.noise = float(sum(e / total * math.sqrt(f.noise) for f, e in parts)) ** 2
        out.condition = sum(e / total * f.condition for f, e in parts)
