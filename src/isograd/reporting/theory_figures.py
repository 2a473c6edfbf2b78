"""Figures of the theory: plain arrays in, a matplotlib figure out.

Variances are written sigma_w^2 and sigma_b^2, as in the literature. The colors are Okabe and Ito's
and a diverging map, which color-blind readers can tell apart; what a color says, a word or a line
style says too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isograd.errors import InputError
from isograd.reporting._theory_axes import (
    GRAY,
    REGIONS,
    angle_contours,
    around_one,
    colorbar,
    diagram_finding,
    draw,
    draw_shapes,
    ends,
    frame,
    legend,
    name_region,
    new_figure,
    pieces,
    styled,
)
from isograd.reporting._theory_axes import Line as Line

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Masked = np.ma.MaskedArray[Any, np.dtype[Any]]
    Array = NDArray[np.float64]

SUFFIXES = (".png", ".svg")
BLUE = "#0072B2"
COLORS = (BLUE, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LEAST = 1e-3
"""Singular values below this are left out of the figure."""
_DASHES = ("-", "--", "-.", ":")
_WEIGHT, _BIAS = r"weight variance $\sigma_w^2$", r"bias variance $\sigma_b^2$"


@dataclass(frozen=True)
class Curve:
    """One setting: what a layer makes of a correlation, and what depth makes of it."""

    label: str
    c: "Array"
    mapped: "Array"
    c_star: float | None
    correlation: "Array"
    """By depth, from depth 0, [depth + 1]."""
    gradient: "Array"
    """Mean square of the gradient by depth, relative to that at the output, [depth + 1]."""


@dataclass(frozen=True)
class Density:
    """Density of the squared singular values s^2 of a Jacobian, both arrays [n]."""

    label: str
    square: "Array"
    density: "Array"


@dataclass(frozen=True)
class Shape:
    """An activation as a curve, both arrays [n]."""

    label: str
    x: "Array"
    value: "Array"


@dataclass(frozen=True)
class Depths:
    """What one choice makes of a network: by depth, relative to 1, or by correlation."""

    label: str
    forward: "Array"
    gradient: "Array"
    """Mean square of the gradient by depth, relative to that at the output, [depth + 1]."""


def check(path: str) -> None:
    """Refuses a figure that cannot be made, before anything is computed.

    Raises:
        InputError: the suffix is none of SUFFIXES, or matplotlib is not installed.
    """
    import importlib.util

    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: figures are written as {' or '.join(SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("figures need matplotlib; pip install 'isograd[figures]'")


@styled
def save(figure: "Figure", path: str) -> None:
    """Writes a figure in the form that the suffix tells.

    Raises:
        InputError: the file cannot be written.
    """
    check(path)
    # The same numbers make the same file, byte for byte.
    nameless: dict[str, Any] = (
        {"Date": None} if Path(path).suffix.lower() == ".svg" else {"Software": None}
    )
    try:
        figure.savefig(path, metadata=nameless)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


@styled
def phase_diagram(
    name: str,
    weight_vars: "Array",
    bias_vars: "Array",
    *,
    chi_1: "Masked",
    c_star: "Masked",
    phase: Sequence[Sequence[str | None]],
    line: Line | None = None,
) -> "Figure":
    """chi_1 as color, the critical line, contours of c_star in the chaotic phase, named regions.

    Args:
        name: of the activation.
        weight_vars: [m].
        bias_vars: [n].
        chi_1: [m, n], masked where there is none to show.
        c_star: [m, n], masked likewise.
        phase: [m, n], "ordered", "critical" or "chaotic"; None where no length is stable.
        line: where chi_1 is 1; unstable parts are dashed.
    """
    import numpy as np
    from matplotlib.colors import SymLogNorm

    figure, (axes,) = new_figure(1, width=7.6, height=5.4)
    power = np.ma.log2(np.ma.masked_less_equal(np.ma.masked_invalid(chi_1), 0))
    limit = max(float(np.abs(power).max()), 1e-3) if power.count() else 1.0
    axes.set_facecolor("#e6e6e6")  # where there is no chi_1
    colors = axes.pcolormesh(
        weight_vars,
        bias_vars,
        power.T,
        cmap="RdBu_r",
        norm=SymLogNorm(linthresh=0.25, vmin=-limit, vmax=limit, base=2),
        shading="nearest",
        rasterized=True,
    )
    colorbar(figure, axes, colors, limit)
    kinds = np.array(phase, dtype=object)
    angle_contours(axes, weight_vars, bias_vars, np.ma.masked_where(kinds != "chaotic", c_star))
    axes.set(xlim=ends(weight_vars), ylim=ends(bias_vars), xlabel=_WEIGHT, ylabel=_BIAS)
    if line is not None:
        for where, style in pieces(line, infeasible=False):
            draw(axes, line.weight_var, line.bias_var, where, style)
    for kind, words in REGIONS.items():
        name_region(axes, words, weight_vars, bias_vars, kinds == kind)
    axes.set_title(f"{name}: {diagram_finding(kinds)}", loc="left")
    return figure


@styled
def critical_line(
    name: str, line: Line, *, verdict: str, threshold: tuple[float, float] | None = None
) -> "Figure":
    """The critical line beside the slope of the length map along it.

    Args:
        name: of the activation.
        line: the whole line, with the part that no network can sit on.
        verdict: stable, half-stable or none.
        threshold: weight and bias variance from which a half-stable line is stable.
    """
    figure, (plane, slope) = new_figure(2, width=11, height=4.8)
    for where, style in pieces(line, infeasible=True):
        draw(plane, line.weight_var, line.bias_var, where, style)
        draw(slope, line.q_star, line.chi_q, where, style)
    right, up = frame(line, whole=verdict == "none")
    plane.set(xlim=right, ylim=up, xlabel=_WEIGHT, ylabel=_BIAS)
    plane.set_title(r"where $\chi_1 = 1$: gradients keep their size", loc="left")
    if threshold is not None:
        plane.plot(*threshold, "o", color=BLUE, markersize=9)
        plane.annotate(
            f"stable from here:\n({threshold[0]:.3f}, {threshold[1]:.3f})",
            threshold,
            xytext=(14, 8),
            textcoords="offset points",
        )
    low, high = plane.get_ylim()
    if low < 0:
        plane.axhspan(low, 0, color="#eeeeee", zorder=0)
        plane.text(
            0.98, 0.04, "no variance is negative", transform=plane.transAxes, ha="right", color=GRAY
        )
    slope.axhline(1, color="black", linewidth=0.9)
    slope.set(xscale="log", xlabel="length $q^*$ on the line", ylabel=r"$\chi_q = dQ/dq$")
    slope.set_title("above 1 the length runs away", loc="left")
    low, high = slope.get_ylim()
    slope.set_ylim(min(low, 0.95), max(high, 1.05))
    legend(plane)
    figure.suptitle(f"{name}: {_VERDICTS[verdict]}", x=0.01, ha="left", fontweight="bold")
    return figure


_VERDICTS = {
    "stable": "a critical initialization exists, and the signal stays there",
    "half-stable": "critical points exist, but the signal runs away from those below a threshold",
    "none": "no usable critical initialization exists",
}


@styled
def correlations(title: str, curves: Sequence[Curve]) -> "Figure":
    """What a layer makes of the correlation of two inputs, what depth does, and the gradients."""
    figure, (single, deep, back) = new_figure(3, width=14, height=4.6)
    single.plot([0, 1], [0, 1], color="black", linewidth=0.9)
    for index, curve in enumerate(curves):
        color, dash = COLORS[index % len(COLORS)], _DASHES[index % len(_DASHES)]
        single.plot(curve.c, curve.mapped, dash, color=color, label=curve.label)
        if curve.c_star is not None:
            single.plot(curve.c_star, curve.c_star, "o", color=color, markersize=9, clip_on=False)
            deep.axhline(curve.c_star, color=color, linewidth=0.9, alpha=0.6)
        deep.plot(curve.correlation, dash, color=color)
        back.semilogy(curve.gradient, dash, color=color)
    single.set(xlim=(0, 1), ylim=(min(0.0, *single.get_ylim()), 1.02))
    single.set(xlabel="correlation $c$ of two inputs", ylabel="after one layer, $C(c)$")
    single.set_title("one layer; dots: $c^*$, where depth leads", loc="left")
    deep.set(xlabel="depth in layers", ylabel="correlation $c_l$", ylim=single.get_ylim())
    deep.set_title("layer after layer", loc="left")
    back.set(xlabel="depth in layers", ylabel="mean square gradient / at the output")
    around_one(back)
    back.set_title("backward", loc="left")
    legend(single)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


@styled
def spectra(title: str, densities: Sequence[Density]) -> "Figure":
    """Densities of the Jacobian's singular values s, per ln s."""
    figure, (axes,) = new_figure(1, width=7.6, height=4.8)
    for index, one in enumerate(densities):
        dash = _DASHES[index % len(_DASHES)]
        # p(s^2) ds^2 = 2 s^2 p(s^2) d ln s
        height = 2 * one.square * one.density
        root = one.square**0.5
        color = COLORS[index % len(COLORS)]
        axes.plot(root, height, dash, color=color, label=one.label)
        axes.fill_between(root, height, color=color, alpha=0.12, linewidth=0)
    axes.axvline(1, color="black", linewidth=0.9)
    axes.annotate(
        "isometry", (1, 1), xycoords=("data", "axes fraction"), xytext=(4, -12),
        textcoords="offset points", fontsize=10,
    )  # fmt: skip
    axes.set(
        xscale="log", xlabel="singular value $s$ of the Jacobian", ylabel=r"density per $\ln s$"
    )
    # The tail to 0 has no end on a logarithmic axis.
    lowest = min((float(one.square.min()) ** 0.5 for one in densities), default=_LEAST)
    highest = max((float(one.square.max()) ** 0.5 for one in densities), default=1.0)
    axes.set(xlim=(max(lowest, _LEAST), 2 * max(highest, 1.0)), ylim=(0, 1.12 * axes.get_ylim()[1]))
    axes.set_title(title, loc="left")
    legend(axes)
    return figure


