"""Weight layers and products of matrices: linear, matmul, bmm, addmm, einsum."""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any

from isograd.prediction import targets
from isograd.prediction.backward.holding import (
    HELD,
    Held,
    of_few_terms,
    through_weights,
    turned_back,
)
from isograd.prediction.backward.links import Link
from isograd.prediction.backward.noise import noise_of, turned
from isograd.prediction.backward.responses import (
    RESPONSE,
    WEIGHTED,
    along,
    coherent,
    response_of,
    rows_behind,
    varied,
)
from isograd.prediction.functions.biases import biased
from isograd.prediction.functions.echoes import ECHO, doubt, echoed
from isograd.prediction.functions.grams import FEATURES, KEYS, attended
from isograd.prediction.functions.hiding import hiding_of
from isograd.prediction.functions.proportions import FACTORS, by_own_products
from isograd.prediction.functions.spread import ALIKE, alike_of, read_features
from isograd.prediction.moments.contraction import contracted, in_common
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import SIGN, scalar, sign_of
from isograd.prediction.moments.masks import steps_of
from isograd.prediction.moments.means import fluctuation
from isograd.prediction.moments.mixing import matrix_of, mixed, noted
from isograd.prediction.ops import Op, Outcome

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Linear(Op):
    """Sums over products: every pair of summands counts with its second moments."""

    code = "linear"
    functions = tuple(
        "linear matmul rmatmul mm bmm mv dot addmm addbmm baddbmm addmv einsum tensordot inner "
        "bilinear conv1x1 linalg_matmul".split()
    )
    lines = ("linear", "conv1x1")
    source = "sigma_w^2 E x^2 + sigma_b^2 (Poole et al. 2016, eq. 3; Schoenholz et al. 2017)"

    def apply(self, call: Call, *args: Any, **kwargs: Any) -> Outcome:
        """Any of the products."""
        return getattr(self, f"_{call.name}", self._product)(call, *args, **kwargs)

    def _linear(self, call: Call, input: Any, weight: Any, bias: Any = None) -> Outcome:  # noqa: A002
        x, w = call.field(input), call.field(weight)
        lead = len(x.groups) - 1
        labels = _LETTERS[:lead]
        return product(
            call, x, labels + "y", w, "zy", labels + "z", None if bias is None else call.field(bias)
        )

    def _product(self, call: Call, a: Any, b: Any, **_: Any) -> Outcome:
        if call.name == "rmatmul":
            a, b = b, a
        known = call.known(a) and a.ndim == 2 and b.ndim > 1 and steps_of(a) is None
        x, y = call.field(a), call.field(b)
        mixing = matrix_of(y, len(y.groups) - 2, a) if known else None
        found = mixed(call, mixing)
        if found is not None:
            return found
        return noted(product(call, x, *_matmul(len(x.groups), y, len(y.groups))), mixing)

    def averaged(self, call: Call, weights: Field, values: Field) -> Outcome:
        """`weights @ values`, whatever the call is of."""
        labels = _matmul(len(weights.groups), values, len(values.groups))
        return product(call, weights, *labels)

    def _addmm(
        self, call: Call, *given: Any, beta: float = 1, alpha: float = 1, **named: Any
    ) -> Outcome:
        bias, a, b = (*given, *named.values())  # by whatever names, in torch's order
        if beta and (masked := hiding_of(call, bias)) is not None:
            plain = self._addmm(call, bias, a, b, beta=0, alpha=alpha)
            call.run.record(call.name, self.source, plain)
            return masked(plain.out)
        x, y, offset = call.field(a), call.field(b), call.field(bias) if beta else None
        labels = _matmul(len(x.groups), y, len(y.groups))
        if call.name == "addbmm":
            labels = ("bxy", y, "byz", "xz")
        if alpha == 1 and beta == 1:
            return product(call, x, *labels, offset)
        first, shift = x.scaled(alpha), None if offset is None else offset.scaled(beta)
        inner = product(call, first, *labels, shift)
        link = inner.link
        assert isinstance(link, Link)
        ahead, behind = link.ahead, link.behind
        assert ahead is not None
        assert behind is not None
        if offset is not None and call.known(bias):
            biased(inner.out, product(call, first, *labels).out, bias, beta)

        def back(gradient: Field) -> list[tuple[Field, Field]]:
            assert inner.back is not None
            whole = {id(first): (x, alpha), id(shift): (offset, beta)}
            result = []
            for where, g in inner.back(gradient):
                to, factor = whole.get(id(where), (where, 1.0))
                result.append((to or where, g.scaled(factor)))
            return result

        through = Link(
            "product",
            lambda p, q: ahead(p, q).scaled(alpha),
            lambda g, factor, place: behind(g, factor, place).scaled(alpha),
        )
        return Outcome(inner.out, back, [x, y], formula=inner.formula, link=through)

    _baddbmm = _addmv = _addbmm = _addmm

    def _einsum(self, call: Call, equation: str, *operands: Any) -> Outcome:
        if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
            operands = tuple(operands[0])
        given = equation.replace(" ", "")
        left, _, out = given.partition("->")
        labels = left.split(",")
        fields = [call.field(o) for o in operands]
        labels, out = _spelled(labels, out, "->" in given, fields)
        if any(len(set(label)) < len(label) for label in labels):
            raise call.refuse("takes a diagonal", "use torch.diagonal, or measure instead")
        if len(fields) == 1:  # only sums, or another order
            fields, labels = [*fields, scalar(1.0)], [*labels, ""]
        found, of_found = fields[0], labels[0]
        for place, (other, of_other) in enumerate(zip(fields[1:-1], labels[1:-1], strict=True), 2):
            wanted = {*out, *"".join(labels[place:])}
            kept = "".join(c for c in dict.fromkeys(of_found + of_other) if c in wanted)
            part = product(call, found, of_found, other, of_other, kept)
            call.run.record(call.name, self.source, part)
            found, of_found = part.out, kept
        if set(of_found) == set(out) > set(labels[-1]):
            shares = by_own_products(call, found, fields[-1], out)
            if shares is not None:
                return shares
        return product(call, found, of_found, fields[-1], labels[-1], out)

    def _inner(self, call: Call, a: Any, b: Any) -> Outcome:
        n, m = a.ndim, b.ndim
        of_x, of_y = _LETTERS[:n], _LETTERS[n : n + m - 1] + _LETTERS[n - 1]
        return product(call, call.field(a), of_x, call.field(b), of_y, of_x[:-1] + of_y[:-1])

    def _tensordot(self, call: Call, a: Any, b: Any, dims: Any = 2, **_: Any) -> Outcome:
        x, y = call.field(a), call.field(b)
        n, m = len(x.groups), len(y.groups)
        if isinstance(dims, int):
            dims = (list(range(n - dims, n)), list(range(dims)))
        one, two = list(_LETTERS[:n]), list(_LETTERS[n : n + m])
        for i, j in zip(*dims, strict=True):
            two[j % m] = one[i % n]
        out = [c for c in one if c not in two] + [c for c in two if c not in one]
        return product(call, x, "".join(one), y, "".join(two), "".join(out))

    def _bilinear(self, call: Call, a: Any, b: Any, weight: Any, bias: Any = None) -> Outcome:
        x, y, w = call.field(a), call.field(b), call.field(weight)
        labels = _LETTERS[: len(x.groups) - 1]
        first = product(call, x, labels + "y", w, "zyx", labels + "zx")
        second = product(
            call,
            first.out,
            labels + "zx",
            y,
            labels + "x",
            labels + "z",
            None if bias is None else call.field(bias),
        )

        def back(gradient: Field) -> list[tuple[Field, Field]]:
            assert first.back is not None
            assert second.back is not None
            result = []
            for where, one in second.back(gradient):
                result += list(first.back(one)) if where is first.out else [(where, one)]
            return result

        return Outcome(second.out, back, [x, y, w])


