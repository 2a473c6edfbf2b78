"""Ranks: what the processes of a distributed training tell each other, and nobody waits.

Rows go through the store that every process group has, not through a collective: one that a
single process did not join, because it does not watch or has failed, would stop the training.
"""

import itertools
import time
import zlib
from collections import Counter
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from isograd.errors import warn
from isograd.probe.live.payload import Payload

PATIENCE = 10.0
"""Seconds until a process from which nothing has come is no longer waited for."""

KEPT = 8
"""Looks that a process keeps as long as rank 0 has not said where they go."""

_RUNS = itertools.count()

_OPEN: Counter[str] = Counter()
"""How many trainings of models with the same parameters this process watches."""


class Ranks:
    """One process among those of a training.

    Looks take place at the same steps everywhere: rank 0 decides, and its word goes out one look
    ahead, so that it has arrived when it is needed. Rank 0 gathers what the others saw.

    A process may have watched fewer trainings than others. So rank 0 says under which number this
    one goes, at a place that the names of the model's parameters tell.

    Args:
        root: the module that the loop calls.
        model: the plain module.
    """

    def __init__(self, root: nn.Module, model: nn.Module) -> None:
        self.rank, self.world = 0, 1
        self._store: Any = None
        self._found: Any = None
        names = "".join(name for name, _ in model.named_parameters())
        self._kind = f"{zlib.crc32(names.encode()):x}"
        dist = torch.distributed
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            from torch.distributed.distributed_c10d import _get_default_store

            self.rank, self.world = dist.get_rank(), dist.get_world_size()
            self._store = _get_default_store()
            self._place = f"isograd/now/{self._kind}/{_OPEN[self._kind]}"
            _OPEN[self._kind] += 1
            if self.rank == 0:
                number = str(next(_RUNS))
                self._store.set(self._place, number)
                self._found = _prefixed(number, self._store)
        parallel = _parts_of_batch(root, model)
        self.sharded = self._store is not None and any(
            hasattr(p, "to_local") for p in model.parameters()
        )
        self.same_batch = self.sharded and not parallel
        """Whether each process computes a part of the layers, of all samples (tensor parallel)."""
        self.share = 1 / self.world if self._store is not None and parallel else 1.0
        """By what gradients of a process's own loss count in those of the whole batch."""
        self._waiting: dict[int, tuple[Payload, float, set[int]]] = {}
        self._kept: dict[int, bytes] = {}
        self._gone: set[int] = set()
        self._told: set[int] = set()
        self._latest = -1
        self._look, self._due = 0, -1
        """Number and step of the next look, as far as they are known."""

    @property
    def _run(self) -> Any:
        """The store of this training; None as long as rank 0 does not watch it."""
        if self._found is None and self._store.check([self._place]):
            self._found = _prefixed(self._store.get(self._place).decode(), self._store)
        return self._found

    def close(self) -> None:
        """The training is over, or nobody watches it any more."""
        if self._store is None:
            return
        _OPEN[self._kind] -= 1
        with suppress(Exception):  # the store may be gone before us
            if self.rank == 0:
                self._store.delete_key(self._place)
        self._store = None

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
        if self.rank == 0:
            if not self._look:
                self._run.set("look/1", str(now + 1))
            # The look after the next: who needs to know it takes part in a step before that.
            self._run.set(f"look/{self._look + 2}", str(2 * due - now))
        return self.told(now)

    def told(self, now: int) -> int | None:
        """The step of the next look after this one, as rank 0 has said it; None: it has not.

        What is said of a look makes it come after the one before. So who has missed some finds the
        same steps as everybody else.
        """
        while self._due <= now:
            key = f"look/{self._look + 1}"
            run = self._run if self._store is not None else None
            if run is not None and run.check([key]):
                self._due = max(int(run.get(key)), self._due + 1)
            elif not self._look:
                self._due = now + 1
            else:
                return None
            self._look += 1
        return self._due

    def announce(self, word: str) -> None:
        """Rank 0 says something that all are to hear, once."""
        if self._store is not None and self._run is not None:
            self._run.set("word", word)

    def announced(self) -> str | None:
        """What rank 0 has said; None: nothing yet."""
        run = self._run if self._store is not None else None
        return str(run.get("word").decode()) if run is not None and run.check(["word"]) else None

    def send(self, step: int, payload: Payload) -> None:
        """Hands over what this process saw."""
        if self.rank == 0:
            self._gone -= {rank for rank in self._gone if self._take(self._latest, rank)}
            others = set(range(1, self.world)) - self._gone
            self._waiting[step] = (payload, time.monotonic() + PATIENCE, others)
            self._latest = step
            return
        self._kept[step] = payload.to_bytes()
        while len(self._kept) > KEPT:
            del self._kept[min(self._kept)]
        self._hand_over()

    def _hand_over(self) -> None:
        """What is kept goes to rank 0, once it has begun: its first step may end after ours."""
        run = self._run if self._kept else None
        if run is not None:
            for step, content in self._kept.items():
                run.set(f"{step}/{self.rank}", content)
            self._kept = {}

    def _take(self, step: int, rank: int) -> Payload | None:
        """What a process has sent of a step."""
        key = f"{step}/{rank}"
        if not self._run.check([key]):
            return None
        found = Payload.from_bytes(self._run.get(key))
        self._run.delete_key(key)
        return found

    def received(self, *, wait: bool = False) -> list[tuple[int, Payload]]:
        """On rank 0: steps of which everything is there, in order.

        Args:
            wait: whether to wait for those that are not; at the end.
        """
        if wait:
            self._hand_over()
        found = []
        for step in sorted(self._waiting):
            payload, deadline, others = self._waiting[step]
            while True:
                for rank in sorted(others):
                    theirs = self._take(step, rank)
                    if theirs is not None:
                        payload.add(theirs, sharded=self.sharded, same_batch=self.same_batch)
                        others.discard(rank)
                late = time.monotonic() > deadline
                if not others or late or not wait:
                    break
                time.sleep(0.01)
            if others and not late:
                break
            if others:
                self._miss(others, step)
            if self._gone:
                payload.facts["watch.absent"] = sorted(self._gone)
            if payload.facts.get("loss") is not None:
                payload.facts["loss"] /= max(1, self.world - len(self._gone))
            del self._waiting[step]
            found.append((step, payload))
        return found

    def _miss(self, others: set[int], step: int) -> None:
        """Says once of which processes nothing comes."""
        new = others - self._gone - self._told
        self._gone |= others
        self._told |= new
        if new:
            names = ", ".join(map(str, sorted(new)))
            warn(
                f"watch: nothing came from rank {names} for {PATIENCE:g} seconds at step {step}: "
                "numbers are those of the other processes alone until it does; every process has "
                "to watch the same model"
            )


def _parts_of_batch(root: nn.Module, model: nn.Module) -> bool:
    """Whether each process computes its part of the batch, and gradients are averaged."""
    from torch.nn.parallel import DistributedDataParallel

    if isinstance(root, DistributedDataParallel):
        return True
    names = {type(m).__name__ for m in (root, model, *model.modules())}
    return any(name.startswith(("FSDP", "FullyShardedDataParallel")) for name in names)


def _prefixed(number: str, store: Any) -> Any:
    from torch.distributed.distributed_c10d import PrefixStore

    return PrefixStore(f"isograd/{number}", store)
