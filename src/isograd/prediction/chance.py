"""Chance: masks of zeros and ones drawn by the model itself, such as stochastic depth's.

One draw for each of a few samples says little; the law is known: `empty(…).bernoulli_(p)`, and
`floor(rand(…) + p)`, which is 1 with probability p.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from isograd.prediction.functions.powers import note_mask
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import independent


class Chance:
    """Follows the tensors of one run that are drawn while it goes on."""

    def __init__(self) -> None:
        self._uniform: dict[int, tuple[Tensor, float]] = {}
        """Tensors uniform on an interval of length one, by identity, and where that starts."""

    def seen(self, name: str, args: tuple[Any, ...], kwargs: Any, result: Any) -> Field | None:
        """The field of a result that is a mask, None for anything else.

        Args:
            name: of a function that has run on tensors with values.
            args: of the call.
            kwargs: of the call.
            result: what it gave.
        """
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return None
        shape = tuple(result.shape)
        if name == "bernoulli_":
            share = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
            return _mask(shape, share) if isinstance(share, (int, float)) else None
        if name in ("rand", "rand_like"):
            self._uniform[id(result)] = (result, 0.0)
        elif name in ("add", "radd", "add_", "__add__", "__radd__", "__iadd__"):
            start = self._start(args[0]) if args else None
            number = args[1] if len(args) > 1 else None
            if start is None and len(args) > 1:
                start, number = self._start(args[1]), args[0]
            if start is not None and isinstance(number, (int, float)):
                self._uniform[id(result)] = (result, start + number)
        elif name in ("floor", "floor_") and args:
            start = self._start(args[0])
            if start is not None and 0 < start <= 1:
                return _mask(shape, start)
        return None

    def _start(self, value: Any) -> float | None:
        found = self._uniform.get(id(value))
        return None if found is None else found[1]


def _mask(shape: tuple[int, ...], share: float) -> Field:
    made = independent(shape, share, share * (1 - share))
    note_mask(made, share)
    return made