def _matmul(n: int, y: Field, m: int) -> tuple[str, Field, str, str]:
    """Labels of matmul: (of x, y, of y, of the output)."""
    if m == 1:
        lead = _LETTERS[: n - 1]
        return lead + "y", y, "y", lead
    lead_x, lead_y = max(n - 2, 0), m - 2
    lead = _LETTERS[: max(lead_x, lead_y)]
    of_x = lead[len(lead) - lead_x :] + ("x" if n > 1 else "") + "y"
    of_y = lead[len(lead) - lead_y :] + "yz"
    return of_x, y, of_y, lead + ("x" if n > 1 else "") + "z"


def _spelled(
    labels: list[str], out: str, explicit: bool, fields: list[Field]
) -> tuple[list[str], str]:
    """Ellipses written out, and the output's labels where they are left out."""
    used = {c for label in labels for c in label}
    spare = [c for c in reversed(_LETTERS) if c not in used]
    longest = max(
        len(f.groups) - len(x.replace("...", "")) for x, f in zip(labels, fields, strict=True)
    )
    dots = "".join(spare[:longest])
    found = []
    for label, f in zip(labels, fields, strict=True):
        missing = len(f.groups) - len(label.replace("...", ""))
        found.append(label.replace("...", dots[len(dots) - missing :] if missing else ""))
    if not explicit:
        once = sorted(c for c in used - {"."} if "".join(labels).count(c) == 1)
        out = ("..." if any("..." in label for label in labels) else "") + "".join(once)
    return found, out.replace("...", dots)


