"""Which loss is meant: the model's own, the one handed in, one chosen by type, or random probes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from isograd.errors import LossError
from isograd.sites.batches import tensors

Loss = Callable[[Any, Any], Any]

Form = Literal["logits", "probabilities", "log probabilities"]
"""What the numbers of an output are."""


@dataclass(frozen=True)
class Chosen:
    """A loss ready to be computed."""

    compute: Callable[[], Any]
    name: str
    note: str | None = None
    """What to tell the user about the choice."""


def form_of(out: Tensor, axis: int | None) -> Form:
    """What the numbers of an output are, told from their values.

    Args:
        out: the output, not on the meta device.
        axis: of the classes, over which probabilities add up to one; None where every entry may
            be a probability by itself, of which no logarithm is told.
    """
    x = out.detach()
    if axis is None:
        return "probabilities" if bool(((x >= 0) & (x <= 1)).all()) else "logits"
    if _add_up_to_one(x.exp(), axis):
        return "log probabilities"
    return "probabilities" if _add_up_to_one(x, axis) else "logits"


def _add_up_to_one(x: Tensor, axis: int) -> bool:
    x = x.double()
    if x.shape[axis] < 2 or not x.numel() or bool((x < 0).any()):
        return False
    return bool((x.sum(axis) - 1).abs().max() < 1e-3)


def are_binary(targets: Tensor) -> bool:
    """Whether targets, not on the meta device, are all 0 or 1; all 0 says nothing of that."""
    return bool(((targets == 0) | (targets == 1)).all()) and bool((targets == 1).any())


def choose(
    outputs: Any,
    targets: Any,
    loss: Loss | None,
    seed: int,
    *,
    form: Callable[[Tensor, int | None], Form] = form_of,
    binary: Callable[[Tensor], bool] = are_binary,
) -> Chosen:
    """The loss for these outputs and targets.

    Order: the one handed in; the output's own `.loss` (or entry "loss"); a scalar output that is
    the loss itself; by the types of output and targets; random probes without targets.

    Args:
        outputs: what the model returned.
        targets: what came with the batch.
        loss: callable `(outputs, targets) -> scalar`, or None.
        seed: of the random probes.
        form: tells what an output is; one without values has to be told otherwise.
        binary: tells whether targets are zeros and ones, likewise.

    Raises:
        LossError: no loss fits the types.
    """
    if loss is not None:
        if isinstance(loss, type) or not callable(loss):
            what = f"the class {loss.__name__}" if isinstance(loss, type) else repr(loss)
            raise LossError(
                f"loss: {what} is no function of (outputs, targets); pass one, such as "
                "torch.nn.functional.cross_entropy or an instance torch.nn.CrossEntropyLoss()"
            )
        name = getattr(loss, "__name__", None) or type(loss).__name__
        return Chosen(lambda: loss(outputs, targets), name)
    own = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if isinstance(own, Tensor):
        return Chosen(lambda: own, "the model's own", "loss: taken from the output's .loss")
    signals = [t for t in tensors(outputs) if t.is_floating_point() or t.is_complex()]
    if not signals:
        raise LossError(
            f"loss: the model returned a {type(outputs).__name__} without a floating-point "
            "tensor; pass loss=, a callable (outputs, targets) -> scalar"
        )
    if len(signals) == 1 and signals[0].ndim == 0 and signals[0].requires_grad:
        note = "loss: the model returns one number, taken as its loss"
        return Chosen(lambda: signals[0], "the model's own", note)
    if not isinstance(targets, Tensor):
        if targets is not None:
            raise LossError(
                f"loss: the targets are a {type(targets).__name__}, so none can be chosen; pass "
                "loss=, a callable (outputs, targets) -> scalar"
            )
        note = (
            "loss: none (no targets); backward numbers come from random probes "
            "(vector-Jacobian products of the outputs)"
        )
        return Chosen(lambda: _probe(signals, seed), "random probes", note)
    return _by_type(signals[0], targets, form, binary)


def _by_type(
    out: Tensor,
    targets: Tensor,
    form: Callable[[Tensor, int | None], Form],
    binary: Callable[[Tensor], bool],
) -> Chosen:
    where = f"output {describe(out)}, targets {describe(targets)}"

    def chosen(name: str, compute: Callable[[], Any], aside: str = "") -> Chosen:
        return Chosen(compute, name, f"loss: {name}, chosen for {where}{aside}")

    whole = not targets.is_floating_point() and not targets.is_complex()
    one_logit = out.numel() == targets.numel() > 0  # a class axis of one: two classes, not one
    if whole and not one_logit and out.ndim == targets.ndim + 1 and len(out) == len(targets):
        last = targets.ndim > 1 and out.shape[:-1] == targets.shape
        labels = targets.long().flatten() if last else targets.long()

        def logits() -> Tensor:  # classes on axis 1, as torch wants them
            return out.flatten(0, -2) if last else out

        axis = -1 if last else min(1, out.ndim - 1)
        found = form(out, axis)
        if found == "log probabilities":
            return chosen("nll_loss", lambda: F.nll_loss(logits(), labels))
        if found == "probabilities":
            return chosen("nll_loss of the log", lambda: F.nll_loss(logits().log(), labels))
        return chosen("cross_entropy", lambda: F.cross_entropy(logits(), labels))
    if out.numel() == targets.numel() and out.shape[:1] == targets.shape[:1]:
        wanted, aside = targets.reshape(out.shape).to(out.dtype), ""
        if targets.shape != out.shape:
            aside = (
                f"; the targets were reshaped to {list(out.shape)}, without which a loss of yours "
                "would broadcast the two"
            )
        if binary(targets):
            if form(out, None) == "probabilities":
                return chosen(
                    "binary_cross_entropy", lambda: F.binary_cross_entropy(out, wanted), aside
                )
            name = "binary_cross_entropy_with_logits"
            return chosen(name, lambda: F.binary_cross_entropy_with_logits(out, wanted), aside)
        if not whole:
            return chosen("mse_loss", lambda: F.mse_loss(out, wanted), aside)
    raise LossError(f"loss: none fits {where}; pass loss=, a callable (outputs, targets) -> scalar")


_PROBE_STREAM = 0x150_96AD


def _probe(outputs: list[Tensor], seed: int) -> Tensor:
    """Sum of the outputs' products with Gaussian vectors of unit expected norm per sample."""
    # Not the stream of the seed itself: inputs that were drawn with it would be the probe.
    generator = torch.Generator().manual_seed(_PROBE_STREAM + seed)
    total = None
    for out in outputs:
        if not out.numel():
            continue
        flat = torch.view_as_real(out) if out.is_complex() else out
        per_sample = max(1, flat.numel() // max(1, flat.shape[0] if flat.ndim else 1))
        vector = torch.randn(flat.shape, generator=generator, dtype=torch.float32)
        part = (flat * (vector / per_sample**0.5).to(flat)).sum()
        total = part if total is None else total + part.to(total)
    return outputs[0].sum() if total is None else total


def as_scalar(value: Any, name: str) -> Tensor:
    """The loss as a 0-dimensional real tensor.

    Raises:
        LossError: it is something else.
    """
    if not isinstance(value, Tensor):
        raise LossError(
            f"loss: {name} returned a {type(value).__name__}; it must return a tensor with one "
            "real number"
        )
    if value.numel() != 1 or not value.is_floating_point():
        raise LossError(
            f"loss: {name} returned {describe(value)}; it must return one real number "
            "(take the mean, or pass reduction='mean')"
        )
    return value.reshape(())


def describe(tensor: Tensor) -> str:
    """Type and shape, as in `float32[64, 10]`."""
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{kind}{list(tensor.shape)}"
