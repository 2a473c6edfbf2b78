"""seeds_of(): where the backward of a prediction starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


from isograd.prediction.fields import Field, independent
from isograd.prediction.propagation import Propagation
from isograd.sites.batches import tensors
from isograd.sites.losses import Loss
from isograd.sites.tape import Tape


@dataclass(frozen=True, slots=True)
class Seeds:
    """Start of a backward."""

    seeds: Sequence[tuple[Field, Field]]
    name: str
    note: str | None


def seeds_of(
    run: Propagation, tape: Tape, outputs: Any, targets: Any, loss: Loss | None, seed: int
) -> Seeds:
    """The gradient of the loss at the outputs."""
    seeds = []
    with tape.quiet():
        for out in tensors(outputs):
            field = run.field_of(out)
            if field is not None and out.is_floating_point():
                n = max(1, out.numel() // max(1, out.shape[0] if out.ndim else 1))
                seeds.append((field, independent(tuple(out.shape), 0.0, 1 / n)))
    return Seeds(seeds, "random probes", None)


