"""Residual: length, angle and gradient over the blocks of a residual network."""

from dataclasses import dataclass
from math import inf, isfinite, log
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isograd.errors import InputError
from isograd.theory.activations import Activation, activation
from isograd.theory.averages import number, whole
from isograd.theory.maps import correlation_map
from isograd.theory.moments import moments_at

Array = NDArray[np.float64]
Norm = Literal["batch", "layer"] | None

_LARGEST = 1e250
_LEAST = 1e-250


@dataclass(frozen=True, slots=True)
class Residual:
    """A residual network's signal and gradient by block; index 0 is the input of the first block.

    All arrays [blocks + 1]; they end before `depth` where numbers leave the range of float64.
    """

    q: Array
    """Mean square of the stream."""
    c: Array
    """Correlation of two inputs' streams."""
    block_growth: Array
    """Factor on the gradient energy backward, by block, [blocks]."""
    log_gradient: Array
    """ln of the gradient energy on the stream, relative to the last block's output."""
    reason: str
    """Empty, or why the arrays end early."""

    @property
    def gradient(self) -> Array:
        """Gradient energy on the stream, relative to the last block's output; inf beyond 1e308."""
        return np.exp(np.where(self.log_gradient > 709, inf, self.log_gradient))


@dataclass(frozen=True, slots=True)
class _Branch:
    act: Activation
    scale: float
    weight_var: float
    bias_var: float
    norm: Norm
    before: bool
    layers: int


def residual(
    act: object,
    depth: int,
    *,
    branch_scale: float = 1.0,
    weight_var: float | None = None,
    bias_var: float = 0.0,
    norm: Norm = None,
    placement: Literal["pre", "post"] = "pre",
    layers_per_branch: int = 1,
    q0: float = 1.0,
    c0: float = 0.0,
) -> Residual:
    """Blocks x <- x + branch_scale f(x) at infinite width, f = (W phi) ... (W phi)(norm x).

    Fresh zero-mean weights add energies: q <- q + a^2 Q_f, the covariance of two inputs likewise,
    and a gradient's energy grows by 1 + a^2 chi_f per block (Yang and Schoenholz, Mean field
    residual networks: on the edge of chaos, 2017, section 3). He-initialized ReLU branches double
    q and the gradient, 2^L; at branch_scale 1/sqrt(L) they come to e. A norm at the head of the
    branch divides chi_f by what it divides the stream by (De and Smith, Batch normalization biases
    residual blocks towards the identity function in deep networks, 2020, section 3): with Q_f = 1,
    q_l = l + 1 and the gradient energy grows as 1 + 1/(l + 1), L + 1 in all.

    A layer norm divides by sqrt(q). A batch norm takes the mean over the batch off as well, and
    divides by sqrt(q (1 - c)): inputs of a batch come to agree in part, as ReLU's positive mean
    makes them, and gradients then grow faster than L + 1 (for ReLU as L^(pi/(pi - 1))).

    Args:
        act: whatever `activation` takes.
        depth: number of blocks, at most 100,000.
        branch_scale: a.
        weight_var: sigma_w^2 of the branch's layers; None for 1/E phi^2 (ReLU: 2).
        bias_var: sigma_b^2 of them.
        norm: 'batch' (of a large batch whose inputs all correlate as the two do), 'layer' or None.
        placement: of the norm, 'pre' at the head of the branch or 'post' after the sum.
        layers_per_branch: pairs of activation and weights in f.
        q0: mean square of the stream at the input.
        c0: correlation of two inputs.

    Raises:
        InputError: an argument out of its range.
    """
    phi = activation(act)
    if norm not in (None, "batch", "layer"):
        raise InputError(f"norm is 'batch', 'layer' or None; got {norm!r}")
    if placement not in ("pre", "post"):
        raise InputError(f"placement is 'pre' or 'post'; got {placement!r}")
    if not -1 <= c0 <= 1 or (norm == "batch" and not 0 <= c0 < 1):
        raise InputError(f"c0 is from -1 to 1, with batch norm from 0 to below 1; got {c0!r}")
    if weight_var is None:
        square, _ = moments_at(phi, 1.0)
        if not 1e-300 < square < inf:
            raise InputError(f"{phi.name} passes nothing at unit variance; give weight_var")
        weight_var = 1 / square
    branch = _Branch(
        phi,
        number("branch_scale", branch_scale),
        number("weight_var", weight_var),
        number("bias_var", bias_var),
        norm,
        placement == "pre",
        whole("layers_per_branch", layers_per_branch, 1, 1000),
    )
    return _follow(branch, whole("depth", depth, 0, 100_000), number("q0", q0, above=0), c0)


def _follow(branch: _Branch, depth: int, q: float, c: float) -> Residual:
    states, growths, reason = [(q, c)], [], ""
    for block in range(depth):
        try:
            after = _block(branch, q, q * c)
        except InputError as error:
            # Averages of a curved activation end at a finite q.
            after, reason = None, f"block {block + 1}: {error}"
        if after is None:
            why = "leaves the range of float64, or nothing to normalize"
            reason = reason or f"block {block + 1} {why}"
            break
        q, covariance, growth = after
        c = min(1.0, max(-1.0, covariance / q))
        states.append((q, c))
        growths.append(growth)
    logs = np.array([log(growth) for growth in growths])
    lengths, angles = np.array(states).T
    gradient = np.append(np.cumsum(logs[::-1])[::-1], 0.0)
    return Residual(lengths, angles, np.array(growths), gradient, reason)


def _block(branch: _Branch, q: float, p: float) -> tuple[float, float, float] | None:
    """(q, covariance, growth of the gradient energy) after one block."""
    inner, chi = (q, p), 1.0
    if branch.norm and branch.before:
        inner, divisor = _normalized(branch.norm, q, p)
        if divisor < _LEAST:
            return None
        chi = 1 / divisor
    for _ in range(branch.layers):
        size, shared = inner
        if not _LEAST < size < _LARGEST:
            return None
        square, slope_square = moments_at(branch.act, size)
        c = min(1.0, max(-1.0, shared / size))
        both = correlation_map(
            branch.act, c, size, weight_var=branch.weight_var, bias_var=branch.bias_var
        )
        inner = branch.weight_var * square + branch.bias_var, both.covariance
        chi *= branch.weight_var * slope_square
    energy = branch.scale * branch.scale
    q, p, growth = q + energy * inner[0], p + energy * inner[1], 1 + energy * chi
    if branch.norm and not branch.before:
        (q, p), divisor = _normalized(branch.norm, q, p)
        if divisor < _LEAST:
            return None
        growth /= divisor
    if not (_LEAST < q < _LARGEST and isfinite(p) and 0 < growth < _LARGEST):
        return None
    return q, p, growth


def _normalized(norm: str, q: float, p: float) -> tuple[tuple[float, float], float]:
    """((q, covariance) after the norm, the energy it divides by)."""
    if norm == "layer":
        return (1.0, p / q), q
    return (1.0, 0.0), max(0.0, q - p)
