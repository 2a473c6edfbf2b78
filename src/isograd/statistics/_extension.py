"""The compiled passes of `native/`, where they were built."""

import importlib
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

DTYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}
"""The dtypes that they read, and what they call them."""


@cache
def extension() -> ModuleType | None:
    """The compiled module; None where it was not built or cannot be loaded."""
    try:
        native = importlib.import_module("isograd.statistics._native")
    except ImportError:
        return None
    exchange = getattr(Tensor, "__dlpack_c_exchange_api__", None)
    native.know(*DTYPES, Tensor, torch.nn.Parameter, exchange)
    return native


def reads(x: Tensor) -> ModuleType | None:
    """The compiled module, if it reads tensors like this one."""
    return extension() if x.device.type == "cpu" and x.dtype in DTYPES else None
