"""Convolution: what zero padding loses at the borders, and what pooling does to moments."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from isograd.errors import InputError
from isograd.theory.averages import number, whole
from isograd.theory.gaussian import expect

Array = NDArray[np.float64]
Sizes = int | Sequence[int]


@dataclass(frozen=True, slots=True)
class Pooled:
    """Moments of one output of a pooling layer."""

    mean: float
    variance: float

    @property
    def second_moment(self) -> float:
        """E y^2."""
        return self.mean**2 + self.variance


def padding_factor(
    size: Sizes,
    kernel: Sizes,
    *,
    padding: Sizes | str = 0,
    stride: Sizes = 1,
    dilation: Sizes = 1,
) -> float:
    """Factor on the mean energy of a convolution by zero padding: mean share of taps inside.

    A random convolution keeps q per position as a dense layer of fan_in = taps * channels does
    (Xiao et al., Dynamical isometry and a mean field theory of CNNs, 2018, section 2.1); an output
    whose taps reach into the padding sums fewer terms. Exact for inputs of equal energy at every
    position; independent axes multiply.

    Args:
        size: of the input, per axis, as for torch's convolutions.
        kernel: taps per axis.
        padding: zeros on either side per axis, or 'same' or 'valid'.
        stride: per axis.
        dilation: per axis.

    Returns:
        A factor from 0 to 1, the mean over all output positions.

    Raises:
        InputError: no output is left, or axes do not match.
    """
    shares = padding_shares(size, kernel, padding=padding, stride=stride, dilation=dilation)
    return prod(float(share.mean()) for share in shares)


def padding_shares(
    size: Sizes,
    kernel: Sizes,
    *,
    padding: Sizes | str = 0,
    stride: Sizes = 1,
    dilation: Sizes = 1,
) -> list[Array]:
    """Share of taps inside the input at every output position, one array [output] per axis.

    Arguments and errors as for `padding_factor`; the share at a position is the product over axes.
    """
    sources = _sources(size, kernel, padding, stride, dilation)
    return [inside.mean(axis=1) for _, inside in sources]


def padding_profile(
    size: Sizes, kernel: Sizes, depth: int, *, padding: Sizes | str = "same", dilation: Sizes = 1
) -> list[Array]:
    """Energy by position after `depth` convolutions of stride 1, one array [output] per axis.

    Energy starts as 1 everywhere and each layer averages what its taps reach; borders fade first.
    The energy at a position is the product over axes. It holds for linear networks and, per
    position, for scale-invariant activations at their critical weights.

    Args:
        size: of the input, per axis.
        kernel: taps per axis.
        depth: number of layers.
        padding: as for `padding_factor`.
        dilation: per axis.

    Raises:
        InputError: no output is left, or axes do not match.
    """
    depth = whole("depth", depth, 0, 100_000)
    axes = [np.ones(n) for n in _axes("size", size, 0)]
    for _ in range(depth):
        sizes = [len(energy) for energy in axes]
        sources = _sources(sizes, kernel, padding, 1, dilation)
        axes = [
            np.where(inside, energy[np.clip(at, 0, len(energy) - 1)], 0.0).mean(axis=1)
            for energy, (at, inside) in zip(axes, sources, strict=True)
        ]
    return axes


def average_pool(
    taps: int, *, mean: float = 0.0, variance: float = 1.0, correlation: float = 0.0
) -> Pooled:
    """Average of `taps` inputs: variance (1 + (taps - 1) correlation) / taps of theirs.

    Args:
        taps: inputs per output, the product of the kernel's sizes.
        mean: of each input.
        variance: of each input.
        correlation: between two inputs of one window, from -1/(taps - 1) to 1.

    Raises:
        InputError: an argument out of its range.
    """
    taps = whole("taps", taps)
    number("mean", mean, least=-1e300)
    number("variance", variance)
    least = -1 / (taps - 1) if taps > 1 else -1.0
    if not least - 1e-12 <= correlation <= 1:
        raise InputError(f"correlation is from {least:g} to 1 at {taps} taps; got {correlation!r}")
    return Pooled(mean, variance * max(0.0, 1 + (taps - 1) * correlation) / taps)


def max_pool(taps: int, *, mean: float = 0.0, variance: float = 1.0) -> Pooled:
    """Largest of `taps` independent Gaussian inputs.

    Moments of the top order statistic, of density taps Phi^(taps - 1) phi, by quadrature.

    Args:
        taps: inputs per output, at most a million.
        mean: of each input.
        variance: of each input.

    Raises:
        InputError: an argument out of its range.
    """
    from scipy.special import ndtr

    taps = whole("taps", taps, 1, 1_000_000)
    number("mean", mean, least=-1e300)
    std = sqrt(number("variance", variance))

    # Where the largest of many lies, the density is narrow: panels every half standard deviation.
    edges = tuple(np.arange(-9.0, 9.5, 0.5))

    def moment(f: Array, at: Array) -> Array:
        return np.asarray(f * taps * ndtr(at) ** (taps - 1))

    first = expect(lambda z: moment(z, z), kinks=edges)
    second = expect(lambda z: moment((z - first) ** 2, z), kinks=edges)
    return Pooled(mean + std * first, std**2 * second)


def _sources(
    size: Sizes, kernel: Sizes, padding: Sizes | str, stride: Sizes, dilation: Sizes
) -> list[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
    """For each axis the input index of each output's taps, and whether it is inside."""
    sizes = _axes("size", size, 0)
    count = len(sizes)
    kernels = _axes("kernel", kernel, count)
    strides = _axes("stride", stride, count)
    dilations = _axes("dilation", dilation, count)
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise InputError(f"padding is a number, 'same' or 'valid'; got {padding!r}")
        reach = [d * (k - 1) for k, d in zip(kernels, dilations, strict=True)]
        total = reach if padding == "same" else [0] * count
        if padding == "same" and any(s != 1 for s in strides):
            raise InputError("padding='same' goes with stride 1 only, as in torch")
    else:
        total = [2 * p for p in _axes("padding", padding, count, 0)]
    found = []
    for n, k, s, d, both in zip(sizes, kernels, strides, dilations, total, strict=True):
        outputs = (n + both - d * (k - 1) - 1) // s + 1
        if outputs < 1:
            raise InputError(f"a kernel of {k} taps {d} apart does not fit into {n} + {both}")
        # An odd total puts the extra zero behind, as torch does.
        at = np.arange(outputs)[:, None] * s + np.arange(k) * d - both // 2
        found.append((at, (at >= 0) & (at < n)))
    return found


def _axes(name: str, value: Sizes, count: int, least: int = 1) -> list[int]:
    """One number per axis; `count` is 0 where it is not yet known."""
    many = list(value) if isinstance(value, Sequence) else [value] * max(count, 1)
    if not many or (count and len(many) != count):
        raise InputError(f"{name} has {len(many)} axes, size has {count}")
    return [whole(name, one, least, 10_000_000) for one in many]
