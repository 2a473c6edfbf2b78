"""The diagram is `phase` at every point, however it is solved."""

import numpy as np
import pytest
import torch

from isograd.errors import InputError
from isograd.theory import phase, phase_diagram

FIELDS = "q_star chi_1 chi_q c_star chi_c xi_q xi_c usable_depth".split()


def agree(act: object, weights: np.ndarray, biases: np.ndarray, share: int = 1, **options) -> None:
    diagram = phase_diagram(act, weights, biases, **options)
    for i, j in np.ndindex(len(weights), len(biases)):
        if (i * len(biases) + j) % share:
            continue
        one = phase(act, weight_var=weights[i], bias_var=biases[j], **options)
        for field in FIELDS:
            got, wanted = getattr(diagram, field)[i, j], getattr(one, field)
            if wanted is None:
                assert got is np.ma.masked, (field, i, j)
                continue
            # A scale -1/ln chi is as much less sure as chi is close to 1.
            loose = {"chi_c": 1e-7, "xi_c": 1e-4, "usable_depth": 1e-4, "xi_q": 1e-6}
            assert got == pytest.approx(wanted, rel=loose.get(field, 1e-10), abs=1e-10), (
                field,
                i,
                j,
            )
        for field in ("stable", "phase"):
            got, wanted = getattr(diagram, field)[i, j], getattr(one, field)
            assert got is np.ma.masked if wanted is None else got == wanted


@pytest.mark.parametrize(
    "name", ["tanh", "gelu", "hardtanh", "selu", "hardshrink", "sin", "softsign", "relu"]
)
def test_every_point_is_its_phase(name: str) -> None:
    agree(name, np.linspace(0.1, 4, 23), np.linspace(0, 1, 19), share=7)


def test_large_variances() -> None:
    agree("tanh", np.geomspace(0.01, 300, 13), np.geomspace(1e-8, 20, 11), share=5)


def test_jumps_that_are_hardly_reached() -> None:
    """c* is 1 to rounding, where a jump leaves the slope (1 + chi_1)/2."""
    agree("hardshrink", np.array([0.5, 0.98]), np.geomspace(5e-3, 20, 9))
    faint = phase("hardshrink", weight_var=0.5, bias_var=0.005)
    assert (faint.c_star, faint.phase) == (1.0, "chaotic")
    assert faint.chi_c == pytest.approx((1 + faint.chi_1) / 2, rel=1e-6)


def test_several_fixed_points() -> None:
    def stairs(x: torch.Tensor) -> torch.Tensor:
        return x - torch.tanh(x) + 0.3 * torch.tanh(4 * x)

    weights, biases = np.linspace(0.3, 1.6, 4), np.linspace(0, 0.5, 3)
    agree(stairs, weights, biases, q0=0.01)
    agree(stairs, weights, biases, q0=50.0)


def test_shape_axes_and_masks() -> None:
    diagram = phase_diagram("exp", [0.05, 0.1, 2.0], [0.0, 0.1])
    assert diagram.q_star.shape == (3, 2)
    assert diagram.activation == "exp"
    assert diagram.q_star.mask.tolist() == [[False, False], [False, False], [True, True]]
    assert not np.isnan(diagram.q_star.filled(0)).any()


def test_one_point() -> None:
    diagram = phase_diagram("tanh", 2.5, 0.05)
    assert diagram.c_star[0, 0] == pytest.approx(0.44680423234426709, rel=1e-12)
    assert diagram.phase[0, 0] == "chaotic"


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="weight_var is 0"):
        phase_diagram("tanh", [1.0, 0.0], [0.1])
    with pytest.raises(InputError, match="bias_var is -1"):
        phase_diagram("tanh", [1.0], [0.1, -1.0])
