"""Finite width: how far one random network strays from what holds on average."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isograd.errors import InputError
from isograd.theory.activations import Activation, activation
from isograd.theory.averages import Averages, averages, number, whole
from isograd.theory.criticality import critical
from isograd.theory.fixed_points import phase
from isograd.theory.gains import gains

Array = NDArray[np.float64]

_LARGEST_BETA = 700.0


@dataclass(frozen=True, slots=True)
class Fluctuation:
    """How far energies of one random network stray from their mean, by weight layers passed.

    All arrays [layers]; entry l - 1 is after l layers. They end where nothing passes on.
    """

    widths: tuple[int, ...]
    """Of the layers' outputs."""
    q: Array
    """Length of the pre-activations at infinite width."""
    kernel_beta: Array
    """Variance of the next layer's kernel, relative to its square: Roberts' V / (n K^2)."""
    forward_beta: Array
    """First-order variance of ln mean square of a layer's pre-activations."""
    backward_beta: Array
    """The same of |J v|^2, J the Jacobian of so many layers and v one direction: the energy of a
    gradient that has come back through them."""
    forward: Array
    """std/mean of the forward energy, sqrt(exp(beta) - 1); infinite beyond beta = 700."""
    backward: Array
    """std/mean of the backward energy."""
    reason: str
    """Where the numbers are to be trusted."""


def finite_width(
    act: object,
    *,
    depth: int | None = None,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    weights: Literal["gaussian", "orthogonal"] = "gaussian",
    weight_var: float | None = None,
    bias_var: float = 0.0,
    q: float | None = None,
) -> Fluctuation:
    """Fluctuation of forward and backward energies over random draws of the weights.

    To first order in 1/width, the kernel K_{l+1} = sigma_w^2 mean phi(z)^2 + sigma_b^2 of a layer
    of n units, z of variance K_l, strays by
    dK <- dQ/dq dK + sigma_w^2 (mean phi^2 - E phi^2), variance V <- (dQ/dq)^2 V +
    sigma_w^4 Var phi^2 (Roberts, Yaida and Hanin, The principles of deep learning theory, 2022,
    section 4.3); ln of a gradient's energy by d ln E phi'^2/dq dK plus noise of variance
    (3 E phi'^4/(E phi'^2)^2 - 1)/n (Hanin and Nica, Products of many large random matrices and
    gradients in deep neural networks, 2018). Both are followed together, correlated noise
    included. Orthogonal weights keep the norm: what of the noise is proportional to it is taken
    off, 3 (E phi'^4/(E phi'^2)^2 - 1) for scale-invariant activations. Beyond depth/width of about
    0.2 the first order underestimates; energies are then taken as log-normal.

    Args:
        act: whatever `activation` takes.
        depth: number of weight layers; with `width`.
        width: of every layer.
        widths: instead, the layers' output widths in order.
        weights: how they are drawn; orthogonal ones are square.
        weight_var: sigma_w^2; None for the critical one.
        bias_var: sigma_b^2.
        q: length of the first pre-activations; None for the fixed point (1 where there is none).

    Raises:
        InputError: an argument out of its range, or no critical weights where none are given.
    """
    phi = activation(act)
    if widths is None:
        if depth is None or width is None:
            raise InputError("a finite width needs depth and width, or widths")
        widths = [whole("width", width)] * whole("depth", depth, 1, 100_000)
    elif depth is not None or width is not None:
        raise InputError("give depth and width, or widths; not both")
    sizes = tuple(whole("a width", n) for n in widths)
    if not sizes:
        raise InputError("widths are empty")
    if weights not in ("gaussian", "orthogonal"):
        raise InputError(f"weights are 'gaussian' or 'orthogonal'; got {weights!r}")
    number("bias_var", bias_var)
    weight_var, bias_var, start, moved = _place(phi, weight_var, bias_var, q)
    found = _follow(phi, sizes, weights == "orthogonal", weight_var, bias_var, start)
    return replace(found, reason=found.reason + moved)


def _place(
    phi: Activation, weight_var: float | None, bias_var: float, q: float | None
) -> tuple[float, float, float, str]:
    """(sigma_w^2, sigma_b^2, length of the first pre-activations, what else is to be said)."""
    found, moved = None, ""
    if weight_var is None:
        point = critical(phi, bias_var=bias_var)
        if point.weight_var is None:
            raise InputError(
                f"{phi.name} has no critical weights ({point.reason}); give weight_var"
            )
        weight_var, found = point.weight_var, point.q_star
        # A half-stable activation has its critical point at a bias variance of its own.
        if point.bias_var not in (None, bias_var):
            bias_var, moved = point.bias_var, f"; {point.reason}"
    elif q is None and not phi.homogeneous:
        found = phase(phi, weight_var=weight_var, bias_var=bias_var).q_star
    number("weight_var", weight_var, above=0)
    # A fixed point of 0 is approached from above for ever.
    start = number("q", q if q is not None else (found or 1.0), above=0)
    return weight_var, bias_var, start, moved


