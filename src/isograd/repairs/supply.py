"""Supply: the batches of all trials, in an order of each seed, and a portion held out."""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from isograd.errors import DataError, a_kind
from isograd.sites.batches import (
    Batch,
    as_batch,
    check_batched,
    check_filled,
    check_finite,
    place_of,
    sent,
    tensors,
)

HELD_SAMPLES = 256
"""Samples to judge by: an accuracy then has a standard error of three percent or less."""
HELD_SHARE = 0.2
"""At most this part of the batches is held out."""
MOST_BYTES = 2**30
"""Batches are kept in memory, so that every candidate sees the same; up to this size."""
REST = 0.25
"""Part of the usual number of samples below which a batch, as the last of an epoch, is left out: it
would count like any other, to learn from or to judge by."""
MOST_LOOKED_AT = 32
"""Batches among which another one is looked for."""


@dataclass(frozen=True)
class Supply:
    """Batches to train on and batches to judge by, the same for every candidate."""

    train: tuple[Batch, ...]
    held: tuple[Batch, ...]
    apart: bool
    """Whether those to judge by are never trained on."""
    items: tuple[Any, ...] = ()
    """Those to train on as the user's data gave them."""
    notes: tuple[str, ...] = ()

    def order(self, seed: int) -> Iterator[Batch]:
        """The training batches again and again, each time in another order, told by the seed."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            for place in torch.randperm(len(self.train), generator=generator).tolist():
                yield self.train[place]


class Source:
    """Data that are gone through once, no further than somebody asks, and remembered.

    Args:
        data: batches.
        model: they are put where it is, where one is given.

    Raises:
        DataError: the data cannot be gone through.
    """

    def __init__(self, data: Iterable[Any], model: nn.Module | None = None) -> None:
        self._place = place_of(model)
        self._rest, self._taken = _through(data), list[Any]()
        self._read = list[Batch]()

    def __iter__(self) -> Iterator[Any]:
        for place in itertools.count():
            if place == len(self._taken):
                try:
                    self._taken.append(sent(next(self._rest), self._place))
                except StopIteration:
                    return
            yield self._taken[place]

    def read(self, like: Batch) -> Iterator[tuple[Any, Batch]]:
        """The same with each taken apart, and checked when it is first met.

        Raises:
            DataError: one cannot be read.
        """
        for place, item in enumerate(self):
            if place == len(self._read):
                self._read.append(_read(item, place, like))
            yield item, self._read[place]


def varied(batch: Any, source: Source | None) -> Any:
    """The batch, or another of the data, where all of its targets are equal and not all of theirs.

    Of rare positives many batches hold none, which says nothing against the data.

    Raises:
        DataError: the data cannot be gone through.
    """
    if source is None or not _one_answer(batch):
        return batch
    others = itertools.islice(source, MOST_LOOKED_AT)
    return next((item for item in others if not _one_answer(item)), batch)


def _one_answer(batch: Any) -> bool:
    try:
        targets = as_batch(batch).targets
    except DataError:
        return False
    whole = isinstance(targets, Tensor) and targets.numel() > 1
    return whole and bool((targets == targets.flatten()[0]).all())


def gather(
    data: Source | Iterable[Any] | None, batch: Any, steps: int, *, longest: int | None = None
) -> Supply:
    """Takes batches from the user's data, once; those of far fewer samples than usual are left out.

    Args:
        data: batches; the one batch where None. An iterator loses those that are taken.
        batch: what the network was measured on.
        steps: the longest trial; no more batches are taken than it can use.
        longest: the same where it is known to be shorter, but HELD_SAMPLES are held out still.

    Raises:
        DataError: the data cannot be gone through, hold no batch, or one cannot be read.
    """
    first = as_batch(batch)
    notes: list[str] = []
    taken: list[Batch] = []
    items: list[Any] = []
    held_most = max(1, -(-HELD_SAMPLES // max(first.size, 1)))
    if longest is not None:
        steps = min(steps, max(longest, math.ceil(held_most / HELD_SHARE) - held_most))
    if data is not None:
        room = MOST_BYTES
        source = data if isinstance(data, Source) else Source(data)
        for item, read in source.read(first):
            taken.append(read)
            items.append(item)
            room -= sum(t.numel() * t.element_size() for t in _all(read))
            if len(taken) >= steps + held_most or room < 0:
                break
        if not taken:
            raise DataError(
                "data: it holds no batch, or was gone through already; leave it out to train on "
                "the one batch"
            )
    usual = sorted(batch.size for batch in taken)[len(taken) // 2] if taken else 0
    whole = [place for place, batch in enumerate(taken) if batch.size >= REST * usual]
    if left := len(taken) - len(whole):
        least = min(batch.size for batch in taken)
        notes.append(
            f"data: {left} of {len(taken)} batches left out, with as few as {least} "
            f"sample{'s' * (least != 1)} where {usual} are usual; drop_last=True of a DataLoader "
            "leaves out the last"
        )
        taken, items = [taken[k] for k in whole], [items[k] for k in whole]
    held = min(held_most, int(len(taken) * HELD_SHARE)) or int(len(taken) > 1)
    if not held:
        notes.append(
            "trials: there is one batch, so that networks were trained and judged on the same "
            "samples; data= would hold some out"
        )
        every = tuple(taken) or (first,)
        return Supply(every, every, False, tuple(items), tuple(notes))
    return Supply(tuple(taken[held:]), tuple(taken[:held]), True, tuple(items[held:]), tuple(notes))


def _through(data: Iterable[Any]) -> Iterator[Any]:
    try:
        return iter(data)
    except TypeError as error:
        raise DataError(
            "data: expected an iterable of batches, such as a DataLoader or a list, found "
            f"{a_kind(data)}"
        ) from error


def _read(item: Any, place: int, like: Batch) -> Batch:
    try:
        batch = as_batch(item)
        check_batched(batch, like)
        check_filled(batch)
        check_finite(batch)
    except DataError as error:
        what = str(error).removeprefix("batch: ")
        raise DataError(f"data: batch {place}: {what}") from error
    if batch.targets is None and like.targets is not None:
        raise DataError(
            f"data: batch {place} has no targets, where batch= has: each batch is a pair (inputs, "
            "targets). One pair alone is data=[(inputs, targets)]; samples become batches by "
            "torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), "
            f"batch_size={like.size}, shuffle=True)"
        )
    return batch


def _all(batch: Batch) -> list[torch.Tensor]:
    return [*batch.inputs(), *tensors(batch.targets)]
