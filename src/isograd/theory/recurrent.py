"""Recurrent: length and angle of a recurrent network's state, and its Jacobian per step."""

from dataclasses import dataclass
from math import log

from isograd.errors import InputError
from isograd.theory.activations import activation
from isograd.theory.averages import LEAST_ANGLE, averages, number
from isograd.theory.fixed_points import phase
from isograd.theory.maps import correlation_map
from isograd.theory.roots import root


@dataclass(frozen=True, slots=True)
class RecurrentStep:
    """Two states after one step."""

    q: float
    """Mean square of each."""
    c: float
    """Their correlation."""
    chi_1: float
    """Factor on the gradient energy through this step, sigma_w^2 E phi'^2."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Where many steps lead a recurrent network. None: there is no such number."""

    q_star: float | None
    chi_1: float | None
    """Factor on the gradient energy per step back in time."""
    c_star: float | None
    """Correlation of two states driven by inputs of the given correlation."""
    chi_c: float | None
    """Slope of the correlation map at c_star."""
    xi_c: float | None
    """Steps over which the angle is forgotten by a factor e, -1/ln chi_c."""
    reason: str


def recurrent_step(
    act: object,
    q: float,
    c: float,
    *,
    weight_var: float,
    input_var: float = 0.0,
    input_square: float = 1.0,
    input_correlation: float = 1.0,
    bias_var: float = 0.0,
) -> RecurrentStep:
    """One step of h <- W phi(h) + V x + b for two sequences.

    q <- sigma_w^2 E phi^2 + sigma_v^2 R + sigma_b^2; the covariance gets sigma_v^2 R Sigma (Chen,
    Pennington and Schoenholz, Dynamical isometry and a mean field theory of RNNs, 2018, section 3).

    Args:
        act: whatever `activation` takes.
        q: mean square of the states' pre-activations.
        c: their correlation.
        weight_var: sigma_w^2 of W.
        input_var: sigma_v^2 of V, relative to its fan-in.
        input_square: R, mean square of the inputs' entries.
        input_correlation: Sigma, correlation of the two sequences' inputs.
        bias_var: sigma_b^2.

    Raises:
        InputError: an argument out of its range.
    """
    phi = activation(act)
    number("q", q, above=0)
    if not -1 <= c <= 1:
        raise InputError(f"c is from -1 to 1; got {c!r}")
    drive = _drive(weight_var, input_var, input_square, input_correlation, bias_var)
    of = averages(phi, q)
    following = weight_var * of.square + bias_var + drive
    both = correlation_map(phi, c, q, weight_var=weight_var, bias_var=bias_var).covariance
    shared = both + drive * input_correlation
    new = min(1.0, max(-1.0, shared / following)) if following else c
    return RecurrentStep(following, new, weight_var * of.slope_square)


def recurrence(
    act: object,
    *,
    weight_var: float,
    input_var: float = 0.0,
    input_square: float = 1.0,
    input_correlation: float = 1.0,
    bias_var: float = 0.0,
) -> Recurrence:
    """Fixed points of length and angle, and the Jacobian per step there.

    Formula, source and arguments as for `recurrent_step`; orthogonal W at chi_1 = 1 keeps
    gradients over the longest times.

    Raises:
        InputError: an argument out of its range.
    """
    phi = activation(act)
    drive = _drive(weight_var, input_var, input_square, input_correlation, bias_var)
    there = phase(phi, weight_var=weight_var, bias_var=bias_var + drive)
    q = there.q_star
    if q is None and phi.homogeneous and not bias_var + drive:
        q = 1.0
    if q is None:
        return Recurrence(*(None,) * 5, there.reason)
    chi_1 = weight_var * averages(phi, q).slope_square
    if drive and q < LEAST_ANGLE:
        return Recurrence(q, chi_1, *(None,) * 3, "the state falls to 0, where no angle is left")
    # What differs between the inputs keeps the states apart, as a bias does not.
    if not drive or input_correlation == 1 or not q:
        reason = f"inputs agree: {there.reason}"
        return Recurrence(q, chi_1, there.c_star, there.chi_c, there.xi_c, reason)
    offset = drive * (1 - input_correlation)
    both_var = bias_var + drive

    def beyond(c: float) -> float:
        of = correlation_map(phi, c, q, weight_var=weight_var, bias_var=both_var)
        return (of.covariance - offset) / q - c

    # Where C(0) >= 0 the fixed point is in [0, 1]: there C is convex, so it is the only one.
    low = 0.0 if beyond(0.0) >= 0 else -1.0
    c = low if beyond(low) <= 0 else root(beyond, low, 1.0)
    chi_c = correlation_map(phi, c, q, weight_var=weight_var, bias_var=both_var).slope
    xi_c = -1 / log(chi_c) if 0 < chi_c < 1 else None
    reason = (
        f"gradients {'grow' if chi_1 > 1 else 'shrink'} by {chi_1:.4g} per step, states driven by "
        f"different inputs come to correlation {c:.4g}"
    )
    return Recurrence(q, chi_1, c, chi_c, xi_c, reason)


def _drive(
    weight_var: float,
    input_var: float,
    input_square: float,
    input_correlation: float,
    bias_var: float,
) -> float:
    """sigma_v^2 R, after a look at all the numbers."""
    number("weight_var", weight_var, above=0)
    number("bias_var", bias_var)
    if not -1 <= input_correlation <= 1:
        raise InputError(f"input_correlation is from -1 to 1; got {input_correlation!r}")
    return number("input_var", input_var) * number("input_square", input_square)
