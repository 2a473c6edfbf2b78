"""Phase diagram: where depth leads, over a grid of weight and bias variances."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PhaseDiagram:
    """`Phase` over a grid; arrays are [weight_vars, bias_vars], masked where there is none."""

    activation: str
    weight_vars: Array
    bias_vars: Array
    q_star: np.ma.MaskedArray
    stable: np.ma.MaskedArray
    chi_1: np.ma.MaskedArray
    chi_q: np.ma.MaskedArray
    c_star: np.ma.MaskedArray
    chi_c: np.ma.MaskedArray
    xi_q: np.ma.MaskedArray
    xi_c: np.ma.MaskedArray
    phase: np.ma.MaskedArray
    usable_depth: np.ma.MaskedArray


def phase_diagram(
    act: object, weight_vars: ArrayLike, bias_vars: ArrayLike, *, q0: float = 1.0
) -> PhaseDiagram:
    """The phase at every pair of a weight and a bias variance."""
    raise NotImplementedError
