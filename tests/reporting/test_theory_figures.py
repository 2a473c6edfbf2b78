"""Figures of the theory: what they show, told by their parts; that they can be had twice alike."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from isograd.errors import InputError
from isograd.reporting import theory_figures as figures

Q = np.geomspace(0.1, 10, 7)


def a_line(stable: list[int], feasible: list[int]) -> figures.Line:
    return figures.Line(
        q_star=Q,
        weight_var=np.linspace(1, 3, 7),
        bias_var=np.where(np.array(feasible) > 0, np.linspace(0, 1, 7), -0.5),
        chi_q=np.where(np.array(stable) > 0, 0.5, 1.5),
        feasible=np.array(feasible) > 0,
        stable=np.array(stable) > 0,
    )


HALF = a_line(stable=[0, 0, 0, 1, 1, 1, 1], feasible=[1] * 7)


def diagram(chi: np.ndarray, phases: np.ndarray) -> Figure:
    weights, biases = np.linspace(1, 3, chi.shape[0]), np.linspace(0, 1, chi.shape[1])
    return figures.phase_diagram(
        "bent",
        weights,
        biases,
        chi_1=np.ma.masked_invalid(chi),
        c_star=np.ma.masked_invalid(np.where(chi > 1, 1 / chi, np.nan)),
        phase=phases.tolist(),
        line=HALF,
    )


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def test_a_diagram_names_its_regions_and_says_what_it_finds() -> None:
    chi = np.repeat(np.linspace(0.3, 3, 12)[:, None], 9, axis=1)
    figure = diagram(chi, np.where(chi < 1, "ordered", "chaotic"))
    told = words(figure)
    assert "bent: gradients keep their size between order and chaos only" in told
    assert "gradients vanish" in told
    assert "gradients explode" in told
    assert "$c^*$ = 0.3" in told  # 1/3 at the right edge
    assert "runs away" not in told


def test_a_diagram_with_a_hole() -> None:
    chi = np.full((12, 9), np.nan)
    chi[:6] = 0.5
    phases = np.where(np.isfinite(chi), "ordered", None)
    told = words(diagram(chi, phases))
    assert "no stable length\nthe signal runs away" in told
    assert "chaotic" not in told
    nothing = np.full((12, 9), np.nan)
    assert "runs away" in words(diagram(nothing, np.full((12, 9), None)))


def test_the_unstable_part_of_a_line_is_dashed() -> None:
    figure = figures.critical_line("bent", HALF, verdict="half-stable", threshold=(2.0, 0.5))
    plane, slope = figure.axes
    for axes in (plane, slope):
        dashes = {line.get_label(): line.get_linestyle() for line in axes.get_lines()}
        assert dashes["critical, stable"] == "-"
        assert dashes["critical, unstable"] == "--"
    assert "bent: critical points exist, but the signal runs away" in words(figure)
    assert "(2.000, 0.500)" in words(figure)
    solid = next(line for line in plane.get_lines() if line.get_linestyle() == "-")
    # The parts meet: the solid one begins where the last dashed point is.
    assert np.isfinite(solid.get_xdata()).sum() == 5


def test_what_no_network_can_be_is_dotted() -> None:
    line = a_line(stable=[1] * 7, feasible=[0] * 7)
    figure = figures.critical_line("bent", line, verdict="none")
    assert {part.get_linestyle() for part in figure.axes[0].get_lines()} == {":"}
    assert "no usable critical initialization" in words(figure)
    assert figure.axes[0].get_ylim()[0] < -0.5


def test_a_line_that_is_one_point_is_a_dot() -> None:
    one = figures.Line(Q, np.full(7, 2.0), np.zeros(7), np.ones(7), Q > 0, Q > 0)
    figure = figures.critical_line("bent", one, verdict="stable")
    (dot,) = figure.axes[0].get_lines()
    assert (dot.get_marker(), dot.get_xdata().tolist()) == ("o", [2.0])


def test_correlations_have_a_curve_a_dot_and_a_gradient_each() -> None:
    c = np.linspace(0, 1, 5)
    curves = [
        figures.Curve(name, c, c, star, np.linspace(0, 1, 9), 2.0 ** np.arange(9))
        for name, star in (("left", 0.3), ("right", None))
    ]
    figure = figures.correlations("what they show", curves)
    single, deep, back = figure.axes
    assert len(single.get_lines()) == 1 + 2 + 1  # the diagonal, curves, the one dot
    assert len(back.get_lines()) == 2 + 1
    assert len({line.get_linestyle() for line in back.get_lines()[:2]}) == 2
    assert "what they show" in words(figure)
    assert deep.get_ylim() == single.get_ylim()


def test_a_spectrum_is_a_density_per_ln_s() -> None:
    square = np.geomspace(0.25, 4, 50)
    # Uniform in ln s over ln 4: the height is 1/ln 4 everywhere.
    density = 1 / (2 * square * np.log(4))
    figure = figures.spectra("title", [figures.Density("flat", square, density)])
    line = figure.axes[0].get_lines()[0]
    np.testing.assert_allclose(line.get_ydata(), 1 / np.log(4))
    np.testing.assert_allclose(line.get_xdata()[[0, -1]], [0.5, 2])
    assert figures.spectra("nothing to draw", []).axes


@pytest.mark.parametrize("suffix", figures.SUFFIXES)
def test_the_same_numbers_make_the_same_file(tmp_path: Path, suffix: str) -> None:
    before = dict(mpl.rcParams)
    pages = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}{suffix}"
        figure = figures.critical_line("bent", HALF, verdict="half-stable")
        figures.save(figure, str(path))
        pages.append(path.read_bytes())
    assert pages[0] == pages[1]
    assert dict(mpl.rcParams) == before


def test_what_cannot_be_drawn_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"written as \.png or \.svg"):
        figures.check("x.pdf")
    figure = figures.spectra("", [])
    with pytest.raises(InputError, match="cannot be written"):
        figures.save(figure, str(tmp_path / "nowhere" / "x.png"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"isograd\[figures\]"):
        figures.check("x.png")
