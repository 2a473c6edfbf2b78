"""One step of a training, as everybody who trains a copy does it."""

import cmath

import torch
from torch import nn

from isograd.errors import InputError, IsogradError, ModelError
from isograd.probe.facts import planned_rate
from isograd.sites.batches import Batch
from isograd.sites.losses import Loss, as_scalar, choose

LOW = 0.5
"""Part of the highest rate of a schedule below which a rate is worth a word."""


def awake(optimizer: torch.optim.Optimizer) -> str | None:
    """Sets rates that a schedule holds at 0 to what it raises them to; a note of that."""
    asleep = [g for g in optimizer.param_groups if g.get("lr") == 0 and g.get("initial_lr")]
    for group in asleep:
        group["lr"] = group["initial_lr"]
    if not asleep:
        return None
    rate = max(float(group["lr"]) for group in asleep)
    return (
        f"optimizer: a schedule holds its rate at 0; the copy is trained at initial_lr, {rate:.3g}"
    )


def scheduled(optimizer: torch.optim.Optimizer) -> str | None:
    """Which rate copies are trained with, where a schedule holds it far below its highest."""
    low = [g for g in optimizer.param_groups if "lr" in g and g["lr"] < LOW * planned_rate(g)]
    if not low:
        return None
    group = max(low, key=planned_rate)
    now, first, most = float(group["lr"]), float(group.get("initial_lr") or 0), planned_rate(group)
    if now == 0 and first:
        return f"optimizer: a schedule holds its rate at 0; trials train at initial_lr, {first:.3g}"
    return (
        f"optimizer: a schedule holds its rate at {now:.3g}; trials train at that, and none at its "
        f"highest, {most:.3g}"
    )


class Stepper:
    """Trains a model that is nobody else's, step by step.

    Args:
        model: it is changed.
        optimizer: of its parameters.
        loss: as in `measure`.
        seed: of random probes.
        what: the name of the training, for errors.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss | None,
        seed: int,
        what: str,
    ) -> None:
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.seed, self.what, self.steps = seed, what, 0

    def forward(self, batch: Batch) -> torch.Tensor:
        """The loss of a batch.

        Raises:
            ModelError: the model or the loss raised.
        """
        return self.outputs_and_loss(batch)[1]

    def outputs_and_loss(self, batch: Batch) -> tuple[object, torch.Tensor]:
        """What the model returns for a batch, and its loss.

        Raises:
            ModelError: the model or the loss raised.
        """
        try:
            outputs = batch.call(self.model)
            chosen = choose(outputs, batch.targets, self.loss, self.seed)
            return outputs, as_scalar(chosen.compute(), chosen.name)
        except IsogradError:
            raise
        except Exception as error:
            raise ModelError(
                f"{self.what}: step {self.steps} raised {type(error).__name__}: {error}; "
                "check that the model trains on every batch of data"
            ) from error

    def update(self, value: torch.Tensor) -> None:
        """One optimizer step down a loss; a loss without a graph moves nothing.

        Raises:
            ModelError: the backward raised.
            InputError: the optimizer raised.
        """
        self.steps += 1
        if not value.requires_grad:
            return
        try:
            self.optimizer.zero_grad()
            value.backward()
        except RuntimeError as error:
            raise ModelError(
                f"{self.what}: the backward of step {self.steps - 1} raised {error}; check that "
                "loss.backward() runs"
            ) from error
        try:
            self.optimizer.step()
        except Exception as error:  # whatever an optimizer asks of its parameters
            raise InputError(
                f"optimizer: {type(self.optimizer).__name__}.step() raised "
                f"{type(error).__name__}: {error}; a {self.what} calls it without a closure after "
                "zero_grad() and backward()"
            ) from error

    def finite_weights(self) -> bool:
        """Whether every weight is still a finite number."""
        return all(cmath.isfinite(p.detach().sum().item()) for p in self.model.parameters())
