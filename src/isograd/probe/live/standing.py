"""A mode that stands on torch's stack from one hook to another, whatever is entered in between."""

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

    def pop(self) -> bool:
        """Takes it off; what stands above it stays.

        Returns:
            Whether it is off. While torch is inside of the mode itself, it cannot be taken off.
        """
        above = []
        while self._up and torch._C._len_torch_function_stack():
            mode = torch._C._pop_torch_function_stack()
            if mode is self._mode:
                self._up = False
                break
            above.append(mode)
        for mode in reversed(above):
            torch._C._push_on_torch_function_stack(mode)
        return not self._up
