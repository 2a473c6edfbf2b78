"""Functions of one tensor, entry by entry: activations, powers, roots, comparisons with numbers."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isograd.prediction.backward import gains, holding, responses
from isograd.prediction.backward.gates import Gate, passed_gate
from isograd.prediction.backward.noise import LIKE, through_factor
from isograd.prediction.functions import waves
from isograd.prediction.functions.filters import TILT
from isograd.prediction.functions.gaussian import Nodes, Quadrature
from isograd.prediction.functions.mixtures import TERMS, quadrature_of
from isograd.prediction.functions.scales import POWER
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import SIGN
from isograd.prediction.ops import Op, Outcome

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array
    from isograd.prediction.propagation import Call

_TRUTHS = frozenset("gt lt ge le eq ne bool logical_not".split())
"""Functions whose value is true or false."""


_NEAR = 8.0
"""Deviations away from 0 from which no node of a Gaussian comes near it."""
_SURE = {"reciprocal": 3.0, **dict.fromkeys(("sqrt", "rsqrt", "log", "log2", "log10"), 0.5)}
"""Of functions with a pole or an end at 0: deviations away from it from which a number counts as
being of one sign. Who takes a root or a logarithm knows that it is."""
_POWERS = {"square": 2, "sqrt": 0.5, "rsqrt": -0.5}
_EXPONENTIALS = frozenset("exp exp2 expm1".split())
_RARE = 3.0
"""Deviation of x from which E exp(2 x) is made where x is six deviations away, and further."""
UNMET = "its mean is made of numbers that no draw meets"
"""Words of a note on a function that is known for no draw."""
_ROOTS = {0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}


class Elementwise(Op):
    """y = f(x) at the nodes of the field that x is a function of."""

    code = "elementwise"
    functions = tuple(
        "relu relu6 leaky_relu elu selu celu gelu silu mish softplus sigmoid logsigmoid "
        "log_sigmoid tanh hardtanh hardswish hardsigmoid softsign hardshrink softshrink tanhshrink "
        "threshold sin cos exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square abs absolute sign "
        "sgn erf erfc reciprocal clamp clip clamp_min clamp_max pow float_power nan_to_num round "
        "floor ceil trunc special_expit special_erf atan arctan sinh cosh asinh relu_ lgamma "
        "logit sinc gt lt ge le eq ne heaviside threshold_ rrelu bool logical_not".split()
    )
    lines = functions
    source = "Gaussian quadrature and Mehler's series (Daniely et al. 2016, section 4)"

    def apply(self, call: Call, x: Any, *args: Any, **kwargs: Any) -> Outcome:
        """Any function of one abstract tensor and plain numbers."""
        kwargs.pop("inplace", None)
        kwargs.pop("out", None)
        function = call.function
        if call.name == "rrelu":  # the mean slope; its spread over draws is second order
            lower, upper = (*args, 1 / 8, 1 / 3)[:2]
            function, args = torch.nn.functional.leaky_relu, ((lower + upper) / 2,)
            kwargs = {}
        tensors = [a for a in (x, *args) if isinstance(a, Tensor)]
        if len(tensors) > 1 or not isinstance(x, Tensor):
            from isograd.prediction.ops.arithmetic import several

            return several(call, x, *args, **kwargs)
        name = call.name.rstrip("_")
        plain = getattr(torch, name, None) or getattr(torch.nn.functional, name, None)
        if call.function.__name__.endswith("_") and not call.function.__name__.endswith("__"):
            function = plain or function
        source = call.field(x)
        if name == "log":
            from isograd.prediction.ops.log_softmax import of_softmax

            known = of_softmax(call, source)
            if known is not None:
                return known
        if name in waves.FUNCTIONS and (found := waves.wave(source, name)) is not None:
            return found
        power = _POWERS.get(name, args[0] if name == "pow" and args else None)
        known_as = _ROOTS.get(power, name) if isinstance(power, (int, float)) else name
        result = of_one(call, source, partial(_call, function, args, kwargs), known_as)
        result.dtype = torch.bool if name in _TRUTHS else None
        if name in _EXPONENTIALS:
            _note_rare(call, name, source, result)
        if isinstance(power, (int, float)) and source.nodes is None:
            result.out.notes[POWER] = power
        return result


def _note_rare(call: Call, name: str, x: Field, result: Outcome) -> None:
    """Says so where the energy of exp(x) is made of values of x that a tensor does not have."""
    spread = float(np.sqrt(np.max(x.energies - np.square(x.mean)).clip(0.0)))
    where = f" in {call.run.where() or 'the forward'}: {UNMET}"
    if spread > _RARE and not any(note.endswith(where) for note in call.run.notes):
        result.notes.append(f"{name} of numbers with a deviation of {spread:.2g}{where}")


def _call(function: Any, args: Any, kwargs: Any, x: Tensor) -> Tensor:
    out: Tensor = function(x, *args, **kwargs)
    return out


def of_one(call: Call, x: Field, function: Callable[[Tensor], Tensor], name: str = "") -> Outcome:
    """Y = function(x) for a field x, which may itself be a function of another."""
    origin, values, slopes, quadrature = as_nodes(x, name)
    found, own = rectified(values) if name == "relu" else evaluated(function, values)
    nodes = Nodes(quadrature, found, own * slopes)
    return outcome(call, origin, nodes, [(x, own)])


def as_nodes(x: Field, function: str = "") -> tuple[Field, Array, Array, Quadrature]:
    """(origin, values, slopes, quadrature) of a field, for a function of that name."""
    if x.origin is not None and x.nodes is not None:
        return x.origin, x.nodes.values, x.nodes.slopes, x.nodes.quadrature
    origin = x if x.affine is None or x.origin is None else x.origin
    quadrature = origin.notes.get("quadrature")
    if quadrature is None:
        quadrature = origin.notes["quadrature"] = quadrature_of(origin, function)
    factor, offset = x.affine or (1.0, 0.0)
    values = factor * quadrature.x + offset
    least = 0.0 if SIGN in origin.notes and not offset else _SURE.get(function)
    if least is not None:
        values = _of_one_sign(values, quadrature, factor, offset, least)
        if (factor, offset) == (1.0, 0.0):
            quadrature = copy(quadrature)
            quadrature.x = values
    return origin, values, np.full_like(quadrature.x, factor), quadrature


def _of_one_sign(
    values: Array, quadrature: Quadrature, factor: float, offset: float, least: float
) -> Array:
    """What is hardly ever on the other side of 0 is never there: log-normal, of the same moments.

    Means over 1 / x of a Gaussian do not exist, and are all tail where they are cut off.
    """
    mean = (factor * quadrature.mean + offset)[..., None]
    deviation = factor * quadrature.deviation[..., None]
    spread = np.abs(deviation)
    sure = (np.abs(mean) > least * spread) & (np.abs(mean) < _NEAR * spread)
    share = np.where(sure, deviation / np.where(sure, mean, 1.0), 0.0)
    s = np.sqrt(np.log1p(np.square(share))) * np.sign(share)
    return np.where(sure, mean * np.exp(s * quadrature.z - np.square(s) / 2), values)


def evaluated(function: Callable[..., Tensor], *values: Array) -> Any:
    """Values of a torch function at nodes, and derivatives by each argument; zero if not finite."""
    with torch._C.DisableTorchFunction(), torch.enable_grad():
        inputs = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]
        out = function(*inputs)
        if out.is_floating_point() and out.requires_grad:
            slopes = _slopes(out, inputs)
        else:
            slopes = (None,) * len(inputs)
    found = [_finite(out.detach().double().numpy())]
    for value, slope in zip(values, slopes, strict=True):
        found.append(np.zeros_like(value) if slope is None else _finite(slope.numpy(force=True)))
    return tuple(found)


def rectified(values: Array) -> tuple[Array, Array]:
    """What `evaluated` gives for a ReLU, which is met most, in a tenth of the time."""
    return np.maximum(values, 0.0), (values > 0).astype(np.float64)


def _finite(values: Array) -> Array:
    if np.isfinite(values).all():
        return values
    return np.nan_to_num(values, posinf=0.0, neginf=0.0)


def _slopes(out: Tensor, inputs: list[Tensor]) -> tuple[Tensor | None, ...]:
    try:
        return torch.autograd.grad(out.sum(), inputs, allow_unused=True)  # others import sympy
    except RuntimeError:  # a function that torch has no derivative for
        return (None,) * len(inputs)


def outcome(call: Call, origin: Field, nodes: Nodes, inputs: list[tuple[Field, Array]]) -> Outcome:
    """The outcome of a function known at the nodes of `origin`.

    Args:
        call: under way.
        origin: the field whose entries the nodes stand for.
        nodes: the function.
        inputs: what went in, each with the function's derivative by it at the nodes.
    """
    mean, second = nodes.moments(origin)
    out = origin.like(second, mean)
    out.origin, out.nodes = origin, nodes
    nodes.steps = _steps(inputs)
    stiffness = nodes.stiffness()
    out.noise = stiffness**2 * origin.noise
    out.condition = stiffness * (origin.condition if abs(origin.condition) > 1 else 1.0)

    def back(gradient: Field) -> list[tuple[Field, Field]]:
        for one, slope in nodes.steps:
            if one is not origin:
                report = _times(origin, nodes.between(slope, origin), gradient)
                call.run.arrive(one, report, passed_on=True)
        gate = passed_gate(nodes, gradient)
        slopes = gate.slopes
        chain = nodes.chain(origin) if gate.root is None else gate.chain(nodes, origin)
        result = responses.gated(_times(origin, chain, gradient), gradient, out, origin, nodes)
        if "terms" in origin.notes:
            result.notes["gate"] = (nodes.quadrature.x, np.square(slopes), gate.passed)
        result.noise = gradient.noise + nodes.slope_noise(origin)
        units = origin.notes.get(responses.WEIGHTED, 1 if len(origin.groups) > 3 else -1)
        if call.run.weighs or LIKE in gradient.notes:
            through_factor(result, gradient, origin.like(chain), units)
        result.notes["kurtosis"] = nodes.slope_kurtosis(origin)
        tilt = nodes.tilt(slopes, origin)
        if tilt is not None:
            result.notes[TILT] = _times(origin, tilt, gradient)
        if origin.notes.get("batch statistics"):
            x = nodes.quadrature.x
            shifts = {"moment": x}
            if not origin.is_centered:
                shifts["centered"] = x - origin.mean[..., None]
            for key, factor in shifts.items():
                apart = _times(origin, gate.chain(nodes, origin, factor), gradient)
                result.notes[key] = responses.gated(apart, gradient, out, origin, nodes, factor)
            if nodes.quadrature.given is not None:
                _of_terms(result, gradient, origin, nodes, gate)
        responses.through_function(result, gradient, origin, nodes, units)
        holding.of_difference(result, gradient, origin, nodes)
        result = holding.through_function(call.run.twins, gradient, result, out)
        gains.with_slopes(result, gradient, origin, nodes, ("moment", "centered", TILT, *TERMS))
        return [(origin, result)]

    return Outcome(out, back, [one for one, _ in inputs])


def _of_terms(result: Field, gradient: Field, origin: Field, nodes: Nodes, gate: Gate) -> None:
    """What a gradient at a sum holds of both terms t: E[g t g' t'] - E[g g'] E[t t'].

    Given the sum, a term t is E[t | sum] and a rest, which two entries have not in common.
    """
    assert nodes.quadrature.given is not None
    same = tuple(slice(0, len(cut)) for cut in origin.cuts)
    for key, (share, square) in zip(TERMS, nodes.quadrature.given(), strict=True):
        passed, known = gate.chain(nodes, origin, share), np.array(nodes.between(share, origin))
        passed[same] = gate.chain(nodes, origin, np.sqrt(square))[same]
        known[same] = nodes.expectation(square)
        apart = _times(origin, passed, gradient)
        g, whole = aligned(result, origin.like(known))
        result.notes[key] = apart.like(apart.second - g.second * whole.second)


def _steps(inputs: list[tuple[Field, Array]]) -> list[tuple[Field, Array]]:
    """All fields on the way from the origin, each with the derivative by it, all paths together."""
    found: dict[int, tuple[Field, Array]] = {}
    for one, slope in inputs:
        earlier: list[tuple[Field, Any]] = [] if one.nodes is None else list(one.nodes.steps)
        for where, inner in [(one, 1.0), *earlier]:
            _, before = found.get(id(where), (where, 0.0))
            found[id(where)] = where, before + slope * inner
    return list(found.values())


def _times(origin: Field, factor: Array, gradient: Field) -> Field:
    """A gradient times E[f' f'] per kind of pair of `origin`, on classes that fit both."""
    if origin.cuts == gradient.cuts and origin.groups == gradient.groups:
        return gradient.like(gradient.second * factor)
    chain, g = aligned(origin.like(factor), gradient)
    return g.like(g.second * chain.second)
