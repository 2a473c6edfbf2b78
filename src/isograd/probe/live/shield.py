"""The shield: makes hooks that cannot raise into a training, and counts the time they take."""

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch

_OFF, _COST = 0, 1


class Shield:
    """Called with a hook it gives one that is safe; after a fault all of them do nothing.

    Args:
        failed: called with the first fault.
        deliberate: whether an error is to reach the training.
    """

    def __init__(
        self, failed: Callable[[Exception], None], deliberate: Callable[[Exception], bool]
    ) -> None:
        self._failed, self._deliberate = failed, deliberate
        self.failure: Exception | None = None
        self.state = array("d", [0.0, 0.0])
        """Whether hooks do nothing, and their cost, where native hooks find and change them."""

    @property
    def off(self) -> bool:
        """Whether hooks do nothing: after a fault, and while the model is run once more."""
        return self.state[_OFF] != 0

    @off.setter
    def off(self, off: bool) -> None:
        self.state[_OFF] = float(off)

    @property
    def cost(self) -> float:
        """Seconds spent in hooks since somebody set it to zero."""
        return self.state[_COST]

    @cost.setter
    def cost(self, cost: float) -> None:
        self.state[_COST] = cost

    def __call__(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """The hook, timed, which cannot raise."""
        state = self.state

        def safe(*args: Any, **kwargs: Any) -> Any:
            # torch.compile reads what it finds on a module: it is to find nothing here.
            if torch.compiler.is_compiling() or state[_OFF]:
                return None
            start = perf_counter()
            try:
                return hook(*args, **kwargs)
            except Exception as error:
                if self._deliberate(error):
                    raise
                self.fail(error)
                return None
            finally:
                state[_COST] += perf_counter() - start

        return safe

    def fail(self, error: Exception) -> None:
        """Takes note of a fault."""
        if self.failure is None:
            self.failure, self.off = error, True
            self._failed(error)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hooks see nothing of what happens inside."""
        self.off = True
        try:
            yield
        finally:
            self.off = self.failure is not None
