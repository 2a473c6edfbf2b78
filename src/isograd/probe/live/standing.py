"""A mode that stands on torch's stack from one hook to another, whatever is entered in between."""

from types import TracebackType

import torch
from torch.overrides import TorchFunctionMode


class Standing:
    """Pushes a mode, and takes it off wherever it is by then."""

    def __init__(self, mode: TorchFunctionMode) -> None:
        self._mode = mode
        self._up = False

    def push(self) -> None:
        """Puts it on top."""
        if not self._up:
            self._mode.__enter__()
            self._up = True

    def pop(self) -> None:
        """Takes it off; what stands above it stays."""
        if not self._up:
            return
        self._up = False
        above = []
        while torch._C._len_torch_function_stack():
            mode = torch._C._pop_torch_function_stack()
            if mode is self._mode:
                break
            above.append(mode)
        for mode in reversed(above):
            torch._C._push_on_torch_function_stack(mode)

    def __enter__(self) -> None:
        self.push()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pop()
