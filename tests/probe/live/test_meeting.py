"""Processes of a training whose first steps end in any order: what each saw arrives at rank 0."""

from collections import Counter
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from isograd.probe.live.payload import Payload
from isograd.probe.live.ranks import KEPT, Ranks
from isograd.statistics import columns


def saw(step: int) -> Payload:
    rows = {key: columns.empty(1, torch.device("cpu")) for key in ("forward", "backward")}
    return Payload(rows, torch.zeros(1, dtype=torch.uint8), {"step": step, "batch.size": 4})


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the view of one process on a training of two."""
    store = dist.HashStore()
    module = torch.distributed.distributed_c10d
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(module, "_get_default_store", lambda: store)
    model = nn.Linear(2, 2)

    def make(rank: int) -> Ranks:
        monkeypatch.setattr(dist, "get_rank", lambda: rank)
        monkeypatch.setattr("isograd.probe.live.ranks._OPEN", Counter())  # another process's own
        return Ranks(model, model)

    return make


@pytest.mark.parametrize("early", [1, 3, KEPT + 2])
def test_what_was_seen_before_rank_0_began_is_kept(begin: Any, early: int) -> None:
    other = begin(1)
    for step in range(early):
        other.send(step, saw(step))
    first = begin(0)
    other.received(wait=True)
    steps = range(max(0, early - KEPT), early)
    for step in steps:
        first.send(step, saw(step))
    found = first.received()
    assert [step for step, _ in found] == list(steps)
    assert all("watch.absent" not in payload.facts for _, payload in found)
    assert all(payload.facts["batch.size"] == 8 for _, payload in found)
