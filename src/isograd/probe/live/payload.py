"""Payload: what one process saw in one step, as plain bytes that add up over processes."""

import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isograd.statistics import COLUMNS, merge

_WIDTH = len(COLUMNS)
_TABLES = ("forward", "backward", "gradients", "weights")

LAG = 8
"""Steps after which a number of a device that computes on its own is read, waited for or not."""


@dataclass
class Payload:
    """Rows and facts of one step."""

    rows: dict[str, Tensor]
    """float64 [sites or parameters, columns] by the name of the table, and `moved`."""
    flags: Tensor
    """uint8, of all units that are told apart."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Plain values: step, loss, batch size …"""
    firsts: dict[str, Tensor] = field(default_factory=dict)
    """Rows of this process alone, where those of others are compared with them."""

    def to_bytes(self) -> bytes:
        """For another process of the same run, which has the same sheet."""
        head = json.dumps(
            {"facts": self.facts, "shapes": {k: list(v.shape) for k, v in self.rows.items()}}
        ).encode()
        parts = [len(head).to_bytes(8, "little"), head]
        parts += [v.contiguous().numpy().tobytes() for v in self.rows.values()]
        return b"".join([*parts, self.flags.numpy().tobytes()])

    @classmethod
    def from_bytes(cls, data: bytes) -> "Payload":
        """What `to_bytes` made."""
        start = 8 + int.from_bytes(data[:8], "little")
        head = json.loads(data[8:start])
        rows = {}
        for key, shape in head["shapes"].items():
            end = start + 8 * int(np.prod(shape))
            values = np.frombuffer(data[start:end], dtype=np.float64).reshape(shape)
            rows[key] = torch.from_numpy(values.copy())
            start = end
        flags = torch.from_numpy(np.frombuffer(data[start:], dtype=np.uint8).copy())
        return cls(rows, flags, head["facts"])

    def add(self, other: "Payload", *, sharded: bool, same_batch: bool = False) -> None:
        """Takes in what another process saw of its part of the batch, or of the layers.

        Args:
            other: of the same step.
            sharded: whether the processes hold parts of each parameter rather than copies.
            same_batch: whether they have the same samples. What all of them compute is then the
                same to the last bit, and counts once; units of the others are left out.
        """
        of_batch = [key for key in ("forward", "backward", "inputs") if key in other.rows]
        for key in (*of_batch, *(("gradients", "weights") if sharded else ())):
            merged = merge(self.rows[key], other.rows[key])
            if same_batch and key in of_batch:
                first = self.firsts.setdefault(key, self.rows[key])
                alike = (first == other.rows[key]).all(dim=1, keepdim=True)
                merged = torch.where(alike, self.rows[key], merged)
            self.rows[key] = merged
        if sharded:
            self.rows["moved"] = self.rows["moved"] + other.rows["moved"]
        if not same_batch:
            self.flags = torch.maximum(self.flags, other.flags)
        for key in ("loss",) if same_batch else ("loss", "batch.size"):
            if self.facts.get(key) is not None and other.facts.get(key) is not None:
                self.facts[key] += other.facts[key]
        for key in ("event.forward", "event.backward"):
            theirs, ours = other.facts.get(key), self.facts.get(key)
            if theirs and (not ours or theirs["step"] < ours["step"]):
                self.facts[key] = theirs


def _brought(*numbers: Tensor) -> tuple[list[Tensor], Any]:
    """Copies in the host's memory, and the event after which they are there (None: now)."""
    if not numbers[0].is_cuda:
        return [x.to("cpu", copy=True) for x in numbers], None
    here = [torch.empty(x.shape, dtype=x.dtype, pin_memory=True) for x in numbers]
    for mine, x in zip(here, numbers, strict=True):
        mine.copy_(x, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return here, event


class Later:
    """Tensors on their way from a device: nobody waits for them.

    Args:
        step: steps done before.
        rows: float64 tensors by name; those on the CPU are copied.
        flags: uint8.
        facts: that go with them; values that are tensors of one number are read with the rest.
    """

    def __init__(
        self, step: int, rows: dict[str, Tensor], flags: Tensor, facts: dict[str, Any]
    ) -> None:
        self.step, self.taken = step, time.monotonic()
        self._facts = facts
        self._shapes = {key: rows[key].shape for key in rows}
        waiting = {k: v for k, v in facts.items() if isinstance(v, Tensor)}
        self._names = list(waiting)
        device = next(iter(rows.values())).device
        numbers = [v.detach().reshape(1).double().to(device) for v in waiting.values()]
        flat = torch.cat([*(v.flatten() for v in rows.values()), *numbers])
        (self._flat, self._flags), self._event = _brought(flat, flags)

    def ready(self) -> bool:
        """Whether everything has arrived."""
        return self._event is None or bool(self._event.query())

    def get(self) -> Payload:
        """Everything, waited for where it has not arrived."""
        if self._event is not None:
            self._event.synchronize()
        sizes = [shape.numel() for shape in self._shapes.values()]
        *parts, numbers = torch.split(self._flat, [*sizes, len(self._names)])
        rows = {
            key: part.reshape(shape)
            for (key, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        facts = {**self._facts, **dict(zip(self._names, numbers.tolist(), strict=True))}
        return Payload(rows, self._flags, facts)


class Losses:
    """Losses of steps, some of them on their way from a device."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Any, Any]] = deque()
        """Steps, values, and events after which a value that was on a GPU has arrived."""

    def add(self, step: int, value: Any) -> None:
        """Takes the loss of a step: a number, a tensor of one, or None."""
        if isinstance(value, Tensor) and value.is_cuda:
            # Read from the device later on, it would wait for all that was launched until then.
            (here,), event = _brought(value.float())
            self._waiting.append((step, here.numpy(), event))
        elif value is not None:
            self._waiting.append((step, value, None))

    def arrived(self, now: int, until: int, *, wait: bool) -> Iterator[tuple[int, float]]:
        """Those up to a step that can be read without waiting for their device, in order."""
        while self._waiting and self._waiting[0][0] <= until:
            step, value, event = self._waiting[0]
            arrived = not isinstance(value, Tensor) if event is None else event.query()
            if not (arrived or wait or now - step >= LAG):
                break
            if event is not None:
                event.synchronize()
            self._waiting.popleft()
            yield step, float(value)
