"""Discovery: what kind of activation a module or callable is, found by asking it."""

from collections.abc import Callable
from copy import deepcopy
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isograd.errors import InputError
from isograd.theory.activations import Activation, known_name, named
from isograd.theory.resolution import resolve

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

_PARAMETERS = {
    "leaky_relu": ("negative_slope",),
    "rrelu": ("lower", "upper"),
    "elu": ("alpha",),
    "celu": ("alpha",),
    "gelu": ("approximate",),
    "softplus": ("beta", "threshold"),
    "hardtanh": ("min_val", "max_val"),
    "hardshrink": ("lambd",),
    "softshrink": ("lambd",),
    "threshold": ("threshold", "value"),
}
"""What a torch module holds that its activation depends on."""
_KNOWN: dict[tuple[type, str], tuple[float, ...]] = {}
"""Kinks of modules that were asked before: to find them takes thousands of values."""
_MOST_KNOWN = 256
_COARSE = (
    "activation {name} computes in float32 or less, which is too coarse to be integrated; "
    "keep the dtype of its input, float64"
)


def discover(x: object, *, kinks: tuple[float, ...] | None = None, **params: Any) -> Activation:
    """The activation of a torch module, module class, functional or any elementwise callable.

    Args:
        x: as for `activation`, but a name.
        kinks: of a callable, where it or its slope jumps; found by themselves without.
        params: of a module class or a functional of torch.

    Raises:
        InputError: it is not elementwise, not finite, random, or takes no such parameter.
    """
    if isinstance(x, type):
        return _of_class(x, params)
    if not callable(x):
        raise InputError(
            f"an activation is a name, a module or a function of arrays, not {type(x).__name__}"
        )
    found = _of_torch(x, params)
    if found is not None and kinks is None:
        return found
    if params:
        raise InputError(f"{_name(x)} is a callable: it takes kinks=(…) and no {', '.join(params)}")
    return _of_callable(x, None if kinks is None else _declared(kinks))


def _declared(kinks: Any) -> tuple[float, ...]:
    try:
        found = tuple(sorted(float(k) for k in kinks))
    except (TypeError, ValueError):
        found = (inf,)
    if not all(map(isfinite, found)):
        raise InputError(f"kinks are finite numbers, as in kinks=(0.3,); got {kinks!r}")
    return found


def _of_class(kind: type, params: dict[str, Any]) -> Activation:
    name = known_name(kind.__name__)
    if name is not None and _has_activations(kind):
        return named(name, **params)
    try:
        made = kind(**params)
    except Exception as error:
        raise InputError(f"{kind.__name__}({params or ''}) raised {error!r}") from error
    return discover(made)


def _of_torch(x: Any, params: dict[str, Any]) -> Activation | None:
    """A module or functional of torch that the table knows, with its parameters."""
    kind = type(x)
    if _has_activations(kind):
        name = known_name(kind.__name__)
        if name == "prelu":
            slopes = set(x.weight.detach().reshape(-1).tolist())
            if len(slopes) > 1:
                raise InputError(
                    f"this PReLU has {len(slopes)} different slopes; ask for one at a time, as "
                    'activation("prelu", negative_slope=…)'
                )
            return named(name, negative_slope=slopes.pop())
        if name is not None:
            return named(name, **{key: getattr(x, key) for key in _PARAMETERS.get(name, ())})
        return None
    name = known_name(getattr(x, "__name__", ""))
    return named(name, **params) if name is not None and _is_of_torch(x, name) else None


def _has_activations(kind: type) -> bool:
    """Whether it is a module of torch that may be an activation; `Linear` is none."""
    return kind.__module__ == "torch.nn.modules.activation" or (
        kind.__module__ == "torch.nn.modules.linear" and kind.__name__ == "Identity"
    )


def _is_of_torch(x: Any, name: str) -> bool:
    """Whether it is the function that torch itself has under a name."""
    import torch

    return name != "linear" and any(
        x is getattr(home, name, None) for home in (torch.nn.functional, torch)
    )


def _of_callable(x: Any, kinks: tuple[float, ...] | None) -> Activation:
    name = _name(x)
    value, slope = _torch_functions(x) or _numpy_functions(x, name)
    _check(value, name)
    if kinks is None:
        alike = _alike(x)
        kinks = _KNOWN.get(alike) if alike else None
        if kinks is None:
            kinks = _found_kinks(value, slope, name)
            if alike and len(_KNOWN) < _MOST_KNOWN:
                _KNOWN[alike] = kinks
    probe = np.geomspace(1e-3, 13, 65)
    right, left, ends = value(probe), value(-probe), value(np.array([1.0, -1.0]))
    size = float(np.abs(np.concatenate([right, left])).max())
    odd = bool(np.allclose(right, -left, rtol=1e-12, atol=1e-15 * size))
    straight = bool(
        np.allclose(right, probe * ends[0], rtol=1e-12, atol=1e-15 * size)
        and np.allclose(left, probe * ends[1], rtol=1e-12, atol=1e-15 * size)
    )
    return Activation(
        name,
        value,
        slope,
        kinks,
        _largest_slope(slope),
        jumps=tuple(np.array(kinks)[_jumps(value, np.array(kinks))].tolist()),
        odd=odd,
        homogeneous=straight,
    )


