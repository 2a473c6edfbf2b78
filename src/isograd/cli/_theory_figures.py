"""Theory to figures: what `--figure` of `isograd theory` computes and hands to reporting."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from isograd.errors import InputError
from isograd.reporting import theory_figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.theory import Activation, Phase, PhaseDiagram, Trajectory
    from isograd.theory.spectrum import Weights

DEPTH = 40
"""Layers of a trajectory: the depth scales that matter show, and single layers can be told."""


POINTS = 4000
"""Of a density: they lie close at its edge and far apart at 0."""


def phase_diagram(act: "Activation", found: "PhaseDiagram") -> "Figure":
    """chi_1 over the plane, with the critical line."""
    import numpy as np

    # An unstable fixed point has a chi_1, but no network stays there to have it.
    left = ~np.ma.filled(found.stable.astype(object), True).astype(bool)
    return theory_figures.phase_diagram(
        act.name,
        found.weight_vars,
        found.bias_vars,
        chi_1=np.ma.masked_where(left, found.chi_1),
        c_star=found.c_star,
        phase=found.phase.tolist(),
        line=_line(act),
    )


def critical_line(act: "Activation", bias_var: float) -> "Figure":
    """The critical line, with its verdict."""
    from isograd.theory import critical

    found = critical(act, bias_var=bias_var)
    edge = found.threshold
    return theory_figures.critical_line(
        act.name,
        _line(act),
        verdict=found.verdict,
        threshold=None if edge is None else (edge.weight_var, edge.bias_var),
    )


def correlations(act: "Activation", settings: Sequence[tuple[float, float]]) -> "Figure":
    """What a layer and what depth make of two inputs, for pairs of weight and bias variance."""
    import numpy as np

    from isograd.theory import correlation_map, phase

    angles = np.linspace(0, 1, 101)
    curves, told = [], []
    for weight_var, bias_var in settings:
        at: dict[str, Any] = {"weight_var": weight_var, "bias_var": bias_var}
        found = phase(act, **at)
        q = found.q_star or 1.0
        mapped = [correlation_map(act, float(c), q, **at).value for c in angles]
        variances = rf"$\sigma_w^2={weight_var:.4g}$, $\sigma_b^2={bias_var:.4g}$"
        along = _follow(act, q, at)
        assert along.c is not None
        curves.append(
            theory_figures.Curve(
                f"{found.phase or 'unsettled'}: {variances}",
                angles,
                np.array(mapped),
                found.c_star,
                along.c,
                along.gradient,
            )
        )
        told.append(found)
    return theory_figures.correlations(_title(act.name, told), curves)


def spectra(act: "Activation", depth: int, weight_var: float | None, bias_var: float) -> "Figure":
    """Densities of the Jacobian's singular values for Gaussian and for orthogonal weights."""
    from isograd.theory.spectrum import spectrum

    densities, edges = [], []
    kinds: dict[Weights, str] = {"orthogonal": "orthogonal", "gaussian": "Gaussian"}
    for weights, word in kinds.items():
        found = spectrum(act, depth, weights=weights, weight_var=weight_var, bias_var=bias_var)
        drawn = found.density(POINTS)
        if drawn is not None:
            label = f"{word} weights"
            if found.zero_mass:
                label += f" ({found.zero_mass:.0%} of all are 0)"
            densities.append(theory_figures.Density(label, *drawn))
        if found.edge is not None:
            edges.append(f"{word} weights below {found.edge**0.5:.3g}")
    title = f"{act.name}, {depth} layers: singular values lie with\n{', with '.join(edges)}"
    return theory_figures.spectra(title, densities)


def _line(act: "Activation") -> theory_figures.Line:
    from isograd.theory import critical_line

    line = critical_line(act)
    return theory_figures.Line(
        line.q_star, line.weight_var, line.bias_var, line.chi_q, line.feasible, line.stable
    )


def _follow(act: "Activation", q: float, at: Mapping[str, Any]) -> "Trajectory":
    """Two inputs by depth, as far as a signal that runs away can be followed."""
    from isograd.theory import trajectory

    for depth in (DEPTH, DEPTH // 2, DEPTH // 4, 3, 1):
        try:
            return trajectory(act, depth, q0=q, c0=0.0, **at)
        except InputError:  # the length overflows
            continue
    return trajectory(act, 0, q0=q, c0=0.0, **at)


def _title(name: str, found: Sequence["Phase"]) -> str:
    """What the curves show."""
    if len(found) > 1:
        return f"{name}: order makes all inputs alike, chaos parts them, criticality is slow"
    (one,) = found
    if one.q_star is None or not one.stable:
        return f"{name}: the signal does not settle"
    if one.c_star is None:
        return f"{name}: the signal dies out"
    if one.c_star > 1 - 1e-9:
        return f"{name}: depth makes all inputs alike"
    return f"{name}: depth brings any two inputs to correlation {abs(one.c_star):.3f}"
