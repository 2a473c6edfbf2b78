"""Draws: how the values of a tensor that is never filled are distributed, and arithmetic on them.

A draw is shift + scale * base, with a base of known mean and variance. Where the shape of the base
is known too it has a grid, quadrature nodes in the order of the random numbers behind it: any
elementwise function goes through the nodes, and two draws made of the same random numbers
combine node by node (`x + log(-expm1(-x))` comes out right).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

Grid = tuple[Tensor, Tensor]
"""Nodes and weights, float64, each (n,); the weights sum to 1."""

_PANELS = 400
_POINTS = 4
_REACH = 10.0
"""Standard deviations to which normal variables are integrated: beyond lie 2e-23 of them."""
_NEARLY_CONSTANT = 0.1
"""Deviation over mean up to which a reciprocal is expanded to second order (1e-4 off)."""
_ROUNDING = 1e-13
"""Means below this many deviations are rounding errors of a quadrature."""
_HARDLY = 1e-9
"""Change of the moments, in deviations, below which cutting values off is no change."""
_AT_BOUND = 1e-6
"""Relative slack in asking whether all values are inside bounds (float32 rounding)."""


@dataclass(frozen=True, slots=True)
class Law:
    """How the values of one tensor are distributed at initialization."""

    mean: float
    variance: float
    kind: str = "unknown"
    """`normal`, `uniform`, `trunc_normal`, `zeros`, `constant`, `orthogonal`, `eye`, `dirac`,
    `sparse`, `mixed` (parts of different laws), `values` (of a real tensor) … or `unknown`."""


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """A distribution of known mean and variance."""

    kind: str
    mean: float
    variance: float
    grid: Callable[[], Grid] | None = None
    support: tuple[float, float] = (-math.inf, math.inf)
    mean_of: tuple[int, float] | None = None
    """The root whose mean this is, and its covariance with each of the numbers averaged."""


class Draw(NamedTuple):
    """The values shift + scale * base; draws of one root are made of the same random numbers."""

    base: Base
    shift: float
    scale: float
    root: int
    identity: int
    """Tensors of the same identity hold the same values."""

    @property
    def mean(self) -> float:
        """Of one entry."""
        return self.shift + self.scale * self.base.mean

    @property
    def variance(self) -> float:
        """Of one entry."""
        return self.scale**2 * self.base.variance

    @property
    def is_constant(self) -> bool:
        """Whether all entries are one known number."""
        return self.base.kind == "constant"

    @property
    def law(self) -> Law:
        """What is told of it outside."""
        if self.is_constant:
            return Law(self.shift, 0.0, "constant" if self.shift else "zeros")
        return Law(self.mean, self.variance, self.base.kind)

    def nodes(self) -> Grid | None:
        """Values at the quadrature nodes, and their weights."""
        if self.base.grid is None:
            return None
        values, weights = self.base.grid()
        return self.shift + self.scale * values, weights


class Unknown(NamedTuple):
    """Values of which nothing is known, and why."""

    cause: str


Values = Draw | Unknown
EMPTY = Unknown("its memory was never filled (torch.empty)")

fresh = count(1).__next__
"""A number not given before: for roots and identities."""


def token(*parts: object) -> int:
    """A number for a sequence of numbers and texts, the same in every process."""
    return hash(tuple(crc32(p.encode()) if isinstance(p, str) else p for p in parts))


@lru_cache(maxsize=256)
def _grid(low: float, high: float, *, bell: bool) -> Grid:
    """Composite Gauss-Legendre nodes on an interval, weighted by exp(-z^2/2) if `bell`."""
    points, weights = np.polynomial.legendre.leggauss(_POINTS)
    edges = np.linspace(low, high, _PANELS + 1)
    half = np.diff(edges) / 2
    z = ((edges[:-1] + edges[1:])[:, None] / 2 + half[:, None] * points).ravel()
    w = (half[:, None] * weights).ravel()
    if bell:
        nearest = min(max(0.0, low), high)
        w = w * np.exp((nearest**2 - z**2) / 2)
    return torch.from_numpy(z), torch.from_numpy(w / w.sum())


def _moments(values: Tensor, weights: Tensor) -> tuple[float, float]:
    mean = float((weights * values).sum())
    variance = float((weights * (values - mean) ** 2).sum())
    return (mean if abs(mean) > _ROUNDING * math.sqrt(variance) else 0.0), variance


@lru_cache(maxsize=256)
def _truncated(low: float, high: float) -> Base:
    """A standard normal variable between two bounds; its moments by quadrature."""
    if low > 0:
        ends = low, min(high, low + 40 / max(low, 4.0))
    elif high < 0:
        ends = max(low, high + 40 / min(high, -4.0)), high
    else:
        ends = max(low, -_REACH), min(high, _REACH)
    grid = partial(_grid, *ends, bell=True)
    mean, variance = _moments(*grid())
    return Base("trunc_normal", mean, variance, grid, (low, high))


def _pair(values: Tensor, weights: Tensor) -> Grid:
    return values, weights


_NORMAL = Base("normal", 0.0, 1.0, partial(_grid, -_REACH, _REACH, bell=True))
_UNIFORM = Base("uniform", 0.0, 1 / 3, partial(_grid, -1.0, 1.0, bell=False), (-1.0, 1.0))
_CONSTANT = Base("constant", 0.0, 0.0)


# -- where values come from ---------------------------------------------------------------------


def constant(value: float) -> Draw:
    """All entries are `value`."""
    same = token("constant", value)
    return Draw(_CONSTANT, value, 0.0, same, same)


def normal(mean: float, std: float) -> Draw:
    """N(mean, std^2)."""
    new = fresh()
    return Draw(_NORMAL, mean, std, new, new) if std else constant(mean)


def uniform(low: float, high: float) -> Draw:
    """Uniform between two bounds."""
    new, half = fresh(), (high - low) / 2
    return Draw(_UNIFORM, low + half, half, new, new) if half else constant(low)


def trunc_normal(mean: float, std: float, low: float, high: float) -> Draw:
    """N(mean, std^2) given that it is between two bounds."""
    if not std or low == high:
        return constant(min(max(mean, low), high))
    new = fresh()
    return Draw(_truncated((low - mean) / std, (high - mean) / std), mean, std, new, new)


def opaque(
    kind: str, *, mean: float, variance: float, mean_of: tuple[int, float] | None = None
) -> Draw:
    """Values of which only two moments are known."""
    new = fresh()
    base = Base(kind, mean, max(variance, 0.0), mean_of=mean_of)
    return Draw(base, 0.0, 1.0, new, new)


def two_valued(kind: str, probability: float) -> Draw:
    """1 with a probability, else 0."""
    return opaque(kind, mean=probability, variance=probability * (1 - probability))


# -- arithmetic ---------------------------------------------------------------------------------


def affine(x: Draw, factor: float, offset: float) -> Draw:
    """Factor * x + offset."""
    if x.is_constant or not factor:
        return constant(offset + (factor * x.shift if factor else 0.0))
    if factor == 1.0 and not offset:
        return x
    identity = token(x.identity, factor, offset)
    return Draw(x.base, factor * x.shift + offset, factor * x.scale, x.root, identity)


def renamed(x: Values) -> Values:
    """The same law for other values."""
    if isinstance(x, Unknown) or x.is_constant:
        return x
    new = fresh()
    return Draw(x.base, x.shift, x.scale, new, new)


def through(x: Draw, function: Callable[[Tensor], Tensor], name: str) -> Values:
    """An elementwise function of x."""
    if x.is_constant:
        value = float(function(torch.tensor(x.shift, dtype=torch.float64)))
        return constant(value)
    nodes = x.nodes()
    if nodes is None:
        return Unknown(f"{name} of values of which only mean and variance are known")
    return _of_nodes(function(nodes[0].clone()), nodes[1], x.root, token(x.identity, name), name)


def _of_nodes(values: Tensor, weights: Tensor, root: int, identity: int, name: str) -> Values:
    if not values.is_floating_point() or not values.isfinite().all():
        return Unknown(f"{name} gives values that are not finite numbers")
    mean, variance = _moments(values, weights)
    support = (float(values.min()), float(values.max()))
    base = Base("unknown", mean, variance, partial(_pair, values, weights), support)
    return Draw(base, 0.0, 1.0, root, identity)


def erfinv(x: Draw) -> Values:
    """Inverse error function: of a uniform variable it is a truncated normal one, over sqrt 2."""
    if x.base.kind != "uniform":
        return through(x, torch.erfinv, "erfinv")
    ends = torch.tensor([x.shift - abs(x.scale), x.shift + abs(x.scale)], dtype=torch.float64)
    low, high = (math.sqrt(2) * torch.erfinv(ends.clamp(-1, 1))).tolist()
    made = trunc_normal(0.0, 1.0, low, high)
    return affine(made, math.sqrt(0.5), 0.0)


def is_within(x: Draw, low: float, high: float) -> bool:
    """Whether all values are inside bounds."""
    ends = sorted(x.shift + x.scale * end for end in x.base.support) if x.scale else [x.shift] * 2
    slack = _AT_BOUND * max(abs(x.shift), abs(x.scale))
    return low <= ends[0] + slack and ends[1] - slack <= high


def clamped(x: Draw, low: float, high: float) -> Values:
    """X cut off at two bounds; x itself where hardly a value lies beyond them."""
    if is_within(x, low, high):
        return x
    made = through(x, lambda nodes: nodes.clamp(low, high), f"clamp {low} {high}")
    if isinstance(made, Unknown) or abs(made.mean - x.mean) > _HARDLY * abs(x.scale):
        return made
    return x if abs(made.variance - x.variance) < _HARDLY * x.variance else made


def plus(x: Draw, y: Draw, sign: float = 1.0) -> Values:
    """X + sign * y."""
    if y.is_constant:
        return affine(x, 1.0, sign * y.shift)
    if x.is_constant:
        return affine(y, sign, x.shift)
    if x.root == y.root:
        return _together(x, y, lambda a, b: a + sign * b, "a sum")
    variance = x.variance + y.variance
    if y.base.mean_of and y.base.mean_of[0] == x.root:
        variance += 2 * sign * y.scale * x.scale * y.base.mean_of[1]
    if x.base.kind == y.base.kind == "normal":
        return normal(x.mean + sign * y.mean, math.sqrt(variance))
    return opaque("unknown", mean=x.mean + sign * y.mean, variance=variance)


def times(x: Draw, y: Draw) -> Values:
    """X * y."""
    if y.is_constant:
        return affine(x, y.shift, 0.0)
    if x.is_constant:
        return affine(y, x.shift, 0.0)
    if x.root == y.root:
        return _together(x, y, lambda a, b: a * b, "a product")
    mean = x.mean * y.mean
    second = (x.variance + x.mean**2) * (y.variance + y.mean**2)
    for one, other in ((x, y), (y, x)):
        if _is_narrow(one):  # the product is shaped like the other one
            return _reshaped(other, mean, second - mean**2)
    return opaque("unknown", mean=mean, variance=second - mean**2)


def _is_narrow(x: Draw) -> bool:
    """Whether all values are close to their mean."""
    return x.variance < _NEARLY_CONSTANT**2 * x.mean**2


def _reshaped(x: Draw, mean: float, variance: float) -> Draw:
    """Other values of a law of the same shape."""
    scale = math.copysign(math.sqrt(variance / x.base.variance), x.scale) if variance else 0.0
    new = fresh()
    return Draw(x.base, mean - scale * x.base.mean, scale, new, new)


def over(x: Draw, y: Draw) -> Values:
    """X / y."""
    if y.is_constant:
        return affine(x, 1 / y.shift, 0.0) if y.shift else Unknown("a division by 0")
    if x.root == y.root:
        return _together(x, y, lambda a, b: a / b, "a quotient")
    inverse: Values
    if y.base.grid is None:
        if not _is_narrow(y):
            return Unknown("a division by values of which only mean and variance are known")
        relative = y.variance / y.mean**2
        mean, variance = (1 + relative) / y.mean, relative / y.mean**2
        inverse = opaque("unknown", mean=mean, variance=variance)
    elif not (is_within(y, 0.0, math.inf) or is_within(y, -math.inf, 0.0)):
        return Unknown("a division by values around 0")
    else:
        inverse = through(y, torch.reciprocal, "1 / x")
    return inverse if isinstance(inverse, Unknown) else times(x, inverse)


def _together(x: Draw, y: Draw, function: Callable[[Tensor, Tensor], Tensor], name: str) -> Values:
    """A function of two draws made of the same random numbers."""
    one, other = x.nodes(), y.nodes()
    if one is None or other is None:
        return Unknown(f"{name} of two tensors made of the same random numbers")
    identity = token(x.identity, y.identity, name)
    return _of_nodes(function(one[0], other[0]), one[1], x.root, identity, name)


def mixture(parts: Sequence[tuple[float, Values]]) -> Values:
    """The values of several tensors, or parts of one, taken together.

    Args:
        parts: share (any unit) and values of each.
    """
    draws = [(share, x) for share, x in parts if share > 0]
    for _, x in draws:
        if isinstance(x, Unknown):
            return x
    known = [(share, x) for share, x in draws if isinstance(x, Draw)]
    if not known:
        return constant(0.0)
    first = known[0][1]
    if len(known) == 1:
        return first
    if all(x[:3] == first[:3] for _, x in known):
        return renamed(first)
    total = math.fsum(share for share, _ in known)
    mean = math.fsum(share * x.mean for share, x in known) / total
    second = math.fsum(share * (x.variance + x.mean**2) for share, x in known) / total
    made = opaque("mixed", mean=mean, variance=second - mean**2)
    return made._replace(
        identity=token(*(part for share, x in known for part in (share, x.identity)))
    )


def realised(x: Draw, shape: Iterable[int]) -> Tensor:
    """Values of the law, the same for draws of the same identity; the global generator rests."""
    generator = torch.Generator().manual_seed(x.identity % 2**63)
    size = tuple(shape)
    if x.base.kind == "normal" or x.base.grid is None:
        z = torch.randn(size, generator=generator, dtype=torch.float64)
        return x.mean + math.sqrt(x.variance) * z
    values, weights = x.base.grid()
    steps = torch.rand(math.prod(size), generator=generator, dtype=torch.float64)
    chosen = torch.searchsorted(weights.cumsum(0), steps).clamp(max=len(values) - 1)
    return x.shift + x.scale * values[chosen].reshape(size)
