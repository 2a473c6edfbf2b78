"""Places: where in the user's code a call cannot be recorded, for an error that says so."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

from torch import nn

from isograd.errors import PredictionError

_OURS = "isograd.prediction."
_NOT_THE_USER = ("torch", "copy", "contextlib")


def where() -> str:
    """The module being built, and the line of code outside torch: `'Net' (net.py, line 12)`."""
    return _place(sys._getframe(1))


def raised_in(error: BaseException) -> str:
    """The same of where an error was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return _place(None if trace is None else trace.tb_frame)


def _place(frame: FrameType | None) -> str:
    line, owner = "", ""
    while frame is not None and not (line and owner):
        module = frame.f_globals.get("__name__", "")
        if not line and module.split(".")[0] not in _NOT_THE_USER and not module.startswith(_OURS):
            line = f"{Path(frame.f_code.co_filename).name}, line {frame.f_lineno}"
        this = frame.f_locals.get("self")
        if not owner and isinstance(this, nn.Module):
            owner = type(this).__name__
        frame = frame.f_back
    return f"{owner!r} ({line})" if owner else line


def refusal(name: str, cause: str) -> PredictionError:
    """The error for a call that cannot be recorded.

    Args:
        name: of the torch function called now.
        cause: what is not known, and why.
    """
    return PredictionError(
        f"recording: {name} in {where()} needs values that nobody has computed: {cause}; build "
        "the real model outside recording() and predict from it, or measure it"
    )
