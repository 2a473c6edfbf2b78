"""Maps: what one layer does to the length of a signal and to the angle between two."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import acos, inf, isfinite, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isograd.errors import InputError
from isograd.theory.activations import Activation, activation
from isograd.theory.averages import whole
from isograd.theory.fixed_points import check_variances
from isograd.theory.kernels import derivative, product
from isograd.theory.moments import moments_at

Array = NDArray[np.float64]

MAX_DEPTH = 100_000
"""A layer takes some 10 microseconds; with an angle ten times as long or more."""


@dataclass(frozen=True, slots=True)
class Correlation:
    """What one layer makes of two signals of mean squares q1 and q2 and correlation c."""

    value: float
    """C(c), the new correlation."""
    slope: float
    """dC/dc; at a fixed length sigma_w^2 E[phi'(u1) phi'(u2)]; infinite where jumps of phi meet, as
    at c = 1."""
    covariance: float
    """sigma_w^2 E[phi(u1) phi(u2)] + sigma_b^2."""
    gradient: float
    """sigma_w^2 E[phi'(u1) phi'(u2)] with backpropagation's phi': the factor on the covariance of
    two gradients."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A network by depth; index 0 is the first pre-activation, every array is [depth + 1]."""

    q: Array
    """Mean square of the pre-activations."""
    c: Array | None
    """Correlation of two signals."""
    gradient: Array
    """Mean square of dLoss/d(pre-activation), relative to the last."""
    similarity: Array | None
    """Correlation of the gradients of two inputs, taken as 1 at the last."""


def length_map(
    act: object, q: ArrayLike, *, weight_var: float, bias_var: float = 0.0
) -> float | Array:
    """The mean square of the next pre-activations, sigma_w^2 E[phi(sqrt(q) z)^2] + sigma_b^2.

    Poole et al. 2016, Exponential expressivity in deep neural networks, equation 3.

    Args:
        act: as for `activation`.
        q: mean squares, any shape; the result has it too, a float for a number.
        weight_var: sigma_w^2, weights have the variance sigma_w^2 / fan_in.
        bias_var: sigma_b^2.

    Raises:
        InputError: the activation, a variance or a q cannot be used.
    """
    of = activation(act)
    check_variances(weight_var, bias_var)
    lengths = np.asarray(q, dtype=np.float64)
    squares = [moments_at(of, float(one))[0] for one in lengths.ravel()]
    out = weight_var * np.array(squares).reshape(lengths.shape) + bias_var
    return out if lengths.ndim else float(out)


def correlation_map(
    act: object,
    c: float,
    q: float,
    *,
    weight_var: float,
    bias_var: float = 0.0,
    q2: float | None = None,
) -> Correlation:
    """What a layer makes of the correlation of two signals.

    C(c) = (sigma_w^2 E[phi(u1) phi(u2)] + sigma_b^2) / sqrt(Q(q1) Q(q2)) (Poole et al. 2016,
    equation 5), by closed form, by Hermite series, or by quadrature split where phi is not smooth.

    Args:
        act: as for `activation`.
        c: correlation before, -1 to 1.
        q: mean square of the first signal; positive.
        weight_var: sigma_w^2.
        bias_var: sigma_b^2.
        q2: mean square of the second, where it differs.

    Raises:
        InputError: the activation or a number cannot be used, or nothing comes out of the layer.
    """
    of = activation(act)
    check_variances(weight_var, bias_var, q)
    check_variances(weight_var, bias_var, other := q if q2 is None else q2)
    if not -1 <= c <= 1:
        raise InputError(f"c is {c!r}; a correlation lies between -1 and 1")
    return _correlation(of, c, q, other, weight_var, bias_var)


def _correlation(
    act: Activation, c: float, q1: float, q2: float, weight_var: float, bias_var: float
) -> Correlation:
    size = sqrt(weight_var * moments_at(act, q1)[0] + bias_var) * sqrt(
        weight_var * moments_at(act, q2)[0] + bias_var
    )
    if size == 0:
        raise InputError(f"activation {act.name}: nothing comes out of a layer at q = {q1:.4g}")
    if c == 1 and q1 == q2:
        square, slope = moments_at(act, q1)
    else:
        square, slope = product(act, q1, q2, c)
    covariance = weight_var * square + bias_var
    gradient = weight_var * slope
    return Correlation(
        value=min(1.0, max(-1.0, covariance / size)),
        slope=weight_var * _growth(act, c, q1, q2, slope) * sqrt(q1) * sqrt(q2) / size,
        covariance=covariance,
        gradient=gradient,
    )


def _growth(act: Activation, c: float, q1: float, q2: float, slope: float) -> float:
    """dE[phi phi] / dCov: E[phi' phi'], and what jumps add."""
    if not act.jumps:
        return slope
    places = np.array(act.jumps)
    if (
        abs(c) == 1
        and np.isclose(places * sqrt(q2), c * sqrt(q1) * places[:, None], 1e-12, 0).any()
    ):
        return inf
    return derivative(act, q1, q2, acos(c))


def trajectory(
    act: object,
    depth: int,
    *,
    weight_var: float,
    bias_var: float = 0.0,
    q0: float = 1.0,
    c0: float | None = None,
    widths: Sequence[int] | None = None,
) -> Trajectory:
    """Length, correlation, gradient energy and gradient similarity at every depth.

    Backward, g_{l-1} = (n_l / n_{l-1}) chi_1(q_{l-1}) g_l (Schoenholz et al. 2017, section 4, with
    the widths that weights of variance sigma_w^2 / fan_in bring in).

    Args:
        act: as for `activation`.
        depth: layers phi, W, b after the first pre-activation, at most 100,000, with c0 10,000.
        weight_var: sigma_w^2.
        bias_var: sigma_b^2.
        q0: mean square of the first pre-activation.
        c0: correlation of two inputs' first pre-activations, both of mean square q0; without it
            only one input is followed.
        widths: n_0 … n_depth of the pre-activations; all alike without them.

    Raises:
        InputError: the activation or a number cannot be used, or the signal outgrows what is known.
    """
    of = activation(act)
    check_variances(weight_var, bias_var, q0)
    depth = whole("depth", depth, 0, MAX_DEPTH if c0 is None else MAX_DEPTH // 10)
    widths = [1] * (depth + 1) if widths is None else [whole("a width", n) for n in widths]
    if len(widths) != depth + 1:
        raise InputError(f"depth {depth} needs {depth + 1} positive widths; got {len(widths)}")
    if c0 is not None and not -1 <= c0 <= 1:
        raise InputError(f"c0 is {c0!r}; a correlation lies between -1 and 1")
    q, c, chi, alike = [q0], [c0], [], []
    for layer in range(depth):
        here, angle = q[-1], c[-1]
        square, slope = moments_at(of, here)
        chi.append(weight_var * slope)
        q.append(weight_var * square + bias_var)
        if not isfinite(q[-1]):
            raise InputError(f"the mean square overflows at layer {layer + 1}")
        if angle is not None:
            one = _correlation(of, angle, here, here, weight_var, bias_var)
            c.append(one.value)
            alike.append(one.gradient / chi[-1] if chi[-1] > 0 else 1.0)
    growth = np.array([1.0, *(x * b / a for x, a, b in zip(chi, widths, widths[1:], strict=False))])
    return Trajectory(
        q=np.array(q),
        c=None if c0 is None else np.array(c, dtype=np.float64),
        gradient=_from_the_end(growth[1:]),
        similarity=None if c0 is None else _from_the_end(np.array(alike)),
    )


def _from_the_end(factors: Array) -> Array:
    """Products of the factors from each place to the last, and 1 after it."""
    return np.append(np.cumprod(factors[::-1])[::-1], 1.0)


def gradient_similarity(
    act: object,
    depth: int,
    *,
    weight_var: float,
    bias_var: float = 0.0,
    q0: float = 1.0,
    c0: float = 0.0,
) -> float:
    """Correlation of two inputs' gradients at the first of `depth` layers, equal at the last.

    The product over layers of C'(c_l) / chi_1(q_l): gradients shatter where it is small (Balduzzi
    et al. 2017, The shattered gradients problem; here for any activation).

    Args:
        act: as for `activation`.
        depth: layers between.
        weight_var: sigma_w^2.
        bias_var: sigma_b^2.
        q0: mean square of both inputs' first pre-activations.
        c0: their correlation.

    Raises:
        InputError: as for `trajectory`.
    """
    along = trajectory(act, depth, weight_var=weight_var, bias_var=bias_var, q0=q0, c0=c0)
    assert along.similarity is not None
    return float(along.similarity[0])
