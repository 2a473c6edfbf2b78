"""Closed forms: E[phi(u1) phi(u2)] and E[phi'(u1) phi'(u2)] where mathematics has them.

All take Var u1, Var u2 and their covariance.
"""

from collections.abc import Callable
from functools import partial
from math import acos, asin, atan2, cosh, exp, pi, sinh, sqrt

Closed = Callable[[float, float, float], tuple[float, float]]


def closed_form(name: str, params: dict[str, float | str]) -> Closed | None:
    """The closed form of an activation of the table, or None."""
    if name == "rrelu":
        ends = (float(params.get(key, default)) for key, default in _RRELU)
        return partial(_leaky, slope=sum(ends) / 2)
    if name in _SLOPES:
        return partial(_leaky, slope=_SLOPES[name])
    if name in ("leaky_relu", "prelu"):
        default = 0.01 if name == "leaky_relu" else 0.25
        return partial(_leaky, slope=float(params.get("negative_slope", default)))
    if name == "gelu" and params.get("approximate", "none") != "none":
        return None
    return _FORMS.get(name)


def _leaky(q1: float, q2: float, k: float, *, slope: float) -> tuple[float, float]:
    """Cho and Saul, Kernel methods for deep learning (2009), section 2; with a leak."""
    size = q1 if q1 == q2 else sqrt(q1) * sqrt(q2)  # q1 q2 leaves float64 before they do
    c = min(1.0, max(-1.0, k / size)) if size > 0 else 1.0
    open_share = (pi - acos(c)) / pi
    ramp = sqrt(1 - c * c) / pi + open_share * c
    bent = (1 - slope) ** 2 / 2
    return size * (bent * ramp + slope * c), bent * open_share + slope


def _erf(q1: float, q2: float, k: float) -> tuple[float, float]:
    """Williams, Computing with infinite networks (1997), equation 11."""
    width = (1 + 2 * q1) * (1 + 2 * q2)
    return 2 / pi * asin(2 * k / sqrt(width)), 4 / pi / sqrt(width - 4 * k * k)


def _sin(q1: float, q2: float, k: float) -> tuple[float, float]:
    """From E cos(u) = exp(-Var u / 2) for u1 - u2 and u1 + u2."""
    if abs(k) < 1:
        size = exp(-(q1 + q2) / 2)
        return size * sinh(k), size * cosh(k)
    apart, together = exp(-(q1 + q2) / 2 + k), exp(-(q1 + q2) / 2 - k)
    return (apart - together) / 2, (apart + together) / 2


def _cos(q1: float, q2: float, k: float) -> tuple[float, float]:
    value, slope = _sin(q1, q2, k)
    return slope, value


def _exp(q1: float, q2: float, k: float) -> tuple[float, float]:
    moment = exp((q1 + q2) / 2 + k)
    return moment, moment


def _gelu(q1: float, q2: float, k: float) -> tuple[float, float]:
    """E[u1 u2 Phi(u1) Phi(u2)] by Stein's lemma; Tsuchida et al. (2021) for the value.

    With p = P(n1 < u1, n2 < u2) for standard normals n, its derivatives by the covariance and by
    the variances give the rest.
    """
    s1, s2 = 1 + q1, 1 + q2
    # Not s1 s2 - k^2, which cancels where q is large.
    spread = 1 + q1 + q2 + max(0.0, q1 * q2 - k * k)
    root = sqrt(spread)
    p = 0.25 + atan2(k, root) / (2 * pi)
    # Derivatives of p by k, Var u1, Var u2: p depends on r = k / sqrt(s1 s2) alone.
    by_k = 1 / (2 * pi * root)
    by_1, by_2 = -k / (2 * s1) * by_k, -k / (2 * s2) * by_k
    # E[u1 u2 f] = k E f + (k^2 + q1 q2) E d12 f + k (q1 E d11 f + q2 E d22 f) + ... by Stein;
    # d12 of f = Phi Phi is dp/dk, d11 is 2 dp/dq1, and E[d1122] = d^2 p / dq1 dq2 * 4.
    value = k * p + (k * k + q1 * q2) * by_k + 2 * k * (q1 * by_1 + q2 * by_2)
    return value, _gelu_slope(q1, q2, k, p, root)


def _gelu_slope(q1: float, q2: float, k: float, p: float, root: float) -> float:
    """The derivative of the value by k: Price's theorem."""
    s1, s2 = 1 + q1, 1 + q2
    by_k = 1 / (2 * pi * root)
    curve = by_k * k / root**2
    inner = k * k + q1 * q2 - k * k * (q1 / s1 + q2 / s2)
    return p + k * by_k + inner * curve + 2 * k * (1 - q1 / s1 - q2 / s2) * by_k


_SLOPES = {"linear": 1.0, "relu": 0.0}
_RRELU = (("lower", 1 / 8), ("upper", 1 / 3))
_FORMS: dict[str, Closed] = {"erf": _erf, "sin": _sin, "cos": _cos, "exp": _exp, "gelu": _gelu}
