"""Theory: CPU time of its answers, beside what other tools were measured to take.

python benchmarks/theory.py     the table; 1 if an answer is over its limit
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from typing import Literal

import numpy as np

from isograd.theory import critical, kernels, moments, phase, phase_diagram, resolution, transform
from isograd.theory.activations import _TABLE

RUNS = 5
WEIGHT_VARS, BIAS_VARS = (0.5, 1.0, 1.3, 2.0, 2.5, 4.0, 8.0), (0.0, 0.1, 1.0)
POINTS = len(WEIGHT_VARS) * len(BIAS_VARS)
GRID = np.linspace(0.1, 4, 50), np.linspace(0, 1, 50)
LIMITS = {
    "import": 0.05,
    "phase": 0.005,
    "critical": 0.02,
    "transform": 0.05,
    "diagram": 0.5,
    "diagram tanh": 0.3,
}
TRANSFORMS: tuple[tuple[str, Literal["dks", "tat"], int], ...] = (
    ("tanh", "dks", 50),
    ("softplus", "dks", 5),
    ("gelu", "dks", 1000),
    ("leaky_relu", "tat", 50),
    ("leaky_relu", "tat", 1000),
    ("tanh", "tat", 50),
    ("gelu", "tat", 10),
    ("sigmoid", "tat", 50),
    ("erf", "tat", 50),
)

OTHERS = """
measured on two cores, the same 50 x 50 diagram (q*, chi_1, c*) unless said otherwise
  7.4 s       neural-tangents, tanh, degree 25 (3 % wrong)
 89 s         neural-tangents, tanh, degree 100
  never       neural-tangents, gelu: its Newton iteration has no cap, and no fixed point to find
  0.06-1.9 s  dks, one DKS transform; TAT 0.3-34 s (smooth), 3 ms (leaky ReLU)
"""


def cpu_seconds(task: Callable[[], object]) -> float:
    """CPU time of the fastest of several runs, each with nothing at hand: load only adds."""
    times = []
    for _ in range(RUNS):
        moments.moments.cache_clear()
        resolution.features.cache_clear()
        kernels.series.cache_clear()
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
    return min(times)


def import_seconds() -> float:
    """What importing the theory adds to importing torch."""
    program = (
        "import time, torch; start = time.process_time(); import isograd.theory; "
        "print(time.process_time() - start)"
    )
    with tempfile.TemporaryDirectory() as folder:
        # Compiled once, as wherever it is installed.
        settings = {**os.environ, "PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        runs = [
            subprocess.check_output([sys.executable, "-c", program], env=settings)
            for _ in range(RUNS)
        ]
    return min(float(run) for run in runs)


def main() -> int:
    """Prints the table; 1 if an answer is over its limit."""
    late = 0

    def tell(name: str, seconds: float, limit: float) -> None:
        nonlocal late
        late += seconds > limit
        print(
            f"{seconds * 1e3:8.1f} ms  {name}{'   OVER ' + str(limit) if seconds > limit else ''}"
        )

    tell("import, beyond torch's own", import_seconds(), LIMITS["import"])
    for name in sorted(_TABLE):
        slowest = max(
            (cpu_seconds(lambda: phase(name, weight_var=w, bias_var=b)), w, b)  # noqa: B023
            for w, b in product(WEIGHT_VARS, BIAS_VARS)
        )
        seconds, *at = slowest
        tell(f"phase {name}, slowest of {POINTS}: at {tuple(at)}", seconds, LIMITS["phase"])
    for name in ("tanh", "gelu", "silu", "softplus"):
        seconds = cpu_seconds(lambda: critical(name, bias_var=0.05))  # noqa: B023
        tell(f"critical {name}", seconds, LIMITS["critical"])
    for name, method, depth in TRANSFORMS:
        seconds = cpu_seconds(lambda: transform(name, method, depth=depth))  # noqa: B023
        tell(f"transform {name}, {method}, {depth} layers", seconds, LIMITS["transform"])
    for name in ["tanh", *sorted(set(_TABLE) - {"tanh"})]:
        seconds = cpu_seconds(lambda: phase_diagram(name, *GRID))  # noqa: B023
        limit = LIMITS["diagram tanh" if name == "tanh" else "diagram"]
        tell(f"50 x 50 diagram, {name}", seconds, limit)
    print(OTHERS)
    return int(late > 0)


if __name__ == "__main__":
    raise SystemExit(main())
