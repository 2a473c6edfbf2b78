"""Parts of the figures of the theory: the style, critical lines, named regions, contours."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]
    Masked = np.ma.MaskedArray[Any, np.dtype[Any]]

_P = ParamSpec("_P")
_R = TypeVar("_R")

GRAY = "#666666"
_STYLE: dict[Any, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "font.size": 12,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 12,
    "axes.labelsize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 2.2,
    "legend.frameon": False,
    "svg.hashsalt": "isograd",
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Line:
    """A critical line: all arrays [n], in the order of q_star."""

    q_star: "Array"
    weight_var: "Array"
    bias_var: "Array"
    chi_q: "Array"
    feasible: "Mask"
    """bias_var >= 0."""
    stable: "Mask"
    """chi_q <= 1."""


def styled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Runs a function under the style of this file, and leaves matplotlib's own as it was."""

    @wraps(function)
    def styled(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        import matplotlib

        with matplotlib.rc_context(_STYLE):
            return function(*args, **kwargs)

    return styled


REGIONS = {
    "ordered": "ordered\ngradients vanish",
    "chaotic": "chaotic\ngradients explode",
    None: "no stable length\nthe signal runs away",
}


def new_figure(panels: int, *, width: float, height: float) -> tuple["Figure", Sequence["Axes"]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # No pyplot: it would keep every figure, and choose a window system.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, panels, i + 1) for i in range(panels)]


def ends(values: "Array") -> tuple[float, float]:
    return float(values.min()), float(values.max())


def pieces(line: Line, *, infeasible: bool) -> Iterator[tuple["Mask", dict[str, Any]]]:
    """The parts of a line that are drawn alike, each with its style."""
    yield line.feasible & line.stable, {"color": "black", "label": "critical, stable"}
    unstable = line.feasible & ~line.stable
    yield unstable, {"color": "black", "linestyle": "--", "label": "critical, unstable"}
    if infeasible:
        style = {"color": GRAY, "linestyle": ":", "label": "bias variance would be negative"}
        yield ~line.feasible, style


def draw(axes: "Axes", x: "Array", y: "Array", where: "Mask", style: dict[str, Any]) -> None:
    """A part of a curve; one that is a single point becomes a dot."""
    import numpy as np

    if not where.any():
        return
    # From the last point of the part before: without it there would be a gap.
    wide = where.copy()
    wide[:-1] |= where[1:]
    if np.ptp(x[where]) + np.ptp(y[where]) < 1e-9:
        axes.plot(x[where][:1], y[where][:1], "o", markersize=10, clip_on=False, **style)
        return
    axes.plot(np.where(wide, x, np.nan), np.where(wide, y, np.nan), **style)


def frame(line: Line, *, whole: bool) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of the plane: the whole line, or where networks are and a little of where not."""
    import numpy as np

    inside = np.isfinite(line.weight_var) & np.isfinite(line.bias_var)
    if not whole:
        inside &= line.feasible & (line.bias_var <= 1.0)
    x, y = line.weight_var[inside], line.bias_var[inside]
    side, end = max(0.12 * float(np.ptp(x)), 0.25), max(0.12 * float(np.ptp(y)), 0.05)
    low = float(y.min()) - end
    return (float(x.min()) - side, float(x.max()) + side), (low, max(float(y.max()), 0.0) + end)


def colorbar(figure: "Figure", axes: "Axes", colors: Any, limit: float) -> None:
    import numpy as np

    levels = (1 / 64, 1 / 16, 0.25, 0.5, 0.8, 1, 1.25, 2, 4, 16, 64)
    shown = [level for level in levels if abs(np.log2(level)) <= limit]
    bar = figure.colorbar(colors, ax=axes, ticks=np.log2(shown), pad=0.02)
    bar.ax.set_yticklabels([f"{level:.3g}" for level in shown])
    bar.ax.minorticks_off()
    bar.set_label(r"$\chi_1$: gradient energy, factor per layer")


def legend(axes: "Axes") -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles, labels, loc="best", fontsize=10)


def name_region(axes: "Axes", words: str, x: "Array", y: "Array", where: "Mask") -> None:
    """Writes a region's name at the point of it that is farthest from its border."""
    import numpy as np

    if where.mean() < 0.03:
        return
    from matplotlib.patheffects import withStroke
    from scipy.ndimage import distance_transform_cdt

    room = distance_transform_cdt(np.pad(where, 1))[1:-1, 1:-1]
    i, j = np.unravel_index(np.argmax(room), room.shape)
    axes.text(
        x[i], y[j], words, ha="center", va="center", fontweight="bold",
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )  # fmt: skip


def diagram_finding(kinds: "np.ndarray[Any, Any]") -> str:
    ordered, chaotic, nothing = (float((kinds == kind).mean()) for kind in REGIONS)
    if nothing > chaotic:
        return "gradients vanish or the signal runs away, but for a line"
    if ordered and chaotic:
        return "gradients keep their size between order and chaos only"
    return "gradients vanish everywhere here" if ordered else "gradients explode everywhere here"


def angle_contours(axes: "Axes", x: "Array", y: "Array", c_star: "Masked") -> None:
    """Contours of c_star, named at the right edge, where they end."""
    import numpy as np

    levels = (0.1, 0.3, 0.5, 0.7, 0.9)
    angles = np.ma.filled(c_star, np.nan)
    if np.isfinite(angles).sum() < 9 or np.nanmin(angles) > levels[-1]:
        return
    axes.contour(
        x, y, angles.T, levels=levels, colors="#222222", linewidths=0.9, linestyles="dotted"
    )
    for level in levels:
        near = np.abs(angles[-1] - level)
        if np.isfinite(near).any() and np.nanmin(near) < 0.05:
            axes.annotate(
                f"$c^*$ = {level:g}",
                (float(x[-1]), float(y[np.nanargmin(near)])),
                xytext=(-4, 3),
                textcoords="offset points",
                ha="right",
                fontsize=9,
            )


def draw_shapes(
    axes: "Axes",
    shapes: Sequence[tuple[str, "Array", "Array"]],
    colors: Sequence[str],
    dashes: Sequence[str],
) -> None:
    """Activations (label, x, value) over the density of their standard normal inputs."""
    import numpy as np

    axes.axhline(0, color="black", linewidth=0.9, zorder=0)
    for (label, x, value), color, dash in zip(shapes, colors, dashes, strict=False):
        axes.plot(x, value, dash, color=color, label=label)
    low, high = axes.get_ylim()
    x = shapes[0][1]
    density = np.exp(-np.square(x) / 2)
    axes.fill_between(x, low, low + 0.35 * (high - low) * density, color="#e6e6e6", zorder=-1)
    axes.annotate(
        "inputs", (0.5, 0.02), xycoords="axes fraction", ha="center", color=GRAY, fontsize=10
    )
    axes.set(xlim=ends(x), ylim=(low, high), xlabel="input $x$")
    legend(axes)


def around_one(axes: "Axes") -> None:
    """Logarithmic heights, with 1 in sight and plain ticks where all lie close to it."""
    low, high = axes.get_ylim()
    low, high = min(low, 0.5), max(high, 2.0)
    axes.axhline(1, color="black", linewidth=0.9, zorder=0)
    if high / low < 30:
        ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10) if low <= tick <= high]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set_ylim(low, high)
