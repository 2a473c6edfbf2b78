"""Figures of predictions: a sweep in, a matplotlib figure out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isograd.errors import InputError
from isograd.reporting._theory_axes import around_one, legend, new_figure, styled
from isograd.reporting.sweeps import short_value
from isograd.reporting.theory_figures import BLUE, COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from isograd.prediction.sweeping import Point, Sweep

WEAK = 1e-3
"""Share of the gradient from which a network is told to lose it (IG101)."""


@styled
def sweep(found: Sweep) -> Figure:
    """Gradient and signal against the swept value.

    Raises:
        InputError: no point has numbers.
    """
    import numpy as np

    points = [point for point in found.points if not point.error and point.layers]
    if not points:
        raise InputError("--figure: no point of the sweep has numbers to draw")
    figure, (back, ahead) = new_figure(2, width=11, height=4.6)
    name = found.name.replace("_", "-")
    along = _are_numbers(points)
    x = [float(p.value) for p in points] if along else [float(i) for i in range(len(points))]
    line = "o-" if along else "o"
    back.set_title("gradient: first weight layer / last", loc="left")
    ratio = np.array([np.nan if p.gradient is None else p.gradient for p in points], dtype=float)
    ratio = np.where(ratio > 0, ratio, np.nan)
    spread = np.array([p.gradient_band or 0.0 for p in points], dtype=float)
    _band(back, x, (ratio * np.exp(-2 * spread), ratio * np.exp(2 * spread)), COLORS[1],
          "where 95 % of random draws would lie", along=along)  # fmt: skip
    back.plot(x, ratio, line, color=COLORS[1])
    back.set_ylabel("norm of dLoss/d(output)")
    if np.isfinite(ratio).any() and np.nanmin(ratio) < 1:
        back.axhline(WEAK, color="black", linewidth=0.9, linestyle=":")
        back.annotate(
            "vanishing below", (0.99, WEAK), xycoords=("axes fraction", "data"), ha="right",
            xytext=(0, 3), textcoords="offset points", fontsize=9,
        )  # fmt: skip
    ahead.set_title("signal: rms of weight layers and residual sums", loc="left")
    least, most, last = (
        np.array([getattr(p, f"signal_{key}") for p in points], dtype=float)
        for key in ("least", "most", "last")
    )
    _band(ahead, x, (least, most), BLUE, "all layers", along=along)
    ahead.plot(x, last, line, color=BLUE, label="last layer")
    ahead.set_ylabel("rms")
    for axes in (back, ahead):
        axes.set_yscale("log")
        _label(axes, name, points, along=along)
    around_one(back)
    legend(back)
    legend(ahead)
    return figure


def _are_numbers(points: list[Point]) -> bool:
    """Whether the values have places of their own on an axis."""
    return all(isinstance(p.value, (int, float)) and not isinstance(p.value, bool) for p in points)


def _band(
    axes: Axes, x: list[float], ends: tuple[Any, Any], color: str, label: str, *, along: bool
) -> None:
    """What lies between two curves; bars where the values are words."""
    if along and len(x) > 1:
        axes.fill_between(x, *ends, color=color, alpha=0.2, linewidth=0, label=label)
    else:
        axes.vlines(x, *ends, color=color, alpha=0.3, linewidth=9, label=label)


def _label(axes: Axes, name: str, points: list[Point], *, along: bool) -> None:
    axes.set_xlabel(name)
    values = [point.value for point in points]
    if not along:
        turned = 30 if sum(len(short_value(v)) for v in values) > 40 else 0
        axes.set_xticks(
            range(len(values)), [short_value(v) for v in values], rotation=turned,
            ha="right" if turned else "center",
        )  # fmt: skip
        axes.set_xlim(-0.5, len(values) - 0.5)
    elif min(values) > 0 and max(values) > 30 * min(values):
        axes.set_xscale("log")