@styled
def gains(title: str, shapes: Sequence[Shape], choices: Sequence[Depths]) -> "Figure":
    """The activation and its slope over its inputs, and what each gain does to a deep network.

    Args:
        title: what is seen.
        shapes: phi and phi'.
        choices: one per gain; `forward` is the mean square of the signal by depth.
    """
    figure, (curve, ahead, back) = new_figure(3, width=14, height=4.6)
    draw_shapes(curve, [(one.label, one.x, one.value) for one in shapes], COLORS, _DASHES)
    curve.set_title("what a standard normal input meets", loc="left")
    for axes, name in ((ahead, "forward"), (back, "gradient")):
        for index, one in enumerate(choices):
            color, dash = COLORS[index % len(COLORS)], _DASHES[index % len(_DASHES)]
            axes.semilogy(getattr(one, name), dash, color=color, label=one.label)
        around_one(axes)
        axes.set_xlabel("depth in layers")
    ahead.set_ylabel("mean square of the pre-activations")
    ahead.set_title("forward", loc="left")
    back.set_ylabel("mean square gradient / at the output")
    back.set_title("backward", loc="left")
    legend(ahead)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


@styled
def gain_table(names: Sequence[str], kinds: Mapping[str, Sequence[float | None]]) -> "Figure":
    """The gains of many activations, one row each, in the order given from the top."""
    figure, (axes,) = new_figure(1, width=8.4, height=0.27 * len(names) + 1.6)
    rows = range(len(names))
    axes.axvline(1, color="black", linewidth=0.9, zorder=0)
    axes.hlines(rows, 0, 1, transform=axes.get_yaxis_transform(), color="#dddddd", linewidth=0.8)
    for index, (label, values) in enumerate(kinds.items()):
        # Open ones are larger, so that equal gains are seen as such.
        marker, size = (("o", 6.0), ("s", 10.0), ("^", 6.0), ("D", 10.0))[index % 4]
        there = [(value, row) for row, value in zip(rows, values, strict=True) if value is not None]
        axes.plot(
            *zip(*there, strict=True), marker, color=COLORS[index % len(COLORS)], label=label,
            markersize=size, fillstyle="none" if size > 8 else "full", markeredgewidth=1.6,
        )  # fmt: skip
    axes.set(xscale="log", xlabel="gain (logarithmic)", ylim=(len(names) - 0.4, -0.6))
    ticks = (0.5, 0.75, 1, 1.5, 2, 3, 4, 6)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(list(rows), list(names))
    axes.set_title("no gain answers all three questions, except for linear networks", loc="left")
    legend(axes)
    return figure


