"""Ranks: what the processes of a distributed training tell each other, and nobody waits.

Rows go through the store that every process group has, not through a collective: one that a
single process did not join, because it does not watch or has failed, would stop the training.
"""

import itertools
import time
from typing import Any

import torch
from torch import nn

from isograd.probe.live.payload import Payload

PATIENCE = 10.0
"""Seconds until a process from which nothing has come is no longer waited for."""

_RUNS = itertools.count()


class Ranks:
    """One process among those of a training.

    Looks take place at the same steps everywhere: rank 0 decides, and its word goes out one look
    ahead, so that it has arrived when it is needed. Rank 0 gathers what the others saw.

    Args:
        root: the module that the loop calls.
        model: the plain module.
    """

    def __init__(self, root: nn.Module, model: nn.Module) -> None:
        self.rank, self.world = 0, 1
        self._store: Any = None
        dist = torch.distributed
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

            self.rank, self.world = dist.get_rank(), dist.get_world_size()
            self._store = PrefixStore(f"isograd/{next(_RUNS)}", _get_default_store())
        parallel = _parts_of_batch(root, model)
        self.sharded = self._store is not None and any(
            hasattr(p, "to_local") for p in model.parameters()
        )
        self.same_batch = self.sharded and not parallel
        """Whether each process computes a part of the layers, of all samples (tensor parallel)."""
        self.share = 1 / self.world if self._store is not None and parallel else 1.0
        """By what gradients of a process's own loss count in those of the whole batch."""
        self._waiting: dict[int, tuple[Payload, float, set[int]]] = {}
        self._gone: set[int] = set()
        self._look = 0

    @property
    def several(self) -> bool:
        """Whether there is more than one process."""
        return self._store is not None

    def decide(self, now: int, due: int, *, regular: bool) -> int | None:
        """The step of the next look, for all processes the same.

        Args:
            now: the step of this look.
            due: when this process would look next.
            regular: whether that is the same everywhere.

        Returns:
            None where rank 0 has said nothing.
        """
        if self._store is None or regular:
            return due
        self._look += 1
        if self.rank == 0:
            # The look after the next: who needs to know it takes part in a step before that.
            self._store.set(f"look/{self._look + 1}", str(2 * due - now))
        if self._look == 1:
            return now + 1
        key = f"look/{self._look}"
        return int(self._store.get(key)) if self._store.check([key]) else None

    def announce(self, word: str) -> None:
        """Rank 0 says something that all are to hear, once."""
        if self._store is not None:
            self._store.set("word", word)

    def announced(self) -> str | None:
        """What rank 0 has said; None: nothing yet."""
        if self._store is None or not self._store.check(["word"]):
            return None
        return str(self._store.get("word").decode())

    def send(self, step: int, payload: Payload) -> None:
        """Hands over what this process saw."""
        if self.rank == 0:
            others = set(range(1, self.world)) - self._gone
            self._waiting[step] = (payload, time.monotonic() + PATIENCE, others)
        else:
            self._store.set(f"{step}/{self.rank}", payload.to_bytes())

    def received(self, *, wait: bool = False) -> list[tuple[int, Payload]]:
        """On rank 0: steps of which everything is there, in order.

        Args:
            wait: whether to wait for those that are not; at the end.
        """
        found = []
        for step in sorted(self._waiting):
            payload, deadline, others = self._waiting[step]
            while True:
                for rank in [r for r in others if self._store.check([f"{step}/{r}"])]:
                    theirs = Payload.from_bytes(self._store.get(f"{step}/{rank}"))
                    self._store.delete_key(f"{step}/{rank}")
                    payload.add(theirs, sharded=self.sharded, same_batch=self.same_batch)
                    others.discard(rank)
                late = time.monotonic() > deadline
                if not others or late or not wait:
                    break
                time.sleep(0.01)
            if others and not late:
                break
            if others:
                self._gone |= others
                payload.facts["watch.absent"] = sorted(self._gone)
            if payload.facts.get("loss") is not None:
                payload.facts["loss"] /= max(1, self.world - len(self._gone))
            del self._waiting[step]
            found.append((step, payload))
        return found


def _parts_of_batch(root: nn.Module, model: nn.Module) -> bool:
    """Whether each process computes its part of the batch, and gradients are averaged."""
    from torch.nn.parallel import DistributedDataParallel

    if isinstance(root, DistributedDataParallel):
        return True
    names = {type(m).__name__ for m in (root, model, *model.modules())}
    return any(name.startswith(("FSDP", "FullyShardedDataParallel")) for name in names)
