"""What processes tell each other through a store: two of them played by one."""

from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch import nn

from isograd.errors import IsogradWarning
from isograd.probe.live import ranks
from isograd.probe.live.payload import Payload
from isograd.probe.live.ranks import Ranks
from isograd.statistics import COLUMNS

Make = Callable[[int, nn.Module], Ranks]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    store = dist.HashStore()
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    opened = [ranks.Counter[str](), ranks.Counter[str]()]  # of each process

    def one(rank: int, model: nn.Module) -> Ranks:
        monkeypatch.setattr(dist, "get_rank", lambda: rank)
        monkeypatch.setattr(ranks, "_OPEN", opened[rank])
        return Ranks(model, model)

    return one


def payload(loss: float) -> Payload:
    rows = {"forward": torch.ones(1, len(COLUMNS), dtype=torch.float64)}
    return Payload(rows, torch.zeros(0, dtype=torch.uint8), {"loss": loss})


def test_who_did_not_watch_one_training_is_heard_in_the_next(make: Make) -> None:
    model = nn.Linear(3, 2)
    first = make(0, model)
    first.send(0, payload(1.0))
    first.close()
    leader, other = make(0, model), make(1, model)
    other.send(0, payload(3.0))
    leader.send(0, payload(1.0))
    ((step, found),) = leader.received()
    assert (step, found.facts["loss"]) == (0, 2.0)


def test_of_two_trainings_at_once_each_is_one(make: Make) -> None:
    model, twin, another = nn.Linear(3, 2), nn.Linear(3, 2), nn.Bilinear(3, 2, 5)
    leaders = [make(0, m) for m in (model, twin, another)]
    others = [make(1, m) for m in (model, twin, another)]
    for number, (leader, other) in enumerate(zip(leaders, others, strict=True)):
        other.send(0, payload(1.0))
        leader.send(0, payload(1.0 + 2 * number))
    assert [leader.received()[0][1].facts["loss"] for leader in leaders] == [1.0, 2.0, 3.0]


def test_whom_rank_0_does_not_watch_with_sends_nothing(make: Make) -> None:
    other = make(1, nn.Linear(3, 2))
    other.send(0, payload(1.0))
    assert other.decide(0, 5, regular=False) == 1
    assert other.decide(1, 5, regular=False) is None
    assert other.announced() is None


def test_who_has_missed_a_look_finds_the_next(make: Make) -> None:
    model = nn.Linear(3, 2)
    leader, other, prompt = (make(rank, model) for rank in (0, 1, 1))
    prompt._place = other._place
    steps, plans = [0], iter((1, 4, 5, 10, 9, 20))
    for due in plans:
        found = leader.decide(steps[-1], due, regular=False)
        assert found is not None
        steps.append(found)
        assert prompt.decide(steps[-2], due, regular=False) == found
    # 2 due - now of the look before the last, and at least a step further.
    assert steps == [0, 1, 2, 7, 8, 13, 14]
    assert other.told(3) == 7
    assert other.told(8) == 13
    assert other.told(14) == 27
    assert other.told(27) is None


def test_who_says_nothing_is_missed_once_and_heard_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "PATIENCE", 0.0)
    model = nn.Linear(3, 2)
    leader, other = make(0, model), make(1, model)
    leader.send(0, payload(1.0))
    with pytest.warns(IsogradWarning, match="nothing came from rank 1"):
        ((_, found),) = leader.received()
    assert (found.facts["watch.absent"], found.facts["loss"]) == ([1], 1.0)
    leader.send(1, payload(1.0))
    assert leader.received()[0][1].facts["watch.absent"] == [1]
    other.send(1, payload(3.0))  # late, but alive
    other.send(2, payload(3.0))
    leader.send(2, payload(1.0))
    ((_, found),) = leader.received()
    assert "watch.absent" not in found.facts
    assert found.facts["loss"] == 2.0
