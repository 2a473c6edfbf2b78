"""Twins: tensors that were made by the same values, and so are not independent.

Layers that share their values (a module called again, a deep copy of a layer) give outputs that
point the same way as far as their inputs do. Where two paths meet in a sum, the covariance of its
terms is followed back along both of them to products with the same weights; without such products
it is zero. Gradients are followed in the same way along the steps of the backward.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from isograd.prediction.backward import links
from isograd.prediction.backward.covariances import fit, of_functions, times, total_of
from isograd.prediction.backward.links import SUMS, Link, end_of, factor_of, link_of, sign_of
from isograd.prediction.functions.series import cross_series
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.fields import Field

if TYPE_CHECKING:
    from isograd.prediction.steps import Step

_MOST = 1_000_000
"""Pairs of tensors looked at in one run; the rest counts as independent, see `Twins.lost`."""
_DEEP = 1_000_000
"""Frames of two paths that are followed back; calls from Python to Python take no C stack."""


class Twins:
    """Covariances of pairs of fields, and of pairs of gradients, of one run."""

    def __init__(self) -> None:
        self.found = False
        """Whether two products with the same weights have been seen."""
        self.made: dict[int, Step] = {}
        """The step that made each field."""
        self.born: dict[int, tuple[Any, ...]] = {}
        """How each gradient came about: (step, gradient before, input, place of the output), or
        two that were added."""
        self._passed: dict[int, tuple[int, int]] = {}
        """Fewest and most ends of links (`end_of`) that each gradient has come through."""
        self.draws: set[int] = set()
        """Of weights that products have read."""
        self._memory: dict[tuple[int, int], Field | None] = {}
        self._kept: dict[int, Field] = {}
        """Whose identities must not be given to others."""
        self._left = _MOST
        self._deep = False

    def enter(self, step: Step) -> None:
        """Notes a step of the forward."""
        for out in step.outputs:
            self.made.setdefault(id(out), step)
        if isinstance(step.link, Link) and step.link.kind == "product":
            for one in step.inputs[:2]:
                draw = one.notes.get("draw")
                if draw is not None:
                    self.found = self.found or draw in self.draws
                    self.draws.add(draw)

    def bear(
        self, step: Step, before: list[Any], into: Field, gradient: Field, place: int = 0
    ) -> None:
        """Notes how a gradient came about: from that of a step's output at `place`."""
        if id(gradient) in self.born or gradient is before[place]:
            return
        self._kept[id(gradient)] = gradient
        self.born[id(gradient)] = (step, before[place], into, place)
        low, high = self._passed.get(id(before[place]), (0, 0))
        ends = _is_end(step, place)
        self._passed[id(gradient)] = low + ends, high + ends

    def bear_sum(self, total: Field, first: Field, second: Field) -> None:
        """Notes that a gradient is the sum of two others."""
        self._kept |= {id(one): one for one in (total, first, second)}
        self.born[id(total)] = (first, second)
        (low, high), (least, most) = (self._passed.get(id(one), (0, 0)) for one in (first, second))
        self._passed[id(total)] = min(low, least), max(high, most)

    @property
    def lost(self) -> bool:
        """Whether there were more pairs than are looked at."""
        return self._left < 0

    # -- fields ---------------------------------------------------------------------------------

    def covariance(self, a: Field, b: Field) -> Field | None:
        """E[a b'] - E a E b', per kind of pair on the axes of `a`; None for zero."""
        if a is b:
            return a.like(a.second - a.products())
        return self._remembered(a, self.plain(b, ("layout",)), self._covariance)

    def _remembered(
        self, a: Field, b: Field, find: Callable[[Field, Field], Field | None]
    ) -> Field | None:
        key = (id(a), id(b))
        if key in self._memory:
            return self._memory[key]
        self._left -= 1
        if self._left < 0:
            return None
        self._kept[id(a)], self._kept[id(b)] = a, b
        self._memory[key] = None  # what is being looked for counts as zero within itself
        if self._deep:
            found = self._memory[key] = find(a, b)
            return found
        limit, self._deep = sys.getrecursionlimit(), True
        sys.setrecursionlimit(max(limit, _DEEP))
        try:
            found = self._memory[key] = find(a, b)
        finally:
            sys.setrecursionlimit(limit)
            self._deep = False
        return found

    def _covariance(self, a: Field, b: Field) -> Field | None:
        step = self.made.get(id(a))
        if a.nodes is not None and a.origin is not None:
            other = self.plain(b)
            if other.nodes is not None and other.origin is not None:
                return of_functions(a, other, self.covariance(a.origin, other.origin))
            return times(self.covariance(a.origin, b), a.nodes.mean_slope())
        link = link_of(step, a)
        if step is None or link is None or end_of(link):
            return self._second(a, b, step)
        if link.kind in SUMS:
            parts = [
                times(self.covariance(one, b) if fit(one, a) else self._spread(one, b), sign)
                for one, sign in zip(step.inputs, link.signs, strict=False)
            ]
            return total_of(parts)
        inner = self.covariance(step.inputs[0], b)
        return None if inner is None or link.ahead is None else link.ahead(inner)

    def _spread(self, a: Field, b: Field) -> Field | None:
        """Of what is broadcast in a sum, as codes of positions are, with a sum that has it, too."""
        step = self.made.get(id(b))
        link = link_of(step, b)
        if step is None or link is None or link.kind not in SUMS or b.nodes is not None:
            return None
        alone = a.like(a.second - a.products())
        parts = [
            times(alone.expanded(b.shape) if one is a else self._spread(a, one), sign)
            for one, sign in zip(step.inputs, link.signs, strict=False)
        ]
        return total_of(parts)

    def _second(self, a: Field, b: Field, step: Step | None) -> Field | None:
        """Follows `b` back, `a` being a product or an input."""
        other = self.made.get(id(b))
        if b.nodes is not None and b.origin is not None:
            return times(self.covariance(a, b.origin), b.nodes.mean_slope())
        link = link_of(other, b)
        if other is None or link is None:
            return None
        if end_of(link):
            return None if step is None else self._ends(a, step, b, other)
        if link.kind in SUMS:
            parts = [
                times(self.covariance(a, one), sign)
                for one, sign in zip(other.inputs, link.signs, strict=False)
                if fit(one, b)
            ]
            return total_of(parts)
        inner = self.covariance(a, other.inputs[0])
        if inner is None or link.kind == "layout":
            return inner
        return times(inner, factor_of(link, other.inputs[0]))

    def _ends(self, a: Field, one: Step, b: Field, two: Step) -> Field | None:
        """Two products: with the same weights, or of twins; the same parts; pieces joined alike."""
        link, other = link_of(one, a), link_of(two, b)
        if link is None or other is None or link.ahead is None or not fit(a, b):
            return None
        if end_of(link) != end_of(other) or link.where != other.where:
            return None
        if link.kind == "layout":
            shared = self.covariance(one.inputs[0], two.inputs[0])
            return None if shared is None else link.ahead(shared)
        if link.kind == "cat":
            found = [self.covariance(x, y) for x, y in zip(one.inputs, two.inputs, strict=False)]
            if all(part is None for part in found):
                return None
            nothing = [x.like(np.zeros_like(x.second)) for x in one.inputs]
            return link.ahead(*(p or q for p, q in zip(found, nothing, strict=True)))
        return self._products(a, one, two, link)

    def _products(self, a: Field, one: Step, two: Step, link: Link) -> Field | None:
        assert link.ahead is not None
        factors = []
        for x, y in zip(one.inputs[:2], two.inputs[:2], strict=True):
            draw = x.notes.get("draw")
            if draw is not None or y.notes.get("draw") is not None:
                if draw != y.notes.get("draw"):
                    return None
                factors.append(x)
            else:
                factors.append(self._raw(x, y))
        made = link.ahead(*factors)
        if not a.is_centered:
            made = made.like(made.second - a.products())
        for x, y in zip(one.inputs[2:], two.inputs[2:], strict=False):
            if x.notes.get("draw") is not None and x.notes.get("draw") == y.notes.get("draw"):
                total, shift = aligned(made, x)
                made = total.like(total.second + shift.second - shift.products())
        return made

    def _raw(self, x: Field, y: Field) -> Field:
        """E[x y'] with the means, per kind of pair on the axes of `x`."""
        found = self.covariance(x, y)
        if found is not None and x.is_centered:
            return found
        mean = x.like(x.products(), x.mean)
        if found is None:
            return mean
        p, q = aligned(found, mean)
        return p.like(p.second + q.second, x.mean if p.cuts == x.cuts else q.mean)

    def plain(self, b: Field, kinds: tuple[str, ...] = ("layout", "multiple")) -> Field:
        """What a field is but for its layout, multiples and dropout."""
        for _ in range(64):
            step = self.made.get(id(b))
            link = link_of(step, b)
            if b.nodes is not None or step is None or link is None:
                break
            if link.kind not in kinds or end_of(link) or not step.inputs:
                break
            b = step.inputs[0]
        return b

    # -- gradients ------------------------------------------------------------------------------

    def gradients(self, a: Field, b: Field) -> Field | None:
        """E[a b'] of two gradients, per kind of pair on the axes of `a`; None for zero."""
        if a is b:
            return a
        low, high = self._passed.get(id(a), (0, 0))
        least, most = self._passed.get(id(b), (0, 0))
        if high < least or most < low:  # ends are followed back two by two
            return None
        return self._remembered(a, self._plain_gradient(b, ("layout",)), self._gradients)

    def _gradients(self, a: Field, b: Field) -> Field | None:
        born = self.born.get(id(a))
        if born is None:
            return self._gradient_second(a, b, None)
        if len(born) == 2:
            return total_of([self.gradients(one, b) for one in born])
        step, before, into, place = born
        if (crossed := step.outputs[place].notes.get(links.CROSSED)) is not None:
            other = self.born.get(id(self._plain_gradient(b)))
            met = other is not None and other[0] is step and other[1] is before
            found: Field | None = crossed(before) if met else None
            return found
        link = link_of(step, step.outputs[place])
        if _of_function(born):
            other = self.born.get(id(self._plain_gradient(b)))
            if other is not None and len(other) > 2 and _of_function(other):
                joint = self.gradients(before, other[1])
                return self._gated(step, other[0], joint)
            return times(self.gradients(before, b), step.outputs[0].nodes.mean_slope())
        if link is None:
            return None
        if end_of(link):
            return self._gradient_second(a, b, born)
        inner = self.gradients(before, b)
        if inner is None:
            return None
        if link.kind in SUMS:
            return times(inner.summed_to(into.shape), sign_of(step, link, into))
        return None if link.behind is None else link.behind(inner)

    def _gradient_second(self, a: Field, b: Field, mine: Any) -> Field | None:
        born = self.born.get(id(b))
        if born is None:
            return None
        if len(born) == 2:
            return total_of([self.gradients(a, one) for one in born])
        step, before, into, place = born
        link = link_of(step, step.outputs[place])
        if _of_function(born):
            return times(self.gradients(a, before), step.outputs[0].nodes.mean_slope())
        if link is None:
            return None
        if end_of(link):
            return None if mine is None else self._gradient_ends(a, mine, b, born)
        inner = self.gradients(a, before)
        if link.kind in SUMS:
            return times(inner, sign_of(step, link, into))
        if inner is None or link.kind == "layout":
            return inner
        return times(inner, factor_of(link, into))

    def _gradient_ends(self, a: Field, one: Any, b: Field, two: Any) -> Field | None:
        """Gradients through two products, the same parts, or pieces joined alike."""
        (step, before, into, first), (other, earlier, there, second) = one, two
        link, its = link_of(step, step.outputs[first]), link_of(other, other.outputs[second])
        if link is None or its is None or link.behind is None or not fit(a, b):
            return None
        if end_of(link) != end_of(its) or link.where != its.where:
            return None
        if link.kind == "product":
            return self._gradient_products(one, two, link)
        joint = self.gradients(before, earlier)
        if joint is None or link.kind == "layout":
            return None if joint is None else link.behind(joint)
        place = next((i for i, x in enumerate(step.inputs) if x is into), None)
        same = next((i for i, x in enumerate(other.inputs) if x is there), None)
        if place is None or same is None:
            return None
        if place == same:
            return link.behind(joint, place)
        return link.between(joint, place, same) if link.between is not None else None

    def _gradient_products(self, one: Any, two: Any, link: Link) -> Field | None:
        (step, before, into, _), (other, earlier, there, _) = one, two
        assert link.behind is not None
        if into is there and link.bias is not None and into not in step.inputs[:2]:
            joint = self.gradients(before, earlier)
            return None if joint is None else link.bias(joint)
        place = next((i for i, x in enumerate(step.inputs[:2]) if x is into), None)
        second = next((i for i, x in enumerate(other.inputs[:2]) if x is there), None)
        if place is None or place != second:
            return None
        x, y = step.inputs[1 - place], other.inputs[1 - place]
        draw = x.notes.get("draw")
        if draw != y.notes.get("draw"):
            return None
        joint = self.gradients(before, earlier)
        if joint is None:
            return None
        factor = x if draw is not None else self._raw(x, y)
        return link.behind(joint, factor, place)

    def _gated(self, one: Step, two: Step, joint: Field | None) -> Field | None:
        """Gradients through two elementwise functions."""
        if joint is None:
            return None
        u, v = one.outputs[0], two.outputs[0]
        assert u.nodes is not None
        assert v.nodes is not None
        assert u.origin is not None
        assert v.origin is not None
        if u.nodes.values.shape != v.nodes.values.shape:
            return times(joint, u.nodes.mean_slope() * v.nodes.mean_slope())
        shared = self.covariance(u.origin, v.origin)
        slopes = (u.nodes.slope_coefficients(), v.nodes.slope_coefficients())
        _, second = cross_series(u.nodes.quadrature, v.nodes.quadrature, *slopes, u.origin, shared)
        gate, g = aligned(u.origin.like(second), joint)
        return g.like(g.second * gate.second)

    def _plain_gradient(self, b: Field, kinds: tuple[str, ...] = ("layout", "multiple")) -> Field:
        for _ in range(64):
            born = self.born.get(id(b))
            if born is None or len(born) == 2:
                break
            link = link_of(born[0], born[0].outputs[born[3]])
            if link is None or link.kind not in kinds or end_of(link):
                break
            b = born[1]
        return b


def _is_end(step: Step, place: int) -> bool:
    """Whether gradients of an output stop being followed one by one at its step."""
    if step.outputs[0].nodes is not None and not step.several:
        return False
    link = link_of(step, step.outputs[place])
    return link is not None and bool(end_of(link))


def _of_function(born: tuple[Any, ...]) -> bool:
    """Whether a gradient came through an elementwise function, to what that is a function of."""
    step, _, into, _ = born
    out = step.outputs[0]
    return not step.several and out.nodes is not None and out.origin is into