def _alike(x: Any) -> tuple[type, str] | None:
    """What modules that compute the same have in common: class and settings.

    None where more than that may go into what one computes: parameters, buffers, other modules,
    hooks.
    """
    import torch

    if not isinstance(x, torch.nn.Module):
        return None
    own = {k: v for k, v in vars(x).items() if k not in vars(torch.nn.Module())}
    plain = all(type(v) in (bool, int, float, str, type(None)) for v in own.values())
    held = [*x.parameters(), *x.buffers(), *x.children(), *x._forward_hooks, *x._forward_pre_hooks]
    return (type(x), repr(sorted(own.items()))) if plain and not held else None


def _found_kinks(value: Function, slope: Function, name: str) -> tuple[float, ...]:
    try:
        spots = _clusters(resolve(value, slope, (), name).unresolved)
        features = resolve(value, slope, spots, name)
    except InputError:
        y = value(np.linspace(-8, 8, 321))
        with np.errstate(over="ignore"):
            coarse = np.array_equal(y, y.astype(np.float32))
        if coarse:
            raise InputError(_COARSE.format(name=name)) from None
        raise
    places = np.union1d(features.edges, spots)
    return tuple(places[_bends(value, slope, places)].tolist())


def _name(x: Any) -> str:
    return str(getattr(x, "__name__", type(x).__name__))


def _torch_functions(x: Any) -> tuple[Function, Function] | None:
    """Value and slope through float64 tensors and autograd; None where x takes no tensor."""
    import torch

    call = x
    if isinstance(x, torch.nn.Module):
        call = deepcopy(x).double().eval()
    # An even number, so that what halves its input (GLU) is told what it is.
    probe = torch.linspace(-1, 1, 6, dtype=torch.float64, requires_grad=True)
    try:
        with torch.enable_grad():
            out = call(probe.clone())
            if not isinstance(out, torch.Tensor):
                return None
            if out.is_complex():
                raise InputError(f"activation {_name(x)} returns complex numbers")
            if out.is_floating_point() and out.dtype != torch.float64:
                raise InputError(_COARSE.format(name=_name(x)))
            if out.requires_grad and out.shape == probe.shape:
                torch.autograd.grad(out.sum(), probe)
    except InputError:
        raise
    except Exception as error:
        if isinstance(x, torch.nn.Module):
            raise InputError(f"activation {_name(x)} raised on 6 numbers: {error}") from error
        return None

    def value(a: Array) -> Array:
        with torch.no_grad():
            try:
                out = call(torch.from_numpy(np.array(a, dtype=np.float64)))
            except Exception as error:
                raise InputError(
                    f"activation {_name(x)} raised on {a.shape} numbers, so that it is not "
                    f"elementwise: {error}"
                ) from error
            return np.asarray(out.detach().double().numpy())

    def slope(a: Array) -> Array:
        with torch.enable_grad():
            leaf = torch.from_numpy(np.array(a, dtype=np.float64)).requires_grad_()
            out = call(leaf.clone())  # it may work in place
            if not out.requires_grad:
                return np.zeros_like(a)
            (found,) = torch.autograd.grad(out.sum(), leaf, allow_unused=True)
            return np.zeros_like(a) if found is None else np.asarray(found.numpy())

    return value, slope


def _numpy_functions(x: Any, name: str) -> tuple[Function, Function]:
    """Value as it is, slope by the derivative of an interpolant on each side of x.

    Windows that grow with x: on narrow ones rounding of a large value drowns its slope.
    """

    def value(a: Array) -> Array:
        try:
            return np.asarray(x(a), dtype=np.float64)
        except Exception as error:
            raise InputError(
                f"activation {name} takes neither a torch tensor nor a numpy array: {error}"
            ) from error

    nodes, to_coefficients, derive = _interpolation()

    def slope(a: Array) -> Array:
        # Two windows, one on either side: the one that a polynomial fits has no kink inside.
        here = value(a)
        found, best = np.zeros_like(a), np.full_like(a, inf)
        for side, end in ((1.0, 0), (-1.0, 1)):
            for width in (np.maximum(0.25, np.abs(a) / 8), *np.array([[0.25], [0.01]])):
                middle = (a + side * width)[..., None]
                values = value(middle + width[..., None] * nodes)
                coefficients = values @ to_coefficients.T
                tail = np.abs(coefficients[..., -2:]).max(axis=-1)
                # A kink within the window's last hair shows in the end itself.
                miss = np.abs(coefficients @ (-side) ** np.arange(len(nodes)) - here)
                noise = (tail + miss + 1e-16 * np.abs(coefficients).max(axis=-1)) / width
                better = noise < 0.5 * best
                found = np.where(better, coefficients @ derive[end] / width, found)
                best = np.where(better, noise, best)
        return found

    return value, slope


