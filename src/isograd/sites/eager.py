"""Compiled modules that run eagerly for a while."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any


def eagerly() -> AbstractContextManager[Any]:
    """Runs what `torch.compile` has wrapped as it is written.

    Without dynamo nothing is compiled, and importing it would be slow.
    """
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    import torch

    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance
