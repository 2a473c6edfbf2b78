"""Dropout: the angle that noise keeps between two passes of one input, and its depth scale."""

from dataclasses import dataclass
from math import log

from isograd.errors import InputError
from isograd.theory.activations import Activation, activation
from isograd.theory.averages import LEAST_ANGLE, averages, number
from isograd.theory.criticality import critical
from isograd.theory.fixed_points import phase
from isograd.theory.maps import correlation_map
from isograd.theory.roots import root


@dataclass(frozen=True, slots=True)
class DropoutPhase:
    """Where depth leads a network with dropout on every layer. None: there is no such number."""

    keep: float
    weight_var: float | None
    bias_var: float
    q_star: float | None
    """Fixed length of the pre-activations."""
    chi_1: float | None
    """Factor on the gradient energy per layer backward, sigma_w^2 E phi'^2 / keep."""
    c_star: float | None
    """Correlation of two inputs, or two passes of one, under independent masks; below 1."""
    chi_c: float | None
    """Slope of the correlation map at c_star."""
    xi_c: float | None
    """Layers over which the angle forgets its input by a factor e, -1/ln chi_c."""
    reason: str


def dropout_phase(
    act: object, *, keep: float, weight_var: float | None = None, bias_var: float = 0.0
) -> DropoutPhase:
    """Fixed points of length and angle with inverted dropout on the activations.

    q <- sigma_w^2 E phi^2 / keep + sigma_b^2; masks of two passes are independent, so that the
    covariance gets no 1/keep: C(c) = (sigma_w^2 E[phi phi] + sigma_b^2) / q and c = 1 is no fixed
    point (Schoenholz et al., Deep information propagation, 2017, section 5; Pretorius et al.,
    Critical initialisation for deep signal propagation in noisy rectifier networks, 2018).

    Args:
        act: whatever `activation` takes.
        keep: probability that an activation is kept, above 0, at most 1.
        weight_var: sigma_w^2; None for the critical one, chi_1 = 1 (ReLU: 2 keep).
        bias_var: sigma_b^2.

    Raises:
        InputError: an argument out of its range.
    """
    phi = activation(act)
    if not 0 < keep <= 1:
        raise InputError(f"keep is above 0 and at most 1; got {keep!r}")
    number("bias_var", bias_var)
    free, moved = phi.homogeneous and bias_var == 0, ""
    # The length sees sigma_w^2 / keep as its weight variance.
    if weight_var is None:
        point = critical(phi, bias_var=bias_var)
        if point.weight_var is None:
            return DropoutPhase(keep, None, bias_var, *(None,) * 5, point.reason)
        weight_var = keep * point.weight_var
        # A half-stable activation has its critical point at a bias variance of its own.
        if point.bias_var not in (None, bias_var):
            bias_var, moved = point.bias_var, f"; {point.reason}"
        q = point.q_star
    else:
        number("weight_var", weight_var, above=0)
        there = phase(phi, weight_var=weight_var / keep, bias_var=bias_var)
        if there.q_star is None and not free:
            return DropoutPhase(keep, weight_var, bias_var, *(None,) * 5, there.reason)
        q = there.q_star
    q = 1.0 if free else q
    if keep == 1:
        return DropoutPhase(1.0, weight_var, bias_var, q, *_undropped(phi, weight_var, bias_var))
    if q is None or q < LEAST_ANGLE:
        why = "the length falls to 0, where no angle is left"
        return DropoutPhase(keep, weight_var, bias_var, q, *(None,) * 4, why)
    of_one = averages(phi, q)
    chi_1 = weight_var * of_one.slope_square / keep
    # Scale-invariant: the length after one layer, whatever it is, is the norm.
    norm = weight_var * of_one.square / keep if free else q

    def step(c: float) -> tuple[float, float]:
        of = correlation_map(phi, c, q, weight_var=weight_var, bias_var=bias_var)
        return of.covariance / norm, of.slope * (weight_var * of_one.square + bias_var) / norm

    # C is convex on [0, 1] with C(0) >= 0, and C(1) < 1 where anything is dropped.
    start = step(0.0)[0]
    c = root(lambda t: step(t)[0] - t, 0.0, 1.0) if start > 0 else 0.0
    chi_c = step(c)[1]
    xi_c = -1 / log(chi_c) if 0 < chi_c < 1 else None
    why = "two passes of one input come to the same correlation as two inputs" + moved
    return DropoutPhase(keep, weight_var, bias_var, q, chi_1, c, chi_c, xi_c, why)


def dropout_moments(mean: float, variance: float, *, keep: float) -> tuple[float, float]:
    """Mean and variance after inverted dropout: mean, (variance + mean^2)/keep - mean^2.

    Raises:
        InputError: an argument out of its range.
    """
    if not 0 < keep <= 1:
        raise InputError(f"keep is above 0 and at most 1; got {keep!r}")
    number("mean", mean, least=-1e150)
    number("variance", variance)
    return mean, (variance + mean**2) / keep - mean**2


def _undropped(
    phi: Activation, weight_var: float, bias_var: float
) -> tuple[float | None, float | None, float | None, float | None, str]:
    of = phase(phi, weight_var=weight_var, bias_var=bias_var)
    return of.chi_1, of.c_star, of.chi_c, of.xi_c, f"nothing is dropped: {of.reason}"
