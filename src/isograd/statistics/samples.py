"""What tells the rows of a tensor apart: samples of a batch, or units of a weight."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from isograd.statistics._layout import rows, stride_for, working_dtype
from isograd.statistics.columns import SUMS, scale_for
from isograd.statistics.table import sums

_TILE = 1 << 17
# Entries of a tile: it stays in the second-level cache while it is read several times.
_DEVICE_TILE = 1 << 22
_ROWS = 4
# Rows of a tile, at the least: they are added up in one go.
_SAFE_SPREAD = 2.0**-45
# A mean square above 2^-90 leaves nothing that counts below 2^-126, where float32 ends.
_SAFE = (2.0**-16, 2.0**24)
# Largest magnitudes whose squares, summed over a tile, are far from both ends of float32.
_LIMIT = {torch.float32: 2.0**126, torch.float64: 2.0**1020}
# Scales whose reciprocal is a normal number too.
SAMPLES = 32
FEATURES = 1 << 14
"""The correlation is taken of at most this many evenly spaced samples and features: the error of a
cosine is then below 1/sqrt(FEATURES) = 0.8 %, and that of their mean far below."""


def spread(x: Tensor) -> Tensor:
    """Standard deviation over the samples (axis 0), root mean square over all other axes.

    sqrt(mean_j var_i x_ij), population variance, in the unit of x: exactly 0 if all samples are
    equal, and right to 1e-5 of itself however small it is next to the mean.

    Returns:
        float64 [] on the tensor's device; NaN for fewer than two samples, no features, or entries
        whose differences are not finite.

    Raises:
        InputError: the tensor holds integers or booleans.
    """
    table = rows(x)
    samples, features = table.shape
    if samples < 2 or not features:
        return _nan(table)
    if table.device.type == "cpu":
        distance = _in_one(table) if table.numel() <= _TILE else _spread(table, None).item()
        if _SAFE_SPREAD < distance < math.inf:
            return torch.tensor(distance, dtype=torch.float64)
    return _spread(table, _scale(table))


def _in_one(table: Tensor) -> float:
    """`_spread` of a single tile, in a third of its calls."""
    samples, features = table.shape
    table = table.to(working_dtype(table))
    tile = table - table[0]
    common = tile.sum(dim=0).square_().sum().item()
    squares = tile.square_().sum().item()
    return math.sqrt(max(0.0, (squares / samples - common / samples**2) / features))


def correlation(x: Tensor, features: int = FEATURES) -> Tensor:
    """Mean cosine between the entries of two different samples (axis 0).

    With unit vectors u_i it is (|sum u_i|^2 - n) / (n (n - 1)), so that the Gram matrix need not be
    formed. At most `SAMPLES` evenly spaced samples and `features` evenly strided features of each
    are taken. A sample that is zero has no direction and is left out.

    Returns:
        float64 [] on the tensor's device; NaN for fewer than two samples that are not zero, or a
        non-finite entry.

    Raises:
        InputError: the tensor holds integers or booleans.
    """
    return correlations(some_samples(x, features)[None])[0]


def correlations(tables: Tensor) -> Tensor:
    """`correlation` of several tensors, of each of which `some_samples` are given.

    Args:
        tables: [tensors, samples, features].

    Returns:
        float64 [tensors].
    """
    if tables.shape[1] < 2 or not tables.shape[2]:
        return _nan(tables, len(tables))
    tables = tables.to(working_dtype(tables))
    # Each row by its own size: samples of very different size have a direction all the same.
    tiny = torch.finfo(tables.dtype).tiny
    tables = tables / tables.abs().amax(dim=2, keepdim=True).clamp(min=tiny)
    norms = torch.linalg.vector_norm(tables, dim=2)
    nonzero = norms != 0
    units = tables / torch.where(nonzero, norms, 1.0)[:, :, None]
    total = units.sum(dim=1)
    count = nonzero.sum(dim=1).double()
    # Sum of |u_i|^2 as computed, not the count: their rounding would be n times the result's.
    lengths = units.square().sum(dim=(1, 2), dtype=torch.float64)
    between = total.square().sum(dim=1, dtype=torch.float64) - lengths
    return torch.div(between, count * (count - 1))


def rank(x: Tensor, features: int = FEATURES) -> Tensor:
    """Number of directions in which the samples (axis 0) differ: (sum l)^2 / sum l^2.

    The l are the eigenvalues of the Gram matrix of the samples, each minus their mean: the
    participation ratio. It is k where the samples differ equally along k directions, at most
    min(samples - 1, features), and 0 where they are all the same. Of the samples and features of
    `correlation`. What differs by rounding alone counts like any other difference.

    Returns:
        float64 [] on the tensor's device; NaN for fewer than two samples, no features, or a
        non-finite entry.

    Raises:
        InputError: the tensor holds integers or booleans.
    """
    return ranks(some_samples(x, features)[None])[0]


def ranks(tables: Tensor) -> Tensor:
    """`rank` of several tensors, of each of which `some_samples` are given.

    Args:
        tables: [tensors, samples, features].

    Returns:
        float64 [tensors].
    """
    if tables.shape[1] < 2 or not tables.shape[2]:
        return _nan(tables, len(tables))
    wide = tables.dtype == torch.float64
    tables = tables.to(torch.float64)  # which neither autocast nor TF32 touches in the product
    # First, so that a large common part leaves no rounding behind.
    tables = tables - tables[:, :1]
    if wide:  # of any other format neither squares nor their squares leave float64
        largest = tables.abs().amax(dim=(1, 2), keepdim=True)
        tables = tables / torch.where(largest == 0, 1.0, largest)
    tables = tables - tables.mean(dim=1, keepdim=True)
    gram = tables @ tables.mT
    squares = gram.square().sum(dim=(1, 2))
    trace = gram.diagonal(dim1=1, dim2=2).sum(dim=1)
    return torch.where(squares == 0, squares, trace.square() / squares)


def some_samples(x: Tensor, most: int = FEATURES) -> Tensor:
    """At most `SAMPLES` evenly spaced samples, and so many evenly strided entries of each: a view.

    Raises:
        InputError: the tensor holds integers or booleans.
    """
    table = rows(x)
    samples, features = table.shape
    table = table[:: max(1, -(-samples // SAMPLES))]
    return table[:, :: stride_for(features, most)] if features > most else table


UNITS, WEIGHTS = 64, 1 << 12
"""Largest numbers of units, and of weights of each, that are compared, evenly spaced."""


def row_spread(w: Tensor) -> Tensor:
    """How different the units of a weight [out, in, ...] are: `spread` over rms; 0: all are equal.

    Of at most `UNITS` evenly spaced units and `WEIGHTS` evenly strided weights of each.

    Returns:
        float64 [] on the tensor's device; NaN for a single unit, or a non-finite entry; 0 for a
        weight that is zero.

    Raises:
        InputError: the tensor holds integers or booleans.
    """
    table = _some_units(w)
    distance, vector = spread(table), sums(table)
    count, squares, scale = (vector[SUMS.index(name)] for name in ("count", "sum_sq", "scale"))
    rms = (squares / count).sqrt() * scale
    return torch.where(rms == 0, distance, distance / rms)


def row_cosine(w: Tensor) -> Tensor:
    """Mean squared cosine between two units of a weight [out, in, ...]; 1: all are parallel.

    1/in for independent draws of mean 0; 1/r for a weight of low rank r. Of the same units and
    weights as `row_spread`; units that are zero have no direction and are left out.

    Returns:
        float64 [] on the tensor's device; NaN for fewer than two units that are not zero, or a
        non-finite entry.

    Raises:
        InputError: the tensor holds integers or booleans.
    """
    table = _some_units(w)
    if not table.numel():
        return _nan(table)
    wide = table.dtype == torch.float64
    table = table.to(torch.float64)  # which neither autocast nor TF32 touches in the product
    if wide:  # of any other format neither squares nor their squares leave float64
        tiny = torch.finfo(table.dtype).tiny
        table = table / table.abs().amax(dim=1, keepdim=True).clamp(min=tiny)
    gram = table @ table.T
    sizes = gram.diagonal()
    nonzero = sizes != 0
    sizes = torch.where(nonzero, sizes, 1.0)
    squares = gram.square() / (sizes[:, None] * sizes)
    count = nonzero.sum().double()
    between = squares.sum() - squares.diagonal().sum()
    return torch.div(between, count * (count - 1))


def _some_units(w: Tensor) -> Tensor:
    """Rows of a weight, evenly spaced, and of each evenly strided entries."""
    table = rows(w)
    table = table[:: max(1, -(-len(table) // UNITS))]
    if table.shape[1] > WEIGHTS:
        table = table[:, :: stride_for(table.shape[1], WEIGHTS)]
    return table


def sign_agreement(g: Tensor) -> Tensor:
    """Mean over the units of a gradient [out, in, ...] of |sum of its entries' signs| / entries.

    1: all incoming weights of every unit move the same way (zig-zag); about sqrt(2 / (pi in)) for
    independent signs.

    Returns:
        float64 [] on the tensor's device; NaN for an empty gradient. A NaN has no sign.

    Raises:
        InputError: the tensor holds integers or booleans.
    """
    table = rows(g)
    outputs, inputs = table.shape
    if not table.numel():
        return _nan(table)
    total = table.new_zeros((), dtype=torch.float64)
    for tile in torch.split(table, max(1, _tile(table) // inputs)):
        total = total + tile.sgn().sum(dim=1, dtype=torch.float32).abs().sum()
    return total / (outputs * inputs)


def _spread(table: Tensor, scale: Tensor | None) -> Tensor:
    samples, features = table.shape
    squares = common = table.new_zeros((), dtype=torch.float64)
    for columns in torch.split(table, _width(table), dim=1):
        total: Tensor | None = None
        for tile in _differences(columns):
            if scale is not None:
                tile /= scale
            part = tile.sum(dim=0)
            total = part if total is None else total.add_(part)
            squares = squares + tile.square_().sum()
        if total is not None:
            common = common + total.square_().sum()
    variance = (squares / samples - common / samples**2) / features
    distance = variance.clamp(min=0.0).sqrt()
    return distance if scale is None else distance * scale


def _scale(table: Tensor) -> Tensor:
    """Power of two, float64 [], near the largest difference: by it, squares are safe."""
    columns = torch.split(table, _width(table), dim=1)
    extremes = [torch.aminmax(tile) for part in columns for tile in _differences(part)]
    largest = torch.stack([torch.maximum(-low, high) for low, high in extremes]).amax()
    return scale_for(largest.double(), _SAFE, _LIMIT[working_dtype(table)])


def _differences(table: Tensor) -> Iterator[Tensor]:
    """Tiles of rows minus the first row: of raw values, little spread on a large mean cancels."""
    dtype = working_dtype(table)
    first = table[0].to(dtype)
    for tile in torch.split(table, max(1, _tile(table) // table.shape[1])):
        yield tile.to(dtype) - first


def _width(table: Tensor) -> int:
    return _tile(table) // _ROWS


def _tile(table: Tensor) -> int:
    return _TILE if table.device.type == "cpu" else _DEVICE_TILE


def _nan(table: Tensor, *shape: int) -> Tensor:
    return table.new_full(shape, math.nan, dtype=torch.float64)
