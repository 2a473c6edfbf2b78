"""Sums, differences, products and quotients of two tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isograd.prediction import targets
from isograd.prediction.backward.links import Link
from isograd.prediction.functions.biases import biased
from isograd.prediction.functions.gaussian import Nodes
from isograd.prediction.functions.hiding import MASKED, hidden, hiding
from isograd.prediction.functions.joint import of_twins
from isograd.prediction.functions.powers import hand_on
from isograd.prediction.functions.proportions import (
    averaged_by_own,
    by_own_products,
    of_own_sum,
    over_own_products,
)
from isograd.prediction.functions.scales import POWER, own_scale
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.mixing import mixed as mixed_along
from isograd.prediction.moments.mixing import noted, weights_of
from isograd.prediction.moments.sums import _blend, _products, added, multiplied
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.ops.elementwise import as_nodes, evaluated, of_one, outcome

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call


_SHIFTED = Link("multiple", lambda c: c, lambda c: c)


class Arithmetic(Op):
    """x + y, x - y, x y, x / y; of the same field node by node, otherwise as independent."""

    code = "arithmetic"
    functions = tuple(
        "add sub subtract mul multiply div divide true_divide truediv radd rsub rmul rtruediv rdiv "
        "neg negative rpow maximum minimum lerp addcmul addcdiv atan2".split()
    )
    lines = functions
    source = "second moments of sums and products of independent entries"

    def apply(self, call: Call, x: Any, *rest: Any, **kwargs: Any) -> Outcome:
        """Two tensors, or a tensor and a number."""
        return several(call, x, *rest, **kwargs)


def several(call: Call, *args: Any, **kwargs: Any) -> Outcome:
    """An elementwise function of several tensors and numbers."""
    name, given = call.name, args
    kwargs.pop("out", None)
    if kwargs.get("rounding_mode") is not None:
        return _estimated(call, *args, **kwargs)
    if name in ("neg", "negative"):
        return scaled(call, call.field(args[0]), -1.0)
    if name.startswith("r") and name != "rsqrt" and len(args) == 2:
        args, name = (args[1], args[0]), name[1:]
    if name == "lerp":
        return _lerp(call, *args)
    if name in ("addcmul", "addcdiv"):
        return _fused(call, name, *args, **kwargs)
    name = {"subtract": "sub", "multiply": "mul"}.get(name, name)
    if name in ("divide", "true_divide", "truediv"):
        name = "div"
    x, y = args[0], args[1] if len(args) > 1 else kwargs["other"]
    alpha = kwargs.get("alpha", 1)
    if alpha != 1:
        return _with_multiple(call, name, x, y, alpha)
    return _of_two(call, name, x, y, given)


_AGAIN = 4
"""Times from which on E a^2 E a^2 … and E a^(2 k) of random factors part."""
_VARIED = 0.01
"""Share of a factor's energy that is variance, from which on it is random."""


def _of_two(call: Call, name: str, x: Any, y: Any, given: tuple[Any, ...]) -> Outcome:
    """A function of two tensors, or of a tensor and a number; `given` are the call's arguments."""
    hidden = hiding(call, name, x, y)
    if hidden is not None:
        return hidden
    number = _number(call, y)
    if number is not None:
        return _with_number(call, name, call.field(x), number)
    number = _number(call, x)
    if number is not None:
        return _number_first(call, name, number, call.field(y))
    if name == "div" and call.known(y):
        with torch._C.DisableTorchFunction():
            name, y = "mul", y.double().reciprocal()
    if name not in ("add", "sub", "mul", "div") and (call.known(x) or call.known(y)):
        return _estimated(call, *given)
    a = call.field(x, None if call.known(x) is False else call.field(y))
    b = call.field(y, a)
    if name == "mul" and call.known(x) != call.known(y):
        mixing = weights_of(b, x) if call.known(x) else weights_of(a, y)
        return mixed_along(call, mixing) or noted(combined(call, name, a, b), mixing)
    found = combined(call, name, a, b)
    if name in ("add", "sub") and call.known(y):
        biased(found.out, a, y, 1.0 if name == "add" else -1.0)
    elif name == "add" and call.known(x):
        biased(found.out, b, x)
    return found


def _with_multiple(call: Call, name: str, x: Any, y: Any, alpha: float) -> Outcome:
    """X + alpha y, x - alpha y."""
    if _number(call, y) is not None:
        return _of_two(call, name, x, y * alpha, ())
    part = scaled(call, call.field(y), alpha)
    whole = _of_two(call, name, x, part.out, ())

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        assert part.back is not None
        assert whole.back is not None
        result: list[tuple[Field, Field]] = []
        for where, one in whole.back(gradient):
            result += part.back(one) if where is part.out else [(where, one)]
        return result

    return Outcome(whole.out, back, [*whole.inputs, *part.inputs], formula=whole.formula)


