"""Activations: value, slope, kinks; one entry of one table for each."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isfinite, pi, sqrt
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isograd.errors import InputError
from isograd.theory.closed_forms import Closed, closed_form

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

_REACH = 13.0
"""Of a standard normal input, in standard deviations."""


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """One elementwise nonlinearity, in float64."""

    name: str
    value: Function
    """phi, entry by entry."""
    slope: Function
    """phi', entry by entry, as backpropagation has it: a jump of phi counts for nothing."""
    kinks: tuple[float, ...] = ()
    """Arguments at which phi or phi' jumps."""
    max_slope: float = 1.0
    """Supremum of |phi'|."""
    jumps: tuple[float, ...] = ()
    """Those kinks at which phi itself jumps."""
    odd: bool = False
    """phi(-x) = -phi(x)."""
    homogeneous: bool = False
    """phi(s x) = s phi(x) for s > 0: linear on either side of 0."""
    closed: Closed | None = None
    """E[phi(u1) phi(u2)] and E[phi'(u1) phi'(u2)] in closed form, where there is one."""

    @property
    def bends(self) -> tuple[float, ...]:
        """Ends of the panels on which it is a polynomial: a quadrature has to split there too."""
        # Late: panels need this file.
        from isograd.theory.resolution import features

        edges = features(self).edges
        return tuple(edges[np.abs(edges) <= _REACH].tolist())


def activation(x: object, **params: Any) -> Activation:
    """The activation behind a name, a torch module or class, a functional, or any callable.

    Args:
        x: a name of torch.nn or torch.nn.functional (`"gelu"`, `"LeakyReLU"`), `"linear"`, an alias
            (`"swish"`, `"identity"`), a module, its class, a functional, or an elementwise
            callable of torch tensors or numpy arrays; an `Activation` comes back as it is.
        params: for a name or class as of the torch module, under the same names and with the same
            defaults; the slope of `prelu` is `negative_slope`, and `rrelu` has the mean of its
            slopes. For a callable, `kinks=(...)` declares where it or its slope jumps.

    Raises:
        InputError: there is no such activation, it has no such parameter, or the callable is not
            elementwise, not finite or random.
    """
    if isinstance(x, Activation) and not params:
        return x
    if isinstance(x, str):
        return named(known_name(x) or x, **params)
    # Late: discovery needs panels, which need this file.
    from isograd.theory.discovery import discover

    return discover(x, **params)


def known_name(name: str) -> str | None:
    """The table's name for a torch name, class name or alias; None if there is none."""
    plain = name.lower().replace("_", "")
    return _PLAIN.get(_ALIASES.get(plain, plain))


def named(name: str, **params: float | str) -> Activation:
    """An activation of the table.

    Raises:
        InputError: there is no such activation, it has no such parameter, or not of such a value.
    """
    for key, given in params.items():
        fits = isinstance(given, str) if key == "approximate" else _is_finite(given)
        if not fits:
            kind = "'none' or 'tanh'" if key == "approximate" else "a finite number"
            raise InputError(f"{key} of {name} is {given!r}; it must be {kind}")
    return _named(name, **params)


def _is_finite(given: object) -> bool:
    return isinstance(given, Real) and isfinite(given)


@lru_cache(maxsize=1024)
def _named(name: str, **params: float | str) -> Activation:
    make = _TABLE.get(name)
    if name.lower().replace("_", "") in _NOT_ELEMENTWISE:
        raise InputError(f"{name} is not elementwise: outputs depend on other inputs")
    if make is None:
        raise InputError(f"no activation {name!r} in theory; known are {', '.join(sorted(_TABLE))}")
    known = inspect.signature(make).parameters
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise InputError(
            f"activation {name!r} has no parameter {', '.join(unknown)}; "
            f"it takes {', '.join(known) or 'none'}"
        )
    value, slope, kinks, max_slope = make(**params)
    at = np.array(kinks, dtype=np.float64)
    below, above = value(np.nextafter(at, -inf)), value(np.nextafter(at, inf))
    probe = np.geomspace(1e-3, 20, 41)
    right, left = value(probe), value(-probe)
    ends = value(np.array([1.0, -1.0]))
    return Activation(
        name,
        value,
        slope,
        kinks,
        max_slope,
        jumps=tuple(float(k) for k in at[np.abs(above - below) > 1e-9]),
        odd=bool(np.allclose(right, -left, rtol=1e-14, atol=0)),
        homogeneous=bool(
            np.allclose(right, probe * ends[0], rtol=1e-14, atol=0)
            and np.allclose(left, probe * ends[1], rtol=1e-14, atol=0)
        ),
        closed=closed_form(name, params),
    )