def product(
    call: Call,
    x: Field,
    of_x: str,
    y: Field,
    of_y: str,
    of_out: str,
    bias: Field | None = None,
) -> Outcome:
    """Sum over products of two independent fields, as einsum writes it.

    Args:
        call: under way.
        x: first factor.
        of_x: its labels, one letter an axis.
        y: second factor.
        of_y: its labels.
        of_out: labels of the output; the others are summed over.
        bias: broadcast and added to the output.
    """
    out = contracted(x, of_x, y, of_y, of_out)
    out.noise = x.noise + y.noise + fluctuation(x) + fluctuation(y)
    out.condition = x.condition + y.condition
    if sign := sign_of(x) * sign_of(y):
        out.notes[SIGN] = sign
    out.notes[FACTORS] = (x, of_x, y, of_y, of_out)
    out = inner = echoed(call, out)
    learned = [one for one in (x, y) if "draw" in one.notes]
    itself = not learned and call.run.twins.plain(x) is call.run.twins.plain(y)
    if "draw" not in x.notes and "draw" not in y.notes:
        attended(call.run, x, y)
    if bias is not None:
        from isograd.prediction.moments.sums import added

        out = added(call, inner, bias, 1.0).out
        out.notes[ECHO] = inner, 1.0
    units = [] if len(learned) != 1 else _units(learned[0] is x, of_x, of_y, of_out)
    if len(units) == 1:
        out.notes[WEIGHTED] = units[0]
        out.notes[ALIKE] = read_features(*_features(learned[0] is x, x, of_x, y, of_y, of_out))

    def to_bias(gradient: Field) -> Field:
        assert bias is not None
        return gradient.summed_to(bias.shape)

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        result = []
        of_weight = of_out if len(learned) != 1 else of_x if learned[0] is x else of_y
        places = _places(gradient, of_out, of_weight)
        noise = noise_of(gradient, gradient, places, weighs=call.run.weighs)
        if bias is not None and "fixed" not in bias.notes:
            result.append((bias, to_bias(gradient)))
            result[-1][1].noise = noise.arrived
        for mine, labels, other, of_other in ((x, of_x, y, of_y), (y, of_y, x, of_x)):
            if "fixed" in mine.notes:
                continue
            found = contracted(gradient, of_out, other, of_other, labels)
            variance = _in_common(out, mine, other)
            if variance:
                more = in_common(gradient, of_out, other, of_other, labels, variance)
                found = found if more is None else found.like(found.second + more.second)
            response = response_of(gradient) if len(units) == 1 else None
            if response is not None and mine is learned[0]:
                alone = [c for c in of_other if c in labels and c not in of_out]
                if len(alone) == 1:
                    spread = varied(other, of_other.index(alone[0]))
                    more = contracted(response, of_out, spread, of_other, labels)
                    kept = 1 + other.shape[of_other.index(alone[0])] * alike_of(other)
                    found = coherent(found, more.scaled(kept**0.5), mine)
            elif response is not None and other is learned[0]:
                alone = [c for c in of_other if c in labels and c not in of_out]
                n = prod(mine.shape[labels.index(c)] for c in alone)
                if len(alone) == 1:
                    axis = labels.index(alone[0])
                    onto = partial(_onto, of_out, of_other, labels)
                    found.notes[RESPONSE] = rows_behind(gradient, units[0], other, n, onto, axis)
                    if found.shape == mine.shape:
                        found = along(found, mine, axis)
            if itself:  # both gradients arrive at one field
                found = found.scaled((1 + targets.symmetry(gradient)) ** 0.5)
            if not learned and len({*labels} - {*of_out}) == 1 and labels[-1] not in of_out:
                found.notes[HELD] = Held(1.0, other)
            if len(learned) == 1 and other is learned[0]:
                found = through_weights(call.run.twins, gradient, found, other, mine)
            over = [c for c in of_other if c in of_out and c not in labels]
            if len(over) == 1:
                found = turned_back(call.run.twins, gradient, found, other, of_other.index(over[0]))
            if len(learned) == 1 and mine is learned[0]:
                noise.of_weights(found, other, _places(other, of_other, labels))
            else:
                if "draw" in other.notes:
                    read = prod([mine.shape[i] for i, c in enumerate(labels) if c not in of_out])
                    noise.behind(found, None, read)
                else:
                    noise.behind(found, other)
                    own = "".join(set(labels) - set(of_out))
                    turned(found, other, _places(other, of_other, own))
                if not learned and of_out and of_out[-1] not in labels:
                    of_few_terms(gradient, found, mine, out)
            found.noise += doubt(inner)
            result.append((mine, _unspread(found, mine)))
        return result

    def ahead(p: Field, q: Field) -> Field:
        return contracted(p, of_x, q, of_y, of_out)

    def behind(gradient: Field, factor: Field, place: int) -> Field:
        mine, other = ((of_x, of_y), (of_y, of_x))[place]
        return _unspread(contracted(gradient, of_out, factor, other, mine), (x, y)[place])

    return Outcome(
        out,
        back,
        [x, y, *([bias] if bias is not None else [])],
        formula="n E x^2 E w^2 + n (n - 1) E x x' E w w'",
        link=Link("product", ahead, behind, bias=to_bias),
    )