def _estimated(call: Call, *args: Any, **kwargs: Any) -> Outcome:
    from isograd.prediction.sampling import sampled

    return sampled(call, *args, **kwargs)


def combined(call: Call, name: str, a: Field, b: Field) -> Outcome:
    """A function of two fields."""
    together = _node_by_node(call, name, a, b)
    if together is not None:
        if a is b and name == "mul" and a.nodes is None:
            together.out.notes[POWER] = 2
        return together
    if name in ("mul", "div"):
        norm = own_scale(call, name, a, b)
        if norm is None and name == "mul":
            norm = by_own_products(call, a, b) or by_own_products(call, b, a)
        if norm is not None:
            return norm
    if name in ("add", "sub"):
        return added(call, a, b, 1.0 if name == "add" else -1.0)
    if name == "mul":
        done = multiplied(a, b)
        for factor in (a, b):
            _note_again(call, factor, done)
        if call.run.twins.found:
            of_twins(call.run.twins, a, b, done)
        return done
    if name == "div":
        shares = of_own_sum(call, a, b) or averaged_by_own(call, a, b)
        shares = shares or over_own_products(call, a, b)
        if shares is not None:
            return shares
        inverse = of_one(call, b, torch.reciprocal, "reciprocal")
        product = multiplied(a, inverse.out)

        def back(gradient: Field) -> list[tuple[Field, Field]]:
            assert product.back is not None
            assert inverse.back is not None
            result = []
            for where, one in product.back(gradient):
                result += list(inverse.back(one)) if where is inverse.out else [(where, one)]
            return result

        return Outcome(product.out, back, [a, b], formula="x times 1 / y, independent")
    from isograd.prediction.sampling import sampled_fields

    return sampled_fields(call, [a, b])


def _note_again(call: Call, factor: Field, done: Outcome) -> None:
    """Says so where the same random numbers multiply again and again, as a state's decay does."""
    origin = factor if factor.origin is None else factor.origin
    draw = origin.notes.get("draw")
    if draw is None or factor.energy - factor.average**2 <= _VARIED * factor.energy:
        return
    call.run.factors[draw] += 1
    if call.run.factors[draw] == _AGAIN:
        where = call.run.where() or "the forward"
        done.notes.append(
            f"the same random numbers multiply {_AGAIN} times or more in {where} (decays of a "
            "state?): they count as drawn anew each time, and what follows may be several times "
            "too small; measure instead"
        )


def scaled(call: Call, x: Field, factor: float) -> Outcome:
    """X times a known number."""
    if x.nodes is not None:
        return of_one(call, x, lambda v: v * factor)
    out = x.scaled(factor)
    out.visible = x.visible
    hand_on(out, x)
    if "batch statistics" in x.notes:
        out.notes["batch statistics"] = True
    _remember(out, x, factor, 0.0)
    if x.averaged is not None:
        out.notes["averaged_by"] = factor
    link = Link(
        "multiple", lambda c: c.like(c.second * factor), lambda c: c.like(c.second * factor)
    )

    def back(g: Field) -> list[tuple[Field, Field]]:
        result = targets.times(g.scaled(factor), g, factor)
        for key in ("moment", "centered"):  # g times what it is the gradient of stays the same
            if key in g.notes:
                result.notes[key] = g.notes[key]
        return [(x, result)]

    return Outcome(out, back, [x], formula=f"x times {factor:.4g}", link=link)


def _number(call: Call, value: Any) -> float | None:
    if isinstance(value, (int, float, bool)):
        return float(value)
    if isinstance(value, Tensor) and call.known(value) and value.numel() == 1:
        with torch._C.DisableTorchFunction():
            return float(value)
    return None


def _with_number(call: Call, name: str, x: Field, number: float) -> Outcome:
    if name == "mul":
        return scaled(call, x, number)
    if name == "div":
        return scaled(call, x, 1 / number if number else float("nan"))
    if name in ("add", "sub"):
        shift = number if name == "add" else -number
        if shift == 0:
            return Outcome(x)
        if x.nodes is None and not shift <= MASKED:
            return _shifted(x, shift)
        return of_one(call, x, lambda v: v + shift)
    function = getattr(torch, {"rpow": "pow"}.get(name, name), None)
    if function is None:
        raise call.refuse("is not known with a number", "write a rule for it")
    with torch._C.DisableTorchFunction():
        other = torch.tensor(number, dtype=torch.float64)
    return of_one(call, x, lambda v: function(v, other))


