"""A second witness for every backend: numpy in extended precision, entry by entry."""

import math

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from isograd.statistics import COLUMNS
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
    row = empty(1, x.device)[0]
    backend.read(x, Target(row, low, high))
    return row.cpu()


ODD = (math.nan, math.inf, -math.inf)


def check(backend: Backend, x: Tensor, low: float | None = None, high: float | None = None) -> None:
    tolerance = 1e-13 if backend.code in ("reference", "graph") else 1e-6
    agree(row_of(backend, x, low, high), expected(x.cpu(), low, high), relative=tolerance)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(FLOATS))
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 5, 7, 11]), max_size=4))
    power = {torch.float16: 3, torch.float64: 300}.get(dtype, 36)
    size = draw(st.integers(-power, power))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * 10.0**size
    mask = torch.rand(shape, generator=generator)
    x = torch.where(mask < draw(st.sampled_from([0.0, 0.3, 1.0])), 0.0, x)
    for odd in draw(st.lists(st.sampled_from(ODD), max_size=2)):
        x = torch.where(torch.rand(shape, generator=generator) < 0.1, odd, x)
    x = x.to(dtype).permute(draw(st.permutations(range(x.dim()))))
    if x.dim() and draw(st.booleans()):
        x = x[:: draw(st.sampled_from([1, 2]))]
    return x


THRESHOLDS = st.sampled_from([None, 0.0, -0.5, 0.5, 1.0, 6.0])


LARGE = {
    "rows": lambda: random(3, 70_001),
    "rectified": lambda: random(210_011).relu(),
    "equal": lambda: torch.full((300_007,), 0.1),
    "large mean": lambda: random(200_003) * 0.3 + 30.0,
    "channels last": lambda: random(5, 7, 67, 71).to(memory_format=torch.channels_last),
    "every third": lambda: random(2, 150_009).t()[::3],
    "expanded": lambda: torch.tensor(0.3).expand(411, 1_009),
    "mixed": lambda: random(200_003) * torch.linspace(-9, 4, 200_003).exp(),
    "tiny then large": lambda: torch.cat([random(50_003) * 1e-6, random(50_003) * 1e3]),
    "odd ends": lambda: torch.cat([random(9_001), torch.tensor(ODD).repeat(3_001)]),
}
