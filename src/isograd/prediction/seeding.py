"""seeds_of(): where the backward of a prediction starts, as `measure` would choose it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isograd.errors import IsogradError, LossError
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import independent, scalar
from isograd.prediction.propagation import Propagation
from isograd.sites.batches import tensors
from isograd.sites.losses import Chosen, Form, Loss, are_binary, as_scalar, choose, describe
from isograd.sites.tape import Tape

_FORMS: dict[str, Form] = {
    "softmax": "probabilities",
    "sigmoid": "probabilities",
    "log_softmax": "log probabilities",
    "logsigmoid": "log probabilities",
}
_PROBES = "random probes"


@dataclass(frozen=True, slots=True)
class Seeds:
    """Start of a backward."""

    seeds: Sequence[tuple[Field, Field]]
    """Pairs of (field, its gradient's field)."""
    name: str
    note: str | None


def seeds_of(
    run: Propagation, tape: Tape, outputs: Any, targets: Any, loss: Loss | None, seed: int
) -> Seeds:
    """The gradient of the loss at the outputs: handed in, the model's own, by type, or probes.

    Args:
        run: under way; a loss is an operation like any other.
        tape: of the same run, in the phase "loss".
        outputs: what the model returned.
        targets: what came with the batch.
        loss: callable `(outputs, targets) -> scalar`, or None.
        seed: of the random probes.

    Raises:
        LossError: no loss fits the types, or it raised, or is not one real number.
    """
    with tape.quiet():
        chosen = _own_number(run, outputs) if loss is None else None
        if chosen is None:
            chosen = choose(
                outputs, targets, loss, seed, form=lambda x, _: _form(tape, x), binary=_binary
            )
    if chosen.name == _PROBES:
        return Seeds(_probes(run, outputs), chosen.name, chosen.note)
    try:
        value = as_scalar(chosen.compute(), chosen.name)
    except IsogradError:
        raise
    except Exception as error:
        raise _explained(error, chosen.name, outputs, targets) from error
    field = run.field_of(value)
    if field is None:
        return Seeds((), chosen.name, "backward: the loss does not depend on what is predicted")
    return Seeds([(field, scalar(1.0).regrouped((0,) * value.ndim))], chosen.name, chosen.note)


def _own_number(run: Propagation, outputs: Any) -> Chosen | None:
    """A model that returns one number, its loss: abstract tensors ask for no gradient."""
    own = outputs.get("loss") if isinstance(outputs, dict) else getattr(outputs, "loss", None)
    signals = [t for t in tensors(outputs) if t.is_floating_point() or t.is_complex()]
    if isinstance(own, Tensor) or len(signals) != 1 or signals[0].ndim:
        return None
    if run.field_of(signals[0]) is None:
        return None
    note = "loss: the model returns one number, taken as its loss"
    return Chosen(lambda: signals[0], "the model's own", note)


def _form(tape: Tape, out: Tensor) -> Form:
    """What the numbers of an output are, told from the operation that made them."""
    node = tape.node_of(out)
    while node is not None:
        found = _FORMS.get(node.op.strip("_").removeprefix("special_").replace("expit", "sigmoid"))
        if found is not None:
            return found
        if node.kind is not None or len(node.inputs) != 1 or node.op in ("introduce", "input"):
            break
        before = tape.nodes[node.inputs[0]]
        if before.phase != "model" or torch.Size(before.shape).numel() != out.numel():
            break
        node = before
    return "logits"


def _binary(targets: Tensor) -> bool:
    return not targets.is_meta and are_binary(targets)


def _probes(run: Propagation, outputs: Any) -> list[tuple[Field, Field]]:
    """Gaussian vectors of unit expected norm per sample, times every output."""
    seeds = []
    for out in tensors(outputs):
        field = run.field_of(out)
        if field is not None and out.is_floating_point() and out.numel():
            n = max(1, out.numel() // max(1, out.shape[0] if out.ndim else 1))
            seeds.append((field, independent(tuple(out.shape), 0.0, 1 / n)))
    return seeds


def _explained(error: Exception, name: str, outputs: Any, targets: Any) -> LossError:
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0] if lines else '(no message)'}"
    out = ", ".join(describe(t) for t in tensors(outputs)) or type(outputs).__name__
    wanted = ", ".join(describe(t) for t in tensors(targets)) or repr(targets)
    return LossError(
        f"loss: {name} raised {said}; outputs {out}, targets {wanted}; check that "
        "loss(model(inputs), targets) runs"
    )
