"""A second witness for every backend: numpy in extended precision, entry by entry."""

import math

import numpy as np
import torch
from torch import Tensor

from isograd.statistics import COLUMNS, unscale
from isograd.statistics.backends import Backend, Target
from isograd.statistics.columns import empty

EXACT = ("count", "nonfinite", "zero", "positive", "min", "max", "below", "above")
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def entries(x: Tensor) -> np.ndarray:
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj())
    return np.asarray(x.double().numpy(), dtype=np.longdouble)


def expected(x: Tensor, low: float | None = None, high: float | None = None) -> dict[str, float]:
    """The columns of a tensor, sums of the numbers themselves in extended precision."""
    y = entries(x).ravel()
    finite = y[np.isfinite(y)]
    return {
        "count": y.size,
        "nonfinite": y.size - finite.size,
        "zero": (finite == 0).sum(),
        "positive": (finite > 0).sum(),
        "sum": finite.sum(),
        "sum_sq": (finite**2).sum(),
        "sum_abs": np.abs(finite).sum(),
        "sum_4": (finite**4).sum(),
        "min": finite.min(initial=math.inf),
        "max": finite.max(initial=-math.inf),
        "below": 0 if low is None else (finite <= low).sum(),
        "above": 0 if high is None else (finite >= high).sum(),
    }


def expected_flags(x: Tensor, axis: int, low: float | None, high: float | None) -> list[int]:
    """1 for a unit all of whose entries are finite and below or above, else 2."""
    y = np.moveaxis(entries(x), axis % x.dim(), 0)
    below = np.zeros(y.shape, dtype=bool) if low is None else y <= low
    above = np.zeros(y.shape, dtype=bool) if high is None else y >= high
    flat = (below | above) & np.isfinite(y)
    return [1 if unit.all() else 2 for unit in flat]


def agree(row: Tensor, truth: dict[str, float], *, relative: float) -> None:
    """Counts and extremes exactly, sums to so much of the sum of the magnitudes."""
    seen = dict(zip(COLUMNS, np.asarray(row.numpy(), dtype=np.longdouble), strict=True))
    scale = seen.pop("scale")
    assert scale == 0 or math.frexp(scale)[0] == 0.5
    for name, power in (("sum", 1), ("sum_sq", 2), ("sum_abs", 1), ("sum_4", 4)):
        seen[name] *= scale**power
        size = truth["sum_abs" if name == "sum" else name]
        assert abs(seen[name] - truth[name]) <= relative * size, name
    for name in EXACT:
        assert seen[name] == truth[name], name


def row_of(
    backend: Backend, x: Tensor, low: float | None = None, high: float | None = None
) -> Tensor:
    """What a backend says of a tensor."""
    row = empty(1, "cpu")[0]
    backend.read(x, Target(row, low, high))
    return row


def plain(row: Tensor) -> list[float]:
    """A row whose sums are those of the numbers themselves."""
    return unscale(row).tolist()
