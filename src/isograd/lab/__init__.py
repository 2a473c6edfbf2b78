"""The lab: every mechanism of signal and gradient as an experiment with the number it must show.

    from isograd.lab import run
    result = run("products-of-factors", settings={"depth": 50})
    print(result.numbers)

Names are looked up at their first use, so that listing experiments loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isograd.lab.experiments import EXPERIMENTS as EXPERIMENTS
    from isograd.lab.judging import judge as judge
    from isograd.lab.result import Result as Result
    from isograd.lab.running import run as run
    from isograd.lab.writing import write as write

_HOMES = {
    "EXPERIMENTS": "isograd.lab.experiments",
    "Result": "isograd.lab.result",
    "judge": "isograd.lab.judging",
    "run": "isograd.lab.running",
    "write": "isograd.lab.writing",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'isograd.lab' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
