"""Spectrum: the squared singular values of the input-output Jacobian of a deep wide network."""

from dataclasses import dataclass, field, replace
from math import exp, inf, log, pi, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isograd.errors import InputError
from isograd.theory.activations import Activation, activation
from isograd.theory.averages import Averages, averages, number, whole
from isograd.theory.criticality import critical
from isograd.theory.fixed_points import phase
from isograd.theory.resolvent import Curve
from isograd.theory.roots import root as find_root

Array = NDArray[np.float64]
Weights = Literal["gaussian", "orthogonal"]

MAX_SPREAD = 0.1
"""Variance of s^2 / E s^2 up to which singular values count as alike: they spread by 16 %."""
MAX_DRIFT = 0.1
"""|ln E s^2| up to which they count as being about 1."""
_LOG_MAX = 700.0
_INFINITE = "E phi'^6 is infinite, or made beyond 12 standard deviations"
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_REACH = 9.0


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Squared singular values s^2 of J = D_L W_L ... D_1 W_1, D = diag phi'(h), at infinite width.

    A number that does not exist is None; `reason` says why.
    """

    depth: int
    weights: str
    weight_var: float | None
    bias_var: float
    q: float | None
    """Length of the pre-activations, the same at every depth."""
    chi_1: float | None
    """E s^2 of one layer: weight_var E phi'^2."""
    log_mean: float | None
    """ln E s^2 = depth ln chi_1."""
    mean: float | None
    """E s^2; None also where a float cannot hold it."""
    variance: float | None
    """Var s^2."""
    third: float | None
    """E s^6, the third moment of s^2."""
    edge: float | None
    """Largest s^2, lambda_max."""
    zero_mass: float | None
    """Share of singular values that are zero."""
    edge_mass: float | None
    """Share of singular values at the edge itself: orthogonal weights, a slope that is constant
    on most inputs."""
    isometry: Literal["exact", "near", "none"]
    """Are all singular values about 1 (dynamical isometry)?"""
    reason: str
    """Why; and why a number is missing."""
    _slope: tuple[Array, Array] | None = field(default=None, repr=False, compare=False)
    """phi'^2 / E phi'^2 at quadrature nodes, and their weights."""

    def density(self, steps: int = 256) -> tuple[Array, Array] | None:
        """Density of s^2 at points of falling s^2; None where it has none, or also peaks of it.

        The Stieltjes transform M of S-transform theory is followed from the edge down the curve on
        which lambda is real, in equal steps of its phase; the density is -Im M / (pi lambda).
        The mass at zero comes on top. None is returned where many s^2 are equal (`edge_mass`), for
        one orthogonal layer (s^2 is phi'^2 itself), where phi' has no bound, and where the density
        does not start at the edge as a square root does (two orthogonal layers of ReLU).

        Args:
            steps: about the number of points, at least 16; up to twice as many where the tail of
                small s^2 is long. What lies below the last point is left out.
        """
        steps = whole("steps", steps, 16, 100_000)
        if self._slope is None or self.edge is None or self.log_mean is None:
            return None
        gaussian = self.weights == "gaussian"
        if self.edge_mass or (not gaussian and self.depth == 1):
            return None
        curve = Curve(*self._slope, self.depth, gaussian)
        found = curve.follow(steps)
        if found is None:
            return None
        at, value = found
        points = np.exp(at + self.log_mean)
        return points, value / points