def _interpolation() -> tuple[Array, Array, Array]:
    """Chebyshev nodes, values to coefficients, and T_k' at -1 and 1."""
    degree = 13
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    inverse = np.linalg.inv(np.polynomial.chebyshev.chebvander(nodes, degree))
    unit = np.eye(degree + 1)
    derivatives = np.polynomial.chebyshev.chebder(unit)
    derive = np.polynomial.chebyshev.chebval(np.array([-1.0, 1.0]), derivatives)
    return nodes, np.asarray(inverse, np.float64), np.asarray(derive.T)


def _check(value: Function, name: str) -> None:
    """Refuses what is random, not elementwise, or not finite within 13 standard deviations."""
    x = np.linspace(-13, 13, 521)
    with np.errstate(all="ignore"):
        y = value(x)
        if y.shape != x.shape:
            raise InputError(
                f"activation {name} is not elementwise: {x.shape} became {y.shape}; "
                "give a function with one output per input"
            )
        if not np.array_equal(y, value(x), equal_nan=True):
            raise InputError(f"activation {name} is random: two calls differ; give its mean")
        alone, turned = value(x[7:8]), value(x[::-1].copy())[::-1]
        matrix = value(x[:520].reshape(26, 20)).ravel()
    bad = x[~np.isfinite(y)]
    if len(bad):
        raise InputError(
            f"activation {name} is not finite at x = {bad[np.abs(bad).argmin()]:.4g}; "
            "a Gaussian input needs it finite from -13 to 13"
        )
    scale = 1e-9 * np.maximum(np.abs(y), 1e-3)
    if not (
        np.all(np.abs(turned - y) <= scale)
        and np.all(np.abs(alone - y[7:8]) <= scale[7:8])
        and np.all(np.abs(matrix - y[:520]) <= scale[:520])
    ):
        raise InputError(
            f"activation {name} is not elementwise: an output depends on other inputs "
            "(as in softmax or a norm)"
        )


def _clusters(spots: Array) -> tuple[float, ...]:
    """One place for each run of unresolved points, rounded where that is what it surely is."""
    kept: list[float] = []
    for spot in np.sort(spots).tolist():
        if not kept or spot - kept[-1] > 1e-9 * max(1.0, abs(spot)):
            kept.append(spot)
    return tuple(r if abs((r := round(k, 10)) - k) < 1e-11 * max(1.0, abs(k)) else k for k in kept)


def _bends(value: Function, slope: Function, places: Array) -> NDArray[np.bool_]:
    """Whether value, slope or curvature differ between the two sides of each point."""
    gaps = []
    for step in (1e-3, 1e-4):
        h = step * np.maximum(1.0, np.abs(places))
        a, b, c, d = slope(places + h * np.array([[-2.0], [-1.0], [1.0], [2.0]]))
        gaps.append(np.abs((d - c) - (b - a)) / h)
        size = (np.abs(d - c) + np.abs(b - a)) / h
    curved = (gaps[1] > 0.5 * gaps[0]) & (gaps[1] > np.maximum(1e-3 * size, 1e-6))
    return np.asarray(curved | _jumps(value, places) | _jumps(slope, places))


def _jumps(f: Function, places: Array) -> NDArray[np.bool_]:
    """Whether the difference between two sides of each point stays as they close in."""
    h = np.maximum(1.0, np.abs(places)) * np.array([[1e-7], [1e-9]])
    wide, narrow = np.abs(f(places + h) - f(places - h))
    middle = np.abs(f(np.linspace(-8, 8, 33))).max()
    around = np.abs(f(places + np.array([[-1.0], [1.0]]))).max(axis=0, initial=middle)
    return np.asarray((narrow > 0.5 * wide) & (narrow > 1e-8 * around))


def _largest_slope(slope: Function) -> float:
    """Supremum of |phi'|; inf where it still grows at the end."""
    inner = float(np.abs(slope(np.linspace(-40, 40, 16_001))).max())
    with np.errstate(all="ignore"):
        outer = float(np.nan_to_num(np.abs(slope(np.array([-80.0, 80.0]))), nan=inf).max())
    return inner if outer <= inner * (1 + 1e-3) else inf
