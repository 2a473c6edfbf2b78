"""What a watched loop's loss is taken for: its kind, its targets, and where a bad batch shows."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isograd
from isograd.watching import Watch

X = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
Y = torch.randint(5, (40,), generator=torch.Generator().manual_seed(2))


def net(out: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, out))


def watched(model: nn.Module, loss: Callable[[int], Tensor], steps: int = 6) -> Watch:
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    with isograd.watch(model, optimizer, every=1, sinks=(), on_finding=None) as watch:
        for step in range(steps):
            optimizer.zero_grad()
            loss(step).backward()
            optimizer.step()
    assert watch.failure is None
    assert watch.reading is not None
    return watch


def codes(watch: Watch) -> set[str]:
    return {alarm.finding.code for alarm in watch.alarms}


def test_targets_of_one_task_are_not_judged_by_the_loss_of_another() -> None:
    class Tasks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.label, self.odd = net(12), nn.Linear(12, 5), nn.Linear(12, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            x = F.relu(self.body(x))
            return {"label": self.label(x), "odd": self.odd(x)}

    model = Tasks()

    def loss(_: int) -> Tensor:
        out, odd = model(X), (Y % 2).float()
        first = F.cross_entropy(out["label"], Y)
        return first + F.binary_cross_entropy_with_logits(out["odd"][:, 0], odd)

    watch = watched(model, loss)
    facts = watch.reading.seen.facts  # type: ignore[union-attr]
    assert facts.get("loss.kind") is None
    assert "target.kind" not in facts or facts["target.kind"] is None
    assert not codes(watch)


@pytest.mark.parametrize("together", [True, False])
def test_a_judge_has_one_target_at_a_time(together: bool) -> None:
    judge, score = net(1), F.binary_cross_entropy_with_logits

    def loss(_: int) -> Tensor:
        parts = [score(judge(X), torch.ones(40, 1)), score(judge(-X), torch.zeros(40, 1))]
        if together:
            return parts[0] + parts[1]
        parts[0].backward()
        return parts[1]

    watch = watched(judge, loss)
    seen = watch.reading.seen  # type: ignore[union-attr]
    assert seen.facts["target.distinct"] == (2 if together else 1)
    (verdict,) = [v for v in watch.diagnosis.verdicts if v.code == "IG608"]  # type: ignore[union-attr]
    assert verdict.state == "passed"


def test_a_maker_has_the_targets_of_its_judge() -> None:
    maker, judge = net(8), net(1)

    def loss(_: int) -> Tensor:
        return F.binary_cross_entropy_with_logits(judge(maker(X)), torch.ones(40, 1))

    watch = watched(maker, loss)
    assert watch.reading.seen.facts["loss.critic"]  # type: ignore[union-attr]
    (verdict,) = [v for v in watch.diagnosis.verdicts if v.code == "IG608"]  # type: ignore[union-attr]
    assert verdict.state == "passed"
    plain = net(2)
    same = watched(plain, lambda _: F.cross_entropy(plain(X), torch.ones(40).long()), steps=60)
    (verdict,) = [v for v in same.diagnosis.verdicts if v.code == "IG608"]  # type: ignore[union-attr]
    assert verdict.state == "finding"  # nobody judges here: the labels are wrong


@pytest.mark.parametrize("where", ["batch", "weight"])
def test_a_batch_that_is_not_finite_is_told_from_a_weight(where: str) -> None:
    model = net()

    def loss(step: int) -> Tensor:
        x = X.clone()
        if step == 3 and where == "batch":
            x[3, 5] = math.nan
        if step == 3 and where == "weight":
            with torch.no_grad():
                model[0].weight[2, 1] = math.nan
        return F.cross_entropy(model(x), Y)

    watch = watched(model, loss)
    (alarm,) = [a for a in watch.alarms if a.finding.code == "IG401"]
    assert (alarm.finding.cause == "data-bug") is (where == "batch")
    assert ("The batch itself" in alarm.finding.remedies[0]) is (where == "batch")


@pytest.mark.parametrize("divided", [False, True])
def test_a_loss_that_adds_up_is_known_by_its_reduction(divided: bool) -> None:
    model = net()

    def loss(_: int) -> Tensor:
        total = F.cross_entropy(model(X), Y, reduction="sum")
        return total / len(X) if divided else total

    watch = watched(model, loss)
    assert watch.reading is not None
    assert watch.reading.seen.fact("loss.summed") is (None if divided else True)
    found = [a.finding for a in watch.alarms if a.finding.code == "IG603"]
    assert ["is a sum of 40 terms" in f.message for f in found] == ([] if divided else [True])
