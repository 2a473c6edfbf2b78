"""Normalization: how fast gradients grow per layer under batch, layer, RMS and weight norms."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf, lgamma, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isograd.errors import InputError
from isograd.theory.activations import Activation, activation
from isograd.theory.averages import averages, variance, whole

Array = NDArray[np.float64]
Norm = Literal["batch", "layer", "rms", "weight"]
Placement = Literal["before", "after"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_LIMITS = np.array([0.0, 1.0, 2.5, 5.0, 9.0])
_BENDS = np.array([1.0, 2.0, 4.0, 8.0])
_MAX_BENDS = 250


@dataclass(frozen=True, slots=True)
class NormGrowth:
    """Factor on the gradient energy per layer backward; None where there is none."""

    growth: float | None
    reason: str


def norm_growth(
    act: object,
    norm: Norm,
    *,
    batch: int | None = None,
    placement: Placement = "before",
) -> NormGrowth:
    """Growth of gradient energy per layer of weights, norm and activation, width to infinity.

    - `batch`, `before` the activation: B -> infinity E phi'^2/Var phi (Yang et al., A mean field
      theory of batch normalization, 2019, section 4), never below 1 for a phi without jumps.
      At a finite batch B, with v uniform on the sphere of radius sqrt(B) orthogonal to 1 and i, j
      two of its entries,
      [(B - 1) E phi'_i^2 + E phi'_i phi'_j - E v_i^2 phi'_i^2 + E v_i phi'_i v_j phi'_j]
      / ((B - 3)(E phi_i^2 - E phi_i phi_j)); for the identity (B - 2)/(B - 3).
      `after` the activation (phi, then norm): its inputs then are Gaussian at a large batch, and
      the growth is the same E phi'^2/Var phi; a finite batch has no closed form.
    - `layer` and `rms`, `before`: E phi'^2/E phi^2 at unit variance. `after`: the layer norm takes
      the mean of phi off, E phi'^2/Var phi; the RMS norm does not.
    - `weight` (weight standardization with gain 1/sqrt(Var phi); Brock et al., Characterizing
      signal propagation to close the performance gap in unnormalized ResNets, 2021, section 4):
      weights of zero mean see Var phi only, E phi'^2/Var phi.

    Args:
        act: whatever `activation` takes.
        norm: 'batch', 'layer', 'rms' or 'weight'.
        batch: examples per batch, at least 4; None for a large one. Of 'batch' only.
        placement: of the norm, 'before' or 'after' the activation; 'after' it, the weights are to
            have variance 1/fan_in, which makes the activation's input of unit variance.

    Raises:
        InputError: an argument out of its range.
    """
    phi = activation(act)
    if norm not in ("batch", "layer", "rms", "weight"):
        raise InputError(f"norm is 'batch', 'layer', 'rms' or 'weight'; got {norm!r}")
    if placement not in ("before", "after"):
        raise InputError(f"placement is 'before' or 'after'; got {placement!r}")
    if batch is not None:
        if norm != "batch":
            raise InputError(f"batch is for norm='batch' only; norm is {norm!r}")
        if placement == "after":
            raise InputError("a finite batch is known for placement='before' only; leave it out")
        return _of_batch(phi, whole("batch", batch, 1))
    of = averages(phi, 1.0)
    centered = norm in ("batch", "weight") or (norm == "layer" and placement == "after")
    if not (of.square < inf and of.slope_square < inf):
        return NormGrowth(None, "E phi^2 or E phi'^2 is infinite at unit variance")
    energy = variance(phi) if centered else of.square
    if not energy > 1e-300:
        return NormGrowth(None, "nothing passes: phi does not vary")
    named = "Var phi" if centered else "E phi^2"
    return NormGrowth(of.slope_square / energy, f"E phi'^2 / {named} at unit variance")


def _of_batch(phi: Activation, batch: int) -> NormGrowth:
    if batch < 4:
        why = "E 1/variance of a batch is infinite below 4 examples"
        return NormGrowth(None, f"the mean gradient energy does not exist: {why}")
    if len(phi.kinks) + len(phi.bends) > _MAX_BENDS:
        count = len(phi.kinks) + len(phi.bends)
        why = f"phi bends {count} times, too often to be integrated over pairs of a batch"
        return NormGrowth(None, f"{why}; the growth at a large batch is known")
    sphere = _Sphere(phi, batch)
    slope = sphere.single(lambda v: phi.slope(v) ** 2)
    moved = sphere.single(lambda v: (v * phi.slope(v)) ** 2)
    slopes = sphere.pair(phi.slope)
    moves = sphere.pair(lambda v: v * phi.slope(v))
    mean = sphere.single(phi.value)

    def centered(v: Array) -> Array:
        return phi.value(v) - mean

    # E phi_i^2 - E phi_i phi_j is free of the mean of phi.
    energy = sphere.single(lambda v: centered(v) ** 2) - sphere.pair(centered)
    if not energy > 1e-300:
        return NormGrowth(None, "nothing passes: phi does not vary")
    growth = ((batch - 1) * slope + slopes - moved + moves) / ((batch - 3) * energy)
    return NormGrowth(growth, f"a batch of {batch}, normalized by its own moments")


class _Sphere:
    """Averages over entries of v, uniform on the (B - 2)-sphere of radius sqrt(B), sum 0.

    One entry is sqrt(B - 1) sin(s) with density cos(s)^(B - 3); given it, another one lies
    around -v_i/(B - 1) by sqrt(B - 1) cos(s) sqrt(1 - 1/(B - 1)^2) sin(t), density cos(t)^(B - 4).
    """

    def __init__(self, phi: Activation, batch: int) -> None:
        # On 20 nodes every other panel of those is enough.
        self._kinks = np.unique([*phi.kinks, *phi.bends[::2], *_BENDS, *-_BENDS])
        self._radius, self._batch = sqrt(batch - 1), batch
        ratio = -1 / (batch - 1)
        edges = np.arcsin(np.clip(self._kinks / self._radius, -1, 1))
        s, weights = self._rule(edges[None], batch - 3)
        self._v, self._w = self._radius * np.sin(s[0]), weights[0]
        # Of the second entry, a row of nodes for each node of the first.
        center = ratio * self._v[:, None]
        reach = sqrt(1 - ratio**2) * self._radius * np.cos(s[0])[:, None]
        edges = np.arcsin(np.clip((self._kinks - center) / np.maximum(reach, 1e-300), -1, 1))
        t, self._pair_w = self._rule(edges, batch - 4)
        self._pair_v = center + reach * np.sin(t)

    def single(self, f: Callable[[Array], Array]) -> float:
        return float(self._w @ f(self._v))

    def pair(self, f: Callable[[Array], Array]) -> float:
        """E f(v_i) f(v_j)."""
        return float(self._w @ (f(self._v) * (self._pair_w * f(self._pair_v)).sum(axis=1)))

    @staticmethod
    def _rule(edges: Array, power: int) -> tuple[Array, Array]:
        """Angles and weights of the density cos^power on [-pi/2, pi/2], rows of panels."""
        near = _LIMITS / sqrt(power + 1)
        inner = np.clip([*near, *-near, np.inf, -np.inf], -np.pi / 2, np.pi / 2)
        edges = np.sort(np.hstack([edges, np.broadcast_to(inner, (len(edges), len(inner)))]))
        half, middle = np.diff(edges) / 2, (edges[:, 1:] + edges[:, :-1]) / 2
        angle = (middle[..., None] + half[..., None] * _NODES).reshape(len(edges), -1)
        weights = (half[..., None] * _WEIGHTS).reshape(len(edges), -1)
        norm = exp(lgamma(power / 2 + 1) - lgamma((power + 1) / 2)) / sqrt(np.pi)
        return angle, weights * np.cos(angle) ** power * norm