def erf(x: Array) -> Array:
    """scipy's; imported late, which halves the time that importing this room takes."""
    from scipy.special import erf

    return np.asarray(erf(x))


def expit(x: Array) -> Array:
    """The logistic function, without scipy's import, right to rounding in both tails."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, small) / (1 + small))


Parts = tuple[Function, Function, tuple[float, ...], float]


def _one(x: Array) -> Array:
    return np.ones_like(x)


def _leaky(negative_slope: float = 0.01) -> Parts:
    return (
        lambda x: np.where(x > 0, x, negative_slope * x),
        lambda x: np.where(x > 0, 1.0, negative_slope),
        (0.0,),
        max(1.0, abs(negative_slope)),
    )


def _rrelu(lower: float = 1 / 8, upper: float = 1 / 3) -> Parts:
    return _leaky((lower + upper) / 2)


def _clip(min_val: float = -1.0, max_val: float = 1.0) -> Parts:
    if not min_val < max_val:
        raise InputError(f"hardtanh needs min_val < max_val; got {min_val:g} and {max_val:g}")
    return (
        lambda x: np.clip(x, min_val, max_val),
        lambda x: np.where((x > min_val) & (x < max_val), 1.0, 0.0),
        (min_val, max_val),
        1.0,
    )


def _exponential(alpha: float, rate: float, scale: float) -> Parts:
    """Elu and its kin: scale * x above 0, scale * alpha (exp(x / rate) - 1) below."""
    return (
        lambda x: scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / rate)),
        lambda x: scale * np.where(x > 0, 1.0, alpha / rate * np.exp(np.minimum(x, 0) / rate)),
        (0.0,),
        abs(scale) * max(1.0, abs(alpha / rate)),
    )


_SELU_ALPHA, _SELU_SCALE = 1.67326324235437728481704299167, 1.05070098735548049341933498529


def _gelu(approximate: str = "none") -> Parts:
    if approximate == "tanh":
        a, b = sqrt(2 / pi), 0.044715

        def inner(x: Array) -> Array:
            return np.tanh(a * (x + b * x**3))

        return (
            lambda x: x / 2 * (1 + inner(x)),
            lambda x: (1 + inner(x) + x * (1 - inner(x) ** 2) * a * (1 + 3 * b * x**2)) / 2,
            (),
            1.1289930687,
        )
    if approximate != "none":
        raise InputError(f"gelu has no approximation {approximate!r}; it takes 'none' or 'tanh'")

    def cdf(x: Array) -> Array:
        return np.asarray((1 + erf(x / sqrt(2))) / 2)

    return (
        lambda x: x * cdf(x),
        lambda x: cdf(x) + x * np.exp(-(x**2) / 2) / sqrt(2 * pi),
        (),
        1.1289041452,
    )


def _silu() -> Parts:
    return (
        lambda x: x * expit(x),
        lambda x: expit(x) * (1 + x * expit(-x)),
        (),
        1.0998393201,
    )


def _mish() -> Parts:
    def gate(x: Array) -> Array:
        return np.tanh(np.logaddexp(0, x))

    return (
        lambda x: x * gate(x),
        lambda x: gate(x) + x * (1 - gate(x) ** 2) * expit(x),
        (),
        1.0884981613,
    )


def _celu(alpha: float = 1.0) -> Parts:
    if alpha == 0:
        raise InputError("celu divides by alpha; it cannot be 0")
    return _exponential(alpha, alpha, 1.0)


def _softplus(beta: float = 1.0, threshold: float = 20.0) -> Parts:
    if beta == 0:
        raise InputError("softplus divides by beta; it cannot be 0")

    def smooth(x: Array) -> Array:
        return np.asarray(np.logaddexp(0, beta * x) / beta)

    if threshold >= 20:  # beyond it torch returns x, which differs by less than 3e-9
        return smooth, lambda x: expit(beta * x), (), 1.0
    return (
        lambda x: np.where(beta * x > threshold, x, smooth(x)),
        lambda x: np.where(beta * x > threshold, 1.0, expit(beta * x)),
        (threshold / beta,),
        1.0,
    )


def _hardsigmoid() -> Parts:
    return (
        lambda x: np.clip(x / 6 + 0.5, 0, 1),
        lambda x: np.where(np.abs(x) < 3, 1 / 6, 0.0),
        (-3.0, 3.0),
        1 / 6,
    )


def _hardswish() -> Parts:
    return (
        lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        lambda x: np.where(np.abs(x) < 3, x / 3 + 0.5, np.where(x > 0, 1.0, 0.0)),
        (-3.0, 3.0),
        1.5,
    )


def _check_shrink(lambd: float) -> None:
    if lambd < 0:
        raise InputError(f"lambd is {lambd:g}; what a shrink takes off is not negative")


def _hardshrink(lambd: float = 0.5) -> Parts:
    _check_shrink(lambd)
    return (
        lambda x: np.where(np.abs(x) > lambd, x, 0.0),
        lambda x: np.where(np.abs(x) > lambd, 1.0, 0.0),
        (-lambd, lambd),
        1.0,
    )


def _softshrink(lambd: float = 0.5) -> Parts:
    _check_shrink(lambd)
    return (
        lambda x: np.sign(x) * np.maximum(np.abs(x) - lambd, 0),
        lambda x: np.where(np.abs(x) > lambd, 1.0, 0.0),
        (-lambd, lambd),
        1.0,
    )


def _threshold(threshold: float = 0.0, value: float = 0.0) -> Parts:
    return (
        lambda x: np.where(x > threshold, x, value),
        lambda x: np.where(x > threshold, 1.0, 0.0),
        (threshold,),
        1.0,
    )


_TABLE: dict[str, Callable[..., Parts]] = {
    "linear": lambda: (lambda x: x, _one, (), 1.0),
    "relu": lambda: _leaky(0.0),
    "relu6": lambda: _clip(0.0, 6.0),
    "leaky_relu": _leaky,
    "prelu": lambda negative_slope=0.25: _leaky(negative_slope),
    "rrelu": _rrelu,
    "elu": lambda alpha=1.0: _exponential(alpha, 1.0, 1.0),
    "celu": _celu,
    "selu": lambda: _exponential(_SELU_ALPHA, 1.0, _SELU_SCALE),
    "gelu": _gelu,
    "silu": _silu,
    "mish": _mish,
    "softplus": _softplus,
    "sigmoid": lambda: (expit, lambda x: expit(x) * expit(-x), (), 0.25),
    "logsigmoid": lambda: (lambda x: -np.logaddexp(0, -x), lambda x: expit(-x), (), 1.0),
    "tanh": lambda: (np.tanh, lambda x: 1 - np.tanh(x) ** 2, (), 1.0),
    "hardtanh": _clip,
    "hardswish": _hardswish,
    "hardsigmoid": _hardsigmoid,
    "softsign": lambda: (
        lambda x: x / (1 + np.abs(x)),
        lambda x: (1 + np.abs(x)) ** -2.0,
        (0.0,),
        1.0,
    ),
    "hardshrink": _hardshrink,
    "softshrink": _softshrink,
    "tanhshrink": lambda: (lambda x: x - np.tanh(x), lambda x: np.tanh(x) ** 2, (), 1.0),
    "threshold": _threshold,
    "erf": lambda: (
        erf,
        lambda x: 2 / sqrt(pi) * np.exp(-np.square(x)),
        (),
        2 / sqrt(pi),
    ),
    "atan": lambda: (np.arctan, lambda x: 1 / (1 + np.square(x)), (), 1.0),
    "sin": lambda: (np.sin, np.cos, (), 1.0),
    "cos": lambda: (np.cos, lambda x: -np.sin(x), (), 1.0),
    "exp": lambda: (np.exp, np.exp, (), inf),
}

_ALIASES = {"swish": "silu", "identity": "linear", "arctan": "atan", "sine": "sin"}
_PLAIN = {name.replace("_", ""): name for name in _TABLE}

_NOT_ELEMENTWISE = "glu softmax softmax2d softmin logsoftmax gumbelsoftmax maxout".split()

NAMES = tuple(sorted(_TABLE))
"""Every activation that has a name here, but for aliases."""