def _number_first(call: Call, name: str, number: float, x: Field) -> Outcome:
    if name in ("mul", "add"):
        return _with_number(call, name, x, number)
    if name == "sub" and x.nodes is None:
        out = _shifted(scaled(call, x, -1.0).out, number).out
        return Outcome(out, lambda g: [(x, g)], [x], formula="number - x")
    functions = {
        "sub": lambda v: number - v,
        "div": lambda v: number / v,
        "pow": lambda v: number**v,
        "maximum": lambda v: v.clamp(min=number),
        "minimum": lambda v: v.clamp(max=number),
    }
    if name not in functions:
        raise call.refuse("is not known with a number first", "write a rule for it")
    return of_one(call, x, functions[name])


def _shifted(x: Field, shift: float) -> Outcome:
    """X plus a known number."""
    first, other = x.per_pair(x.mean)
    out = x.like(x.second + shift * (first + other) + shift * shift, x.mean + shift)
    out.visible = x.visible
    _remember(out, x, 1.0, shift)
    return Outcome(out, lambda g: [(x, g)], [x], formula=f"x + {shift:.4g}", link=_SHIFTED)


def _remember(out: Field, x: Field, factor: float, offset: float) -> None:
    """Notes that `out` is factor x + offset, so that functions of both combine node by node."""
    a, b = x.affine or (1.0, 0.0)
    out.origin = x if x.affine is None else x.origin
    out.affine = (factor * a, factor * b + offset)


def _node_by_node(call: Call, name: str, a: Field, b: Field) -> Outcome | None:
    """A function of two functions of the same field."""
    first, second = a.origin or a, b.origin or b
    function = getattr(torch, name, None)
    if first is not second or function is None or a.shape != b.shape:
        return None
    origin, x, dx, quadrature = as_nodes(a)
    _, y, dy, _ = as_nodes(b)
    found, by_x, by_y = evaluated(function, x, y)
    nodes = Nodes(quadrature, found, by_x * dx + by_y * dy)
    return outcome(call, origin, nodes, [(a, by_x + by_y)] if a is b else [(a, by_x), (b, by_y)])


def _where(call: Call, condition: Any, x: Any, y: Any) -> Outcome:
    """A choice by known truth values."""
    number = _number(call, y)
    with torch._C.DisableTorchFunction():
        if number is not None and number <= MASKED:
            return hidden(call.field(x), condition.numpy())
        number = _number(call, x)
        if number is not None and number <= MASKED:
            return hidden(call.field(y), (~condition).numpy())
        share = condition.double()
    a, b = call.field(x), call.field(y)
    return mixed(call, a, b, call.field(share, max(a, b, key=_number_of_classes)), None)


def _lerp(call: Call, start: Any, end: Any, weight: Any) -> Outcome:
    """Start (1 - w) + end w."""
    a, b = call.field(end), call.field(start)
    w = call.field(weight, max(a, b, key=_number_of_classes))
    return mixed(call, a, b, w, w if isinstance(weight, Tensor) else None)


def _number_of_classes(f: Field) -> int:
    return sum(len(cut) for cut in f.cuts)


def mixed(call: Call, a: Field, b: Field, w: Field, weight: Field | None) -> Outcome:
    """W a + (1 - w) b of independent fields; `weight` if w wants a gradient."""
    del call
    one, two, share = aligned(a, b, w)
    first, other = share.per_pair(share.mean)
    both = share.second
    neither = 1 - first - other + both
    second = one.second * both + two.second * neither
    if not (one.is_centered or two.is_centered):
        (a1, a2), (b1, b2) = one.per_pair(one.mean), two.per_pair(two.mean)
        second = second + a1 * b2 * (first - both) + b1 * a2 * (other - both)
    out = one.like(second, one.mean * share.mean + two.mean * (1 - share.mean))
    _blend(out, [(f, f.energy * part.energy) for f, part in ((one, share), (two, share))])

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        g, x, y, s = aligned(gradient, one, two, share)
        first, other = s.per_pair(s.mean)
        parts = [(a, s.second), (b, 1 - first - other + s.second)]
        if weight is not None:
            parts.append((weight, x.second + y.second - _products(x, y)))
        return [(f, g.like(g.second * part).summed_to(f.shape)) for f, part in parts]

    inputs = [a, b] if weight is None else [a, b, weight]
    return Outcome(out, back, inputs, formula="E w w' E x^2 + E (1-w)(1-w') E y^2")


def _fused(call: Call, name: str, x: Any, a: Any, b: Any, value: float = 1) -> Outcome:
    """X + value a b, x + value a / b."""
    base, first, second = call.field(x), call.field(a), call.field(b)
    inner = combined(call, name.removeprefix("addc"), first, second)
    part = scaled(call, inner.out, value)
    total = added(call, base, part.out, 1.0)

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        assert inner.back is not None
        return [
            (base, gradient.summed_to(base.shape)),
            *inner.back(gradient.summed_to(inner.out.shape).scaled(value)),
        ]

    return Outcome(total.out, back, [base, first, second])