def _follow(
    phi: Activation,
    widths: tuple[int, ...],
    orthogonal: bool,
    weight_var: float,
    bias_var: float,
    q: float,
) -> Fluctuation:
    # Covariance of (d ln K, d ln gradient).
    covariance = np.zeros((2, 2))
    rows = []
    for n in widths:
        of = averages(phi, q)
        following = weight_var * of.square + bias_var
        if not (0 < following < inf and of.slope_square > 0 and of.fourth + of.slope_fourth < inf):
            break
        # Part of the length that weights give and orthogonal ones hold fixed.
        held = max(0.0, q - bias_var) if orthogonal else 0.0
        own = covariance[0, 0] + 2 * (1 - (held / q) ** 2) / n
        step, noise = _step(of, q, following, weight_var, held)
        covariance = step @ covariance @ step.T + noise / n
        rows.append((q, covariance[0, 0], own, covariance[1, 1]))
        q = following
    found = np.array(rows).reshape(-1, 4).T
    beta = found[1:].max(initial=0.0)
    if len(rows) < len(widths):
        reason = f"after {len(rows)} layers nothing passes, or more than float64 holds"
    elif beta > 1:
        reason = "energies are log-normal: one network tells little of the mean over networks"
    elif beta > 0.2:
        reason = "first order in 1/width still; the log-normal bands hold where beta is not small"
    else:
        reason = "first order in 1/width is enough"
    lengths, kernel, ahead, back = found
    both = _relative(ahead), _relative(back)
    return Fluctuation(widths, lengths, kernel, ahead, back, *both, reason)


def _step(
    of: Averages, q: float, following: float, weight_var: float, held: float
) -> tuple[Array, Array]:
    """How a layer carries (d ln K, d ln gradient) on, and the covariance it adds, times n."""
    tilt = of.slope_growth / of.slope_square
    carried = np.array(
        [[weight_var * of.square_growth * q / following, 0.0], [tilt * q, 1.0]], dtype=np.float64
    )
    factor = weight_var / following
    forward = of.fourth - of.square**2 - 2 * (of.square_growth * held) ** 2
    both = of.both / of.slope_square - of.square - 2 * of.square_growth * tilt * held**2
    backward = 3 * of.slope_fourth / of.slope_square**2 - 1 - 2 * (tilt * held) ** 2
    if held:
        backward -= 2
    noise = [[factor**2 * forward, factor * both], [factor * both, backward]]
    return carried, np.array(noise)


def _relative(beta: Array) -> Array:
    """std/mean of a log-normal energy whose logarithm has variance beta."""
    held = np.clip(beta, 0.0, _LARGEST_BETA)
    return np.where(beta > _LARGEST_BETA, inf, np.sqrt(np.expm1(held)))


def band(layers: Sequence[tuple[int, str]]) -> list[float]:
    """Standard deviation of ln rms, over random Gaussian weights, after each of some layers.

    The energy of what a random network makes of one vector is log-normal (Hanin and Nica, Products
    of many large random matrices and gradients in deep neural networks, 2018): ln energy has
    variance beta = sum of kappa/n over the layers, and ln rms, half of it, beta/4. Exact to first
    order in 1/n for piecewise linear activations; for bounded ones an upper bound of the forward
    signal, which they pull back to its fixed point.

    Args:
        layers: for each weight layer in order of execution its fan-in, and the activation that its
            inputs come out of (`linear` where there is none, as for the data).

    Returns:
        One number per layer, natural logarithm; infinite from a fan-in of 0, or from an activation
        that lets nothing pass, on.

    Raises:
        InputError: there is no such activation.
    """
    beta, deviations = 0.0, []
    for fan_in, name in layers:
        beta += kappa(name) / fan_in if fan_in else inf
        deviations.append(sqrt(beta) / 2)
    return deviations


def kappa(name: str) -> float:
    """Variance of ln energy that a layer adds, times its fan-in: 3 E phi'^4/(E phi'^2)^2 - 1.

    2 without an activation, 5 for ReLU.
    """
    of = gains(name)
    return 3 * of.slope_fourth / of.slope_moment**2 - 1 if of.slope_moment else inf
