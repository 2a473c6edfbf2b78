"""CPU time of every statistic: ns per entry of a float32 tensor, one thread, median of many runs.

python benchmarks/tensor_statistics.py
"""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from isograd import statistics

SHAPES = {"16 KB": (32, 128), "0.5 MB": (32, 4_096), "32 MB": (32, 64, 64, 64)}
BUDGET = 0.4  # seconds for each cell of the table
FUNCTIONS: dict[str, Callable[[Tensor], object]] = {
    "sums": statistics.sums,
    "sums, bfloat16": statistics.sums,
    "sums, scaled": statistics.sums,
    "exponents": statistics.exponents,
    "spread": statistics.spread,
    "correlation": statistics.correlation,
    "units, channels": lambda x: statistics.units(x, 1),
    "units, features": lambda x: statistics.units(x, -1),
    "row_spread": statistics.row_spread,
    "sign_agreement": statistics.sign_agreement,
    "(x * x).sum()": lambda x: (x * x).sum(),
    "torch.sum": torch.sum,
    "eager": lambda x: eager(x),
    "a table's read": lambda x: TABLE.read(0, x),
}
TABLE = statistics.Table([statistics.Place()], "cpu")


def eager(x: Tensor) -> list[Tensor]:
    """What `sums` finds, by plain operations of torch in the tensor's own precision."""
    finite = x.isfinite()
    x = x.where(finite, 0.0)
    magnitude, square = x.abs(), x.square()
    counts = [(~finite).sum(), (x == 0).sum(), (x > 0).sum()]
    return [*counts, x.sum(), square.sum(), magnitude.sum(), square.square().sum(), *x.aminmax()]


def seconds(function: Callable[[Tensor], object], x: Tensor) -> float:
    """CPU time of one call: the clock itself takes as long as a small tensor."""
    calls = 1 if x.numel() > 1 << 16 else 20
    for _ in range(3):
        function(x)
    times: list[float] = []
    while sum(times) * calls < BUDGET and len(times) < 1_000:
        start = time.process_time()
        for _ in range(calls):
            function(x)
        times.append((time.process_time() - start) / calls)
    return median(times)


def main() -> None:
    torch.set_num_threads(1)
    print("ns per entry".ljust(20), *(name.rjust(9) for name in SHAPES))
    for name, function in FUNCTIONS.items():
        cells = []
        for shape in SHAPES.values():
            x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            if "bfloat16" in name:
                x = x.bfloat16()
            if "scaled" in name:
                x *= 1e-12
            cells.append(f"{seconds(function, x) / x.numel() * 1e9:9.3f}")
        print(name.ljust(20), *cells)


if __name__ == "__main__":
    main()
