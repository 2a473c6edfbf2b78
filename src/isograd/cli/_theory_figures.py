"""Theory to figures: what `--figure` of `isograd theory` computes and hands to reporting."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from isograd.errors import InputError
from isograd.reporting import theory_figures

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from isograd.theory import Activation, Gains, Phase, PhaseDiagram, Trajectory, Transform
    from isograd.theory.spectrum import Weights

DEPTH = 40
"""Layers of a trajectory: the depth scales that matter show, and single layers can be told."""

GAIN_DEPTH = 30
SHOWN = 4.0
"""Standard deviations of the input to either side: one input in 16,000 lies beyond."""
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


def gains(act: "Activation", found: "Gains") -> "Figure":
    """An activation over its inputs, and networks of each gain."""
    import numpy as np

    x = np.linspace(-SHOWN, SHOWN, 801)
    shapes = [
        theory_figures.Shape(r"$\phi$", x, act.value(x)),
        theory_figures.Shape(r"$\phi'$", x, act.slope(x)),
    ]
    found_gains = {
        "signal": found.second_moment,
        "gradient": found.slope,
        "torch": found.torch_gain,
    }
    named: dict[str, tuple[float, list[str]]] = {}
    for word, gain in found_gains.items():
        if gain is not None and np.isfinite(gain):
            named.setdefault(f"{gain:.4g}", (gain, []))[1].append(word)
    choices = []
    for short, (gain, told) in named.items():
        along = _follow(act, 1.0, {"weight_var": gain**2}, c0=None, most=GAIN_DEPTH)
        label = f"gain {short} ({', '.join(told)})"
        choices.append(theory_figures.Depths(label, along.q, along.gradient))
    return theory_figures.gains(_gains_title(act, found), shapes, choices)


def gain_table() -> "Figure":
    """Gains of all activations, by that of the signal."""
    from isograd.theory import gains
    from isograd.theory.activations import NAMES

    rows = sorted(((name, gains(name)) for name in NAMES), key=lambda row: row[1].second_moment)
    kinds: dict[str, list[float | None]] = {
        "keeps the signal": [row.second_moment for _, row in rows],
        "keeps it where the mean is taken off": [row.std for _, row in rows],
        "keeps the gradient": [row.slope for _, row in rows],
        "torch.nn.init.calculate_gain": [row.torch_gain for _, row in rows],
    }
    return theory_figures.gain_table([name for name, _ in rows], kinds)


def transform(act: "Activation", found: "Transform") -> "Figure":
    """The activation before and after, and what plain networks of both do."""
    import numpy as np

    from isograd.theory import gains

    gain = gains(act).second_moment
    after = shaped(act, found)
    pairs = [
        (f"{act.name}, weights of gain {gain:.4g}", act, gain),
        (f"transformed by {found.method.upper()}", after, 1.0),
    ]
    x = np.linspace(-SHOWN, SHOWN, 801)
    c = np.cos(np.linspace(np.pi / 2, 0, 121))
    shapes = [theory_figures.Shape(label, x, one.value(x)) for label, one, _ in pairs]
    networks = []
    for label, one, scale in pairs:
        ends, chi_1 = through(one, scale**2, c, found.depth)
        gradient = chi_1 ** np.arange(found.depth, -1.0, -1.0)
        networks.append(theory_figures.Depths(label, ends, gradient))
    # A third of the way from a right angle is correlation 0.5.
    kept = [float(one.forward[len(c) // 3]) for one in networks]
    title = (
        f"{act.name}, {found.depth} layers: two inputs of correlation 0.5 come to {kept[0]:.3f}, "
        f"transformed to {kept[1]:.3f}"
    )
    shapes[0] = theory_figures.Shape(act.name, x, shapes[0].value)
    return theory_figures.transform(title, shapes, networks, c, found.depth)


def shaped(act: "Activation", found: "Transform") -> "Activation":
    """The transformed activation as one of the theory's."""
    from isograd.theory import Activation
    from isograd.theory import activation as make

    if found.negative_slope is not None:
        act = make("leaky_relu", negative_slope=found.negative_slope)
    a, b, size = found.input_scale, found.input_shift, found.output_scale
    return Activation(
        f"{act.name}, transformed",
        lambda x: size * (act.value(a * x + b) + found.output_shift),
        lambda x: size * a * act.slope(a * x + b),
        tuple(sorted((kink - b) / a for kink in act.kinks)),
    )


def through(
    act: "Activation", weight_var: float, c: Any, depth: int
) -> tuple["NDArray[np.float64]", float]:
    """Correlations after a depth, all layers at length 1, and chi_1 there."""
    import numpy as np

    from isograd.theory import correlation_map

    # By the angle, in which the map is smooth near 1, and steps that are small there.
    grid = np.pi * np.linspace(0, 1, 401) ** 2
    mapped = [correlation_map(act, float(np.cos(t)), 1.0, weight_var=weight_var) for t in grid]
    to = np.arccos([one.value for one in mapped])
    angles = np.arccos(c)
    for _ in range(depth):
        angles = np.interp(angles, grid, to)
    return np.cos(angles), mapped[0].gradient


def _gains_title(act: "Activation", found: "Gains") -> str:
    from isograd.theory.moments import moments

    told = f"{act.name}: gain {found.second_moment:.4g} keeps the signal"
    if f"{found.second_moment:.4g}" == f"{found.slope:.4g}":
        told += " and the gradient"
    else:
        told += f", {found.slope:.4g} the gradient"
    chi_q = found.second_moment**2 * moments(act).at(1.0)[2]
    if chi_q > 1 + 1e-9:
        return f"{told} of inputs of variance 1; other lengths run away from 1"
    return f"{told} of inputs of variance 1"


def _line(act: "Activation") -> theory_figures.Line:
    from isograd.theory import critical_line

    line = critical_line(act)
    return theory_figures.Line(
        line.q_star, line.weight_var, line.bias_var, line.chi_q, line.feasible, line.stable
    )


def _follow(
    act: "Activation", q: float, at: Mapping[str, Any], *, c0: float | None = 0.0, most: int = DEPTH
) -> "Trajectory":
    """Inputs by depth, as far as a signal that runs away can be followed."""
    from isograd.theory import trajectory

    for depth in (most, most // 2, most // 4, 3, 1):
        try:
            return trajectory(act, depth, q0=q, c0=c0, **at)
        except InputError:  # the length overflows
            continue
    return trajectory(act, 0, q0=q, c0=c0, **at)


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