def spectrum(
    act: object,
    depth: int,
    *,
    weights: Weights = "gaussian",
    weight_var: float | None = None,
    bias_var: float = 0.0,
    q: float | None = None,
) -> Spectrum:
    """Averages, edge and density of the Jacobian's squared singular values.

    With S-transforms S_W = 1/(sigma_w^2 (1 + z)) for Gaussian and 1/sigma_w^2 for orthogonal
    square weights, S_J = (S_W S_{D^2})^L (Pennington, Schoenholz and Ganguli, Resurrecting the
    sigmoid in deep learning through dynamical isometry, 2017, section 2.4; The emergence of
    spectral universality in deep networks, 2018, section 3). With mu_k = E phi'^2k:
    E s^2 = (sigma_w^2 mu_1)^L, Var s^2 / (E s^2)^2 = L (mu_2/mu_1^2 - 1 - s_1), s_1 = -1 for
    Gaussian weights and 0 for orthogonal. The edge is the least of (1 + M)/(M S_J(M)) over M > 0.

    Args:
        act: whatever `activation` takes.
        depth: number L of layers.
        weights: how they are drawn.
        weight_var: sigma_w^2; None for the one at which the gradient keeps its size.
        bias_var: sigma_b^2.
        q: length of the pre-activations; None for its fixed point (1 where every length is one).

    Raises:
        InputError: an argument out of its range.
    """
    phi = activation(act)
    depth = whole("depth", depth)
    number("bias_var", bias_var)
    if weights not in ("gaussian", "orthogonal"):
        raise InputError(f"weights are 'gaussian' or 'orthogonal'; got {weights!r}")
    if weight_var is not None:
        number("weight_var", weight_var, above=0)
    if q is not None:
        number("q", q)
    asked = bias_var
    weight_var, bias_var, q, why = _place(phi, weight_var, bias_var, q)
    nothing = (None,) * 8
    if q is None or weight_var is None:
        return Spectrum(depth, weights, weight_var, bias_var, q, *nothing, "none", why)
    of = averages(phi, q)
    if not 1e-300 < of.slope_square < inf or not of.slope_sixth < inf:
        why = "nothing passes: phi' is 0" if of.slope_square < 1 else _INFINITE
        return Spectrum(depth, weights, weight_var, bias_var, q, *nothing, "none", why)
    found = _spectrum(phi, of, depth, weights, weight_var, bias_var, q)
    if bias_var != asked:
        where = f"no stable critical point at bias variance {asked:.4g}, this is the threshold's"
        found = replace(found, reason=f"{found.reason}; {where}")
    return found


def _spectrum(
    phi: Activation,
    of: Averages,
    depth: int,
    weights: Weights,
    weight_var: float,
    bias_var: float,
    q: float,
) -> Spectrum:
    chi = weight_var * of.slope_square
    gaussian = weights == "gaussian"
    spread, third = _cumulants(of, depth, gaussian)
    nodes, shares = _slopes(phi, q)
    squares = nodes / of.slope_square
    curve = Curve(squares, shares, depth, gaussian)
    edge = None
    reasons = []
    if nodes.max() < 1e12 and _bounded(phi, q):
        edge = curve.edge()[1]
    else:
        reasons.append("phi' has no bound, so s^2 has none")
    log_mean = depth * log(chi)

    def scaled(value: float | None, power: int = 1) -> float | None:
        if value is None or value == 0:
            return value
        total = log(value) + power * log_mean
        return exp(total) if abs(total) < _LOG_MAX else None

    verdict, why = _judge(phi, of, q, depth, gaussian, log_mean, spread)
    if scaled(1.0) is None or scaled(third, 3) is None:
        reasons.append("a moment is beyond the range of float64: see log_mean")
    return Spectrum(
        depth=depth,
        weights=weights,
        weight_var=weight_var,
        bias_var=bias_var,
        q=q,
        chi_1=chi,
        log_mean=log_mean,
        mean=scaled(1.0),
        variance=scaled(spread, 2),
        third=scaled(third, 3),
        edge=None if edge is None else scaled(exp(edge)) if edge < _LOG_MAX else None,
        zero_mass=float(shares[nodes <= 0].sum()),
        edge_mass=0.0 if edge is None else curve.edge_mass,
        isometry=verdict,
        reason="; ".join([why, *reasons]),
        _slope=(squares, shares),
    )


def _place(
    phi: Activation, weight_var: float | None, bias_var: float, q: float | None
) -> tuple[float | None, float, float | None, str]:
    """(sigma_w^2, sigma_b^2, q, why one is missing)."""
    if q is not None:
        if weight_var is None:
            slope = averages(phi, q).slope_square
            weight_var = 1 / slope if 1e-300 < slope < inf else None
        return weight_var, bias_var, q, "nothing passes: phi' is 0"
    if phi.homogeneous and bias_var == 0:
        return _place(phi, weight_var, bias_var, 1.0)
    if weight_var is None:
        point = critical(phi, bias_var=bias_var)
        # A half-stable activation has its critical point at a bias variance of its own.
        bias_var = bias_var if point.bias_var is None else point.bias_var
        return point.weight_var, bias_var, point.q_star, f"no critical weights: {point.reason}"
    there = phase(phi, weight_var=weight_var, bias_var=bias_var)
    return weight_var, bias_var, there.q_star, there.reason


