"""The rehearsal: copies of model and optimizer train a few steps.

What goes wrong only after the first updates is seen; the user's own are not touched.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from isograd.errors import DataError, InputError, a_kind
from isograd.probe.borrowing import borrowed, left_alone
from isograd.probe.copying import known_copies
from isograd.probe.facts import optimizer_facts
from isograd.probe.measuring import measure
from isograd.probe.sharpness import lambda_max
from isograd.probe.stepping import Stepper, awake
from isograd.records import Number, Reading, Record
from isograd.sites.batches import Batch, as_batch, beside, check_batched, check_finite
from isograd.sites.losses import Loss
from isograd.sites.randomness import reseed

MakeOptimizer = Callable[[Any], torch.optim.Optimizer]


@torch.inference_mode(False)
def rehearse(
    model: nn.Module,
    batch: Any,
    loss: Loss | None,
    seen: Record,
    *,
    optimizer: torch.optim.Optimizer | MakeOptimizer,
    data: Iterable[Any] | None,
    steps: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    sharpness: bool = True,
) -> Reading:
    """Trains a copy for `steps` steps and looks at it again at the end.

    Args:
        model: the user's model; it is copied.
        batch: the batch of the first look, measured again at the end.
        loss: as in `measure`.
        seen: the first look; it gains the optimizer's facts and `weight.update_ratio`.
        optimizer: the model's optimizer, or a factory that takes parameters.
        data: batches to train on; the one batch where None. A collection is gone through again
            when it ends, an iterator is not.
        steps: optimizer steps; with 0 one step is still done, for the update ratios alone.
        seed: of the random numbers the copy draws.
        progress: called with (steps done, steps).
        sharpness: whether to measure the curvature of the loss, which costs up to thirty steps.

    Raises:
        InputError: the optimizer is neither of the two.
        DataError: a batch cannot be read or holds non-finite inputs.
        ModelError: the model raised on a batch of the data.
    """
    batch = beside(batch, model)
    with ExitStack() as stack:
        stack.enter_context(borrowed(model))
        stack.enter_context(left_alone(loss))
        stack.enter_context(torch.enable_grad())
        made = _copies(model, optimizer)
        if isinstance(made, str):
            return Reading(replace(seen, notes=(*seen.notes, made)))
        twin, its_optimizer = made
        asleep = awake(its_optimizer)
        facts = optimizer_facts(its_optimizer, twin.named_parameters())
        reseed(seed)
        if sharpness and not facts["optimizer.adaptive"]:
            sharpest = lambda_max(twin, as_batch(batch), loss, seed=seed)
            if sharpest is not None:
                facts["sharpness.lambda_max"] = sharpest
        run = _Run(twin, its_optimizer, loss, seed, as_batch(batch))
        run.notes += [asleep] if asleep else []
        ratios = run.train(_batches(data, batch), max(steps, 1), progress)
        series = {**seen.series, "weight.update_ratio": tuple(ratios)}
        seen = replace(
            seen, series=series, facts={**seen.facts, **facts}, notes=(*seen.notes, *run.notes)
        )
        if steps == 0:
            return Reading(seen)
        return Reading(seen, history=(run.final(batch, facts),))


def _copies(
    model: nn.Module, optimizer: torch.optim.Optimizer | MakeOptimizer
) -> tuple[nn.Module, torch.optim.Optimizer] | str:
    """Copies of both, or why there are none."""
    if not isinstance(optimizer, torch.optim.Optimizer) and not callable(optimizer):
        raise InputError(
            f"optimizer: expected a torch.optim.Optimizer or a factory such as "
            f"lambda p: torch.optim.SGD(p, lr=0.1), found {a_kind(optimizer)}"
        )
    try:
        if isinstance(optimizer, torch.optim.Optimizer):
            twin, its = copy.deepcopy((model, optimizer), known_copies(model, optimizer))
        else:
            twin = copy.deepcopy(model, known_copies(model))
    except Exception as error:  # whatever the user's classes raise when copied
        return f"rehearsal: left out, the model cannot be copied ({type(error).__name__}: {error})"
    if not all(p.is_leaf for p in twin.parameters()):
        return "rehearsal: left out, the model's copy cannot train (a scripted module?)"
    if isinstance(optimizer, torch.optim.Optimizer):
        return twin, its
    try:
        its = optimizer(twin.parameters())
    except Exception as error:
        raise InputError(
            f"optimizer: the factory raised {type(error).__name__}: {error}; it is called with "
            "model.parameters()"
        ) from error
    if not isinstance(its, torch.optim.Optimizer):
        raise InputError(
            f"optimizer: the factory returned a {type(its).__name__}, not a torch.optim.Optimizer"
        )
    return twin, its


def _batches(data: Iterable[Any] | None, batch: Any) -> Iterator[Any]:
    if data is None:
        while True:
            yield batch
    try:
        again = iter(data) is not data
    except TypeError as error:
        raise DataError(
            "data: expected an iterable of batches, such as a DataLoader or a list, found "
            f"{a_kind(data)}"
        ) from error
    while True:
        got_any = False
        for item in data:
            got_any = True
            yield item
        if not again or not got_any:
            return


def _taken(item: Any, step: int, like: Batch) -> Batch:
    try:
        batch = as_batch(item)
        check_batched(batch, like)
        check_finite(batch)
    except DataError as error:
        what = str(error).removeprefix("batch: ")
        raise DataError(f"data: the batch of step {step}: {what}") from error
    return batch


class _Run:
    """One training run of the copy."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss | None,
        seed: int,
        first: Batch,
    ) -> None:
        self.model, self.loss, self.seed, self.first = model, loss, seed, first
        self.stepper = Stepper(model, optimizer, loss, seed, "rehearsal")
        self.losses: list[float] = []
        self.notes: list[str] = []
        self.stopped: str | None = None
        self.failing: Any = None

    def train(
        self, batches: Iterator[Any], steps: int, progress: Callable[[int, int], None] | None
    ) -> list[Number]:
        """Trains, and gives the update ratio of each parameter at the first step."""
        ratios: list[Number] = [None for _ in self.model.parameters()]
        for step in range(steps):
            batch = next(batches, None)
            if batch is None:
                self.notes.append(f"rehearsal: the data ended after {step} of {steps} steps")
                break
            value = self.stepper.forward(_taken(beside(batch, self.model), step, self.first))
            self.losses.append(float(value.detach()))
            if not math.isfinite(self.losses[-1]):
                self._stop(step, batch)
                break
            before = [p.detach().clone() for p in self.model.parameters()] if step == 0 else []
            self.stepper.update(value)
            if step == 0:
                ratios = [
                    _ratio(old, new.detach())
                    for old, new in zip(before, self.model.parameters(), strict=True)
                ]
            if not self.stepper.finite_weights():
                self._stop(step + 1, batch)
                break
            if progress is not None:
                progress(step + 1, steps)
        return ratios

    def _stop(self, step: int, batch: Any) -> None:
        self.stopped, self.failing = f"non-finite at step {step}", batch

    def final(self, batch: Any, facts: dict[str, Any]) -> Record:
        """The last look: on the failing batch where the run broke, else on the first one."""
        record = measure(
            self.model,
            batch if self.failing is None else self.failing,
            self.loss,
            seed=self.seed,
            step=len(self.losses),
        )
        more = {**facts, "rehearsal.losses": self.losses}
        if self.stopped is not None:
            more["rehearsal.stopped"] = self.stopped
        return replace(record, facts={**record.facts, **more})


def _ratio(old: torch.Tensor, new: torch.Tensor) -> Number:
    exact = torch.complex128 if old.is_complex() else torch.float64
    size = float(torch.linalg.vector_norm(old, dtype=exact))
    # The difference of two numbers of a format that is that format's to a rounding.
    return float(torch.linalg.vector_norm(new - old, dtype=exact)) / size if size > 0 else None
