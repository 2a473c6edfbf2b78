"""What numbers of a prediction rest on: operations that were sampled, trainable parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import nn

from isograd.prediction.moments.fields import Field
from isograd.prediction.propagation import Propagation
from isograd.records import Number
from isograd.sites.tape import Tape


def estimated(run: Propagation, fields: Sequence[Field | None]) -> dict[str, list[Number]]:
    """Columns `forward.sampled` and `backward.sampled`: 1 where a number rests on draws, else 0.

    Args:
        run: after its backward.
        fields: of the sites.
    """
    ahead: set[int] = set()
    for step in run.steps:
        if step.source == "sampled" or _any(ahead, step.inputs):
            ahead.update(id(one) for one in step.outputs)
    back: set[int] = set()
    for step in reversed(run.steps):
        if step.source == "sampled" or _any(back, step.outputs):
            for one in step.inputs:
                back.add(id(one))
                if one.origin is not None:  # gradients may go straight to it
                    back.add(id(one.origin))
    return {
        f"{way}.sampled": [None if one is None else float(id(one) in found) for one in fields]
        for way, found in (("forward", ahead), ("backward", back))
    }


def unasked(tape: Tape, model: nn.Module) -> Callable[[int], bool]:
    """Tells operations, by their index, that no trainable parameter comes before.

    Autograd has no gradient of what they give. Where time steps are looked at, the inputs
    themselves ask for one, as in a measurement.
    """
    if any(isinstance(module, nn.RNNBase) for module in model.modules()):
        return lambda _: False
    trainable = {index for index, p in enumerate(model.parameters()) if p.requires_grad}
    after: set[int] = set()
    for node in tape.nodes:
        if not trainable.isdisjoint(node.parameters) or not after.isdisjoint(node.inputs):
            after.add(node.index)
    return lambda index: index not in after


def _any(found: set[int], fields: Iterable[Field]) -> bool:
    return any(id(one) in found or (one.origin and id(one.origin) in found) for one in fields)
