"""Fixed points: the lengths and angles that depth leads to, and how fast."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """A mean square q that a layer maps to itself."""

    q: float
    chi_q: float
    """dQ/dq there."""
    stable: bool
    """|dQ/dq| < 1, or approached from both sides at 1."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Where depth leads a network of given weight and bias variance. None: there is none."""

    q_star: float | None
    """Mean square of the pre-activations at the fixed point that q0 leads to."""
    stable: bool | None
    """Whether q_star attracts its neighborhood."""
    chi_1: float | None
    """sigma_w^2 E phi'^2: factor on the gradient energy per layer backward."""
    chi_q: float | None
    """dQ/dq at q_star."""
    c_star: float | None
    """Correlation that two different inputs come to."""
    chi_c: float | None
    """Slope of the correlation map at c_star."""
    xi_q: float | None
    """Layers over which the length forgets by a factor e, -1/ln |chi_q|; inf where chi_q is 1."""
    xi_c: float | None
    """The same for the angle, -1/ln chi_c."""
    phase: Literal["ordered", "critical", "chaotic"] | None
    usable_depth: float | None
    """Layers that remain trainable, about 6 xi_c."""
    reason: str
    """The verdict in one sentence."""
    fixed_points: tuple[FixedPoint, ...]
    """All that were found, by q."""


def phase(act: object, *, weight_var: float, bias_var: float = 0.0, q0: float = 1.0) -> Phase:
    """The fixed point that a signal of mean square q0 is led to, and what follows."""
    raise NotImplementedError
