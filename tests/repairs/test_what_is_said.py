"""What a repair goes by, and what it says of it."""

import functools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, StepLR

import isograd
from isograd.repairs.attempting import Attempt
from isograd.repairs.comparing import Comparison
from isograd.repairs.wording import unshown
from patients import data


@pytest.mark.parametrize("place", [-1, 0])
def test_outputs_that_start_too_large_are_judged_by_the_loss_that_the_user_sees(place: int) -> None:
    # The best temperature forgives what is at fault: of such a head, scores said that it had
    # learned, and a higher rate was kept, where the user's loss was 34.
    x, y = data.digits(640)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    nn.init.normal_(model[place].weight, std=20.0)
    batches = list(zip(x.split(64), y.split(64), strict=True))
    sgd = functools.partial(torch.optim.SGD, lr=0.05)
    done = isograd.repair(model, batches[0], F.cross_entropy, optimizer=sgd, data=batches)
    assert done.measure == "loss"
    assert any(name.startswith("init-") for name in done.remedies), done.reason


def test_the_rate_of_trials_is_told_where_a_schedule_holds_it_low() -> None:
    batch = data.digits(64)

    def noted(rate: float, schedule: Callable[[torch.optim.Optimizer], object]) -> list[str]:
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        sgd = torch.optim.SGD(model.parameters(), lr=rate)
        schedule(sgd)
        done = isograd.repair(model, batch, F.cross_entropy, optimizer=sgd)
        return [note for note in done.notes if note.startswith("optimizer: a schedule")]

    assert noted(0.1, lambda sgd: LambdaLR(sgd, lambda step: step / 100)) == [
        "optimizer: a schedule holds its rate at 0; trials train at initial_lr, 0.1"
    ]
    told = "optimizer: a schedule holds its rate at 0.5; trials train at that, and none at its "
    assert noted(50.0, lambda sgd: LambdaLR(sgd, lambda step: (step + 1) / 100)) == [
        told + "highest, 50"
    ]
    # It divides the highest by 25 at first, and calls that the initial one.
    cycle = noted(0.1, lambda sgd: OneCycleLR(sgd, max_lr=12.5, total_steps=100))
    assert cycle == [told + "highest, 12.5"]
    assert noted(0.1, lambda sgd: StepLR(sgd, 30)) == noted(0.1, lambda _: None) == []


def test_hooks_of_parameters_are_named_since_copies_have_none() -> None:
    batch = data.digits(64)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    for hooked in (False, True):
        if hooked:
            model[0].weight.register_hook(lambda gradient: 0 * gradient)
        done = isograd.repair(model, batch, F.cross_entropy)
        foreseen = isograd.predict(model, batch)
        for notes in (done.notes, foreseen.notes):
            assert any("hooks of parameters (0.weight" in note for note in notes) is hooked


def test_what_never_learns_is_told_with_its_loss_beside_guessing() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(640, 20), torch.randint(5, (640,))  # labels that are noise
    batches = list(zip(x.split(64), y.split(64), strict=True))
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 5))
    for budget, told in ((100, "More steps may show why (budget=)"), (3000, "a longer training")):
        sgd = functools.partial(torch.optim.SGD, lr=0.02)
        done = isograd.repair(
            model, batches[0], F.cross_entropy, optimizer=sgd, data=batches, budget=budget
        )
        assert done.learned is False
        assert not done.changed
        assert told in done.reason
        assert "by the targets of one batch" in done.reason
        assert str(done).startswith("? nothing found, but it did not learn")


def test_guessing_is_told_by_labels_only_where_they_are_counted() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(640, 20), torch.randint(40, (640,))
    batches = list(zip(x.split(32), y.split(32), strict=True))
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 40))
    sgd = functools.partial(torch.optim.SGD, lr=0.02)
    done = isograd.repair(model, batches[0], F.cross_entropy, optimizer=sgd, data=batches)
    assert done.learned is False
    assert f"where guessing has {math.log(40):.4g}." in done.reason  # not that of 32 labels


@pytest.mark.parametrize(
    ("measure", "chance", "score", "told"),
    [
        ("classes", None, math.log(10), True),
        ("classes", None, 2.0, False),
        ("loss", 16.0, 16.1, True),
        ("loss", 16.0, 15.0, False),
        ("loss", None, 99.0, False),
        ("line", None, 0.99, False),
    ],
)
def test_who_is_not_below_a_constant_answer_has_shown_nothing(
    measure: str, chance: float | None, score: float, told: bool
) -> None:
    record = SimpleNamespace(fact={"target.classes": 10}.get)
    over = SimpleNamespace(
        chance=chance,
        judge=SimpleNamespace(measure=measure),
        case=SimpleNamespace(record=record),
    )
    found = unshown(cast(Attempt, over), Comparison((9.0,) * 3, (score,) * 3))
    assert found is told