def _onto(of_out: str, of_other: str, labels: str, response: Field, squares: Field) -> Field:
    """Responses contracted with squares of weights."""
    return contracted(response, of_out, squares, of_other, labels)


def _units(first: bool, of_x: str, of_y: str, of_out: str) -> list[int]:
    """Axes of a product that only the weights have, which are its first factor or the second."""
    mine, other = (of_x, of_y) if first else (of_y, of_x)
    return [of_out.index(c) for c in mine if c in of_out and c not in other]


def _places(f: Field, labels: str, of_weight: str) -> tuple[int, ...]:
    """Factors of the axes that weights do not have."""
    return _factors(f.groups, labels, of_weight)


@lru_cache(maxsize=1024)
def _factors(groups: tuple[int, ...], labels: str, of_weight: str) -> tuple[int, ...]:
    ends = [*accumulate(groups, initial=0)]
    apart = (axis for axis, label in enumerate(labels) if label not in of_weight)
    return tuple(place for axis in apart for place in range(ends[axis], ends[axis + 1]))


def _features(
    first: bool, x: Field, of_x: str, y: Field, of_y: str, of_out: str
) -> tuple[Field, int]:
    """What weights multiply, and how many entries of it a unit reads."""
    weight, of_weight, other = (x, of_x, y) if first else (y, of_y, x)
    return other, prod(weight.shape[i] for i, c in enumerate(of_weight) if c not in of_out)


def _in_common(out: Field, mine: Field, other: Field) -> float:
    """Variance of what two tokens have in common, if the gradient and `other` go together by it."""
    keys, variance = out.notes.get(KEYS, (None, 0.0))
    if keys is other:
        return float(variance)
    return float(out.notes.get(FEATURES, 0.0)) if "draw" in mine.notes else 0.0


def _unspread(found: Field, mine: Field) -> Field:
    """A gradient of the shape of `mine`, where that was broadcast, or summed over by itself."""
    if found.shape == mine.shape:
        return found
    wide = found.expanded(tuple(max(a, b) for a, b in zip(found.shape, mine.shape, strict=True)))
    return wide if wide.shape == mine.shape else wide.summed_to(mine.shape)