@styled
def transform(
    title: str, shapes: Sequence[Shape], networks: Sequence[Depths], c: "Array", depth: int
) -> "Figure":
    """An activation before and after its transform, and a plain network of each.

    Args:
        title: what is seen.
        shapes: before and after.
        networks: before and after; `forward` is the correlation at the end by that at the input.
        c: correlations at the input, as long as each `forward`.
        depth: layers of the networks.
    """
    figure, (curve, deep, back) = new_figure(3, width=14, height=4.6)
    draw_shapes(curve, [(one.label, one.x, one.value) for one in shapes], COLORS, _DASHES)
    curve.set_title("the activation", loc="left")
    deep.plot([0, 1], [0, 1], color="black", linewidth=0.9)
    for index, one in enumerate(networks):
        color, dash = COLORS[index], _DASHES[index]
        deep.plot(c, one.forward, dash, color=color, label=one.label)
        back.semilogy(one.gradient, dash, color=color)
    low = min(0.0, *(float(one.forward.min()) for one in networks))
    deep.set(xlim=(0, 1), ylim=(low - 0.02, 1.02))
    deep.set(xlabel="correlation of two inputs", ylabel=f"after {depth} layers")
    deep.set_title("two inputs, at the start and at the end", loc="left")
    back.set(xlabel="depth in layers", ylabel="mean square gradient / at the output")
    around_one(back)
    back.set_title("backward", loc="left")
    legend(deep)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure
