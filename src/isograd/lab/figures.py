"""One style for every figure of the lab, and the marks that always mean the same.

Theory is a black line (and its band gray), measurement is colored dots or lines. Colors are Okabe
and Ito's, which color-blind readers can tell apart; every color has a marker or a dash of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isograd.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), "-", "--")
GRAY = "#666666"

_STYLE: dict[Any, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 110,
    "font.size": 12,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 12.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.linewidth": 2.0,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "svg.hashsalt": "isograd",
    "svg.fonttype": "path",
}

WIDTH = 5.4
"""Of one panel, in inches."""


@contextmanager
def styled() -> Iterator[None]:
    """Draws inside in the lab's style; matplotlib's own settings are as before after it."""
    try:
        import matplotlib
    except ImportError as error:
        raise InputError(
            f"figures need matplotlib ({error}); pip install 'isograd[figures]'"
        ) from error
    with matplotlib.rc_context(_STYLE):
        yield


def new(
    finding: str, panels: int = 1, *, width: float = WIDTH, height: float = 4.4, rows: int = 1
) -> tuple["Figure", "Sequence[Axes]"]:
    """A figure whose title says what was found, with its panels in reading order.

    Args:
        finding: one sentence, at most two lines; broken where the figure ends.
        panels: per row.
        width: of a panel, in inches.
        height: of a row, in inches.
        rows: of panels.
    """
    import textwrap

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A lone panel is wider, so that its title has room.
    total = panels * width if panels > 1 else 1.35 * width
    figure = Figure(figsize=(total, rows * height), layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: it would keep every figure, and choose a window system
    lines = textwrap.fill(finding, int(8.7 * total))
    figure.suptitle(lines, x=0.012, ha="left", fontsize=13.5, fontweight="bold")
    return figure, [figure.add_subplot(rows, panels, i + 1) for i in range(rows * panels)]


def look(index: int) -> dict[str, Any]:
    """Color, marker and dash of the index-th of several things."""
    index %= len(COLORS)
    return {"color": COLORS[index], "marker": MARKERS[index], "linestyle": DASHES[index]}


def theory(
    axes: "Axes",
    x: Sequence[float],
    y: Sequence[float],
    *,
    label: str | None = "theory",
    band: tuple[Sequence[float], Sequence[float]] | None = None,
    **style: Any,
) -> None:
    """What theory predicts: a black line, and the band in which finite networks fall."""
    if band is not None:
        axes.fill_between(x, band[0], band[1], color="black", alpha=0.12, linewidth=0)
    axes.plot(x, y, **{"color": "black", "linewidth": 1.4, "label": label, "zorder": 1.5, **style})


def measured(
    axes: "Axes",
    x: Sequence[float],
    y: Sequence[float],
    index: int = 0,
    *,
    label: str | None = None,
    spread: Sequence[float] | None = None,
    joined: bool = False,
) -> None:
    """What was measured: dots of one color; error bars of `spread`, lines if `joined`."""
    style = look(index)
    if not joined:
        style["linestyle"] = "none"
    axes.errorbar(x, y, yerr=spread, label=label, capsize=2.5 if spread is not None else 0, **style)


def lines(
    axes: "Axes", x: Sequence[float], rows: Mapping[str, Sequence[float]], start: int = 0
) -> None:
    """Several measured curves by name, each with its color and dash."""
    for index, (label, y) in enumerate(rows.items(), start):
        style = {key: value for key, value in look(index).items() if key != "marker"}
        axes.plot(x, y, label=label, **style)


def table(axes: "Axes", rows: Sequence[Sequence[str]], columns: Sequence[str]) -> None:
    """A table in place of a plot."""
    axes.axis("off")
    made = axes.table(cellText=[list(r) for r in rows], colLabels=list(columns), loc="center")
    made.auto_set_font_size(False)
    made.set_fontsize(10.5)
    made.scale(1, 1.4)
    for (row, _), cell in made.get_celld().items():
        cell.set_edgecolor("#cccccc")
        if row == 0:
            cell.set_text_props(fontweight="bold")


def save(figure: "Figure", path: Path) -> None:
    """Writes a figure as PNG or SVG; the same numbers make the same file, byte for byte.

    A PNG has 256 colors, which is half the size, and no fewer than a figure uses.
    """
    with styled():
        if path.suffix == ".svg":
            figure.savefig(path, metadata={"Date": None})
            return
        from io import BytesIO

        from PIL import Image

        drawn = BytesIO()
        figure.savefig(drawn, format="png", metadata={"Software": None})
        Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
