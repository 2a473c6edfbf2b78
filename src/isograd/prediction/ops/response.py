"""Local response normalization: an entry over a power of the mean square of channels around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from isograd.prediction.moments.windows import sliding
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.ops.elementwise import of_one

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call


class LocalResponse(Op):
    """A function of the entry itself; the squares of the other channels are taken at their mean.

    Their fluctuation changes the energy by the square of alpha x^2 / k, and that is small: alpha is
    1e-4 by default.
    """

    code = "response"
    functions = ("local_response_norm",)
    lines = functions
    source = "Krizhevsky et al. 2012, section 3.3"

    def apply(
        self, call: Call, x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
    ) -> Outcome:
        """One call."""
        f = call.field(x)
        channels = f.shape[1]
        # torch puts size // 2 zeros before the channels and the rest after them.
        windows = sliding(channels + size - 1, size, 1, 0, 1, False).members()
        there = windows[:, size // 2 : size // 2 + channels].sum(axis=1).mean()
        others = f.energy * (there - 1) / size

        def function(value: Tensor) -> Tensor:
            scale: Tensor = k + alpha * (others + value.square() / size)
            return value * scale**-beta

        return of_one(call, f, function)