def _cumulants(of: Averages, depth: int, gaussian: bool) -> tuple[float, float]:
    """Var s^2 and E s^6 at E s^2 = 1: ln S is a sum over factors, here to second order in z."""
    m2 = of.slope_fourth / of.slope_square**2
    m3 = of.slope_sixth / of.slope_square**3
    first = 1 - m2 - gaussian
    second = 2 * m2**2 - m3 - m2 - (1 - m2) ** 2 / 2 + gaussian / 2
    first, second = depth * first, depth * second
    # Rounding of mu_2/mu_1^2 must not make a spread of none.
    first = 0.0 if first > -1e-13 * depth else first
    m2 = 1 - first
    return abs(first), 2 * m2**2 - m2 - (second + first**2 / 2)


def _judge(
    phi: Activation,
    of: Averages,
    q: float,
    depth: int,
    gaussian: bool,
    log_mean: float,
    spread: float,
) -> tuple[Literal["exact", "near", "none"], str]:
    if abs(log_mean) > MAX_DRIFT:
        way = "grows" if log_mean > 0 else "shrinks"
        return "none", f"the mean s^2 {way} by {exp(log_mean / depth):.4g} per layer"
    if spread == 0 and abs(log_mean) < 1e-9:
        at = "" if phi.homogeneous else ", to which q falls only slowly: at any depth it is larger"
        return "exact", "every singular value is 1" + (f" at q = {q:.3g}{at}" if at else "")
    if spread <= MAX_SPREAD:
        return "near", f"s^2 has relative variance {spread:.3g} about 1"
    own = of.slope_fourth / of.slope_square**2 - 1
    if gaussian:
        why = "Gaussian weights alone add 1 per layer; draw them orthogonal"
    elif phi.homogeneous:
        why = f"phi' adds {own:.3g} per layer at any length"
    else:
        why = f"phi' adds {own:.3g} per layer; it falls with q: keep depth times q small"
    return "none", f"s^2 has relative variance {spread:.3g}; {why}"


def _bounded(phi: Activation, q: float) -> bool:
    """Whether phi' has stopped to grow where the Gaussian ends."""
    near, far = (np.abs(phi.slope(k * sqrt(max(q, 1e-14)) * np.array([-1, 1]))) for k in (20, 40))
    return bool(np.all(far <= 1.5 * near + 1e-12))


def _slopes(phi: Activation, q: float) -> tuple[Array, Array]:
    """phi'^2 at nodes of a quadrature that is fine where phi' peaks or is 0, and their weights."""
    root = sqrt(max(q, 1e-14))
    kinks = [kink / root for kink in (*phi.kinks, *phi.bends)]
    inside = np.linspace(-_REACH, _REACH, 181)
    edges = [inside, *(at * k / root for k in (1.0, 2.0, 4.0, 8.0) for at in (-1, 1)), kinks]
    graded = 2.0 ** -np.arange(0.0, 28.0)
    places = [*_peaks(phi, root), *_zeros(phi, root)]
    edges += [place + side * graded for place in places for side in (-1, 1)]
    flat: list[Array] = [np.asarray(edge, dtype=np.float64).ravel() for edge in edges]
    all_edges = np.unique(np.concatenate(flat))
    all_edges = all_edges[np.abs(all_edges) <= _REACH]
    half, middle = np.diff(all_edges)[:, None] / 2, (all_edges[1:] + all_edges[:-1])[:, None] / 2
    z = (middle + half * _NODES).ravel()
    shares = (half * _WEIGHTS).ravel() * np.exp(-z * z / 2) / sqrt(2 * pi)
    return phi.slope(root * z) ** 2, shares / shares.sum()


def _peaks(phi: Activation, root: float) -> list[float]:
    z = np.linspace(-_REACH, _REACH, 3601)
    height = np.abs(phi.slope(root * z))
    top = height.max()
    inner = height[1:-1]
    found = (inner >= height[:-2]) & (inner >= height[2:]) & (inner > 0.5 * top)
    # A plateau is no peak: quadrature is exact there.
    found &= (inner > height[:-2]) | (inner > height[2:])
    from scipy.optimize import minimize_scalar

    peaks = []
    for at in z[1:-1][found][:8]:
        best = minimize_scalar(
            lambda t: -abs(float(phi.slope(np.array([root * t]))[0])),
            bounds=(at - 0.01, at + 0.01),
            method="bounded",
            options={"xatol": 1e-10},
        )
        peaks.append(float(best.x))
    return peaks


def _zeros(phi: Activation, root: float) -> list[float]:
    z = np.linspace(-_REACH, _REACH, 3600)
    slope = phi.slope(root * z)
    at = np.flatnonzero(slope[:-1] * slope[1:] < 0)[:8]
    return [
        find_root(lambda t: float(phi.slope(np.array([root * t]))[0]), float(z[i]), float(z[i + 1]))
        for i in at
    ]
