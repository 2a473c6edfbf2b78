"""What a repair goes by, and what it says of it."""

import functools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, StepLR

import isograd
from isograd.findings import Finding, Severity
from isograd.remedies import Case
from isograd.repairs.attempting import Attempt
from isograd.repairs.comparing import Comparison
from isograd.repairs.judging import chance_of
from isograd.repairs.planning import Candidates
from isograd.repairs.proving import compared
from isograd.repairs.result import Trial
from isograd.repairs.treatments import Treatment
from isograd.repairs.wording import nothing_helped, unshown
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


def test_a_warm_up_that_begins_low_is_no_rate_that_is_too_low() -> None:
    torch.manual_seed(0)
    x, y = data.digits(640)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    batches = list(zip(x.split(64), y.split(64), strict=True))

    def found(low: float) -> isograd.Repair:
        adam = torch.optim.AdamW(model.parameters(), lr=1e-3)
        LambdaLR(adam, lambda step: low)
        return isograd.repair(model, batches[0], F.cross_entropy, optimizer=adam, data=batches)

    begins = found(1e-3)
    assert (begins.verdict, begins.learned) == ("healthy", None)
    assert "steps at the rate of now, too low to learn much at" in begins.reason
    assert found(1.0).learned  # at the rate of the schedule's end it does


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
        ("classes", math.log(10), math.log(10), True),
        ("classes", math.log(10), 2.0, False),
        ("loss", 16.0, 16.1, True),
        ("loss", 16.0, 15.0, False),
        ("loss", None, 99.0, False),
        ("line", 1.0, 0.99, False),
        ("variance", 1.0, 14.28, True),
        ("labels", None, 2.0, False),
    ],
)
def test_who_is_not_below_a_constant_answer_has_shown_nothing(
    measure: str, chance: float | None, score: float, told: bool
) -> None:
    facts = {"target.classes": 10, "loss.chance": chance}
    case = SimpleNamespace(record=SimpleNamespace(fact=facts.get))
    over = SimpleNamespace(
        chance=chance_of(cast(Case, case), cast(Any, SimpleNamespace(measure=measure)))
    )
    assert over.chance == chance
    found = unshown(cast(Attempt, over), Comparison((9.0,) * 3, (score,) * 3))
    assert found is told


def test_a_loss_below_that_of_one_batchs_guessing_is_told_as_no_news() -> None:
    torch.manual_seed(2)
    x = torch.randn(1920, 8)
    y = 0.2 * x[:, :1] + torch.randn(1920, 1)
    y[:64] *= 1.3 / y[:64].std()  # one of a larger spread than the others
    batches = list(zip(x.split(64), y.split(64), strict=True))
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    done = isograd.repair(model, batches[0], F.mse_loss, data=batches)
    assert done.learned is False
    assert "one batch does not tell if that is less: there may be little to learn" in done.reason


def test_the_spread_of_one_target_is_no_loss_of_guessing() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 4)
    samples = list(zip(x.split(1), (2 * x[:, :1] - 1).split(1), strict=True))
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
    done = isograd.repair(model, samples[0], F.mse_loss, data=samples)
    assert (done.verdict, done.learned) == ("healthy", True)
    calm = torch.optim.SGD(model.parameters(), lr=1e-9)
    done = isograd.repair(model, samples[0], F.mse_loss, optimizer=calm, data=samples)
    assert "guessing has 0" not in done.reason


def headline(before: list[float], after: list[float], untrained: float, cause: int = 0) -> str:
    trials = tuple(
        Trial(name, ((1.0,) * 20,) * 3, tuple(scores), (None,) * 3)
        for name, scores in (("as it is", before), ("change", after))
    )
    finding = Finding("IG103", Severity.ERROR, "frozen-parameters", "", remedies=("Do that.",))
    over = SimpleNamespace(
        judge=SimpleNamespace(measure="loss"),
        case=SimpleNamespace(findings=(finding,)),
        dropped={},
        chance=None,
    )
    change = Treatment((), ("init-x",), ("init",), cause=cause)
    return nothing_helped(
        cast(Attempt, over),
        Candidates((change,), ()),
        change,
        compared(*trials, [untrained], 0.05),
        cast(tuple[Trial, Trial], trials),
        0,
    )


def test_numbers_of_a_change_that_did_not_help_are_its_own() -> None:
    # Both ended at 1.02, and count as the constant answer's 0.9775.
    told = headline([1.02, 1.02, 1.02], [1.02, 1.02, 1.02], 0.9775)
    assert told.startswith("No change that was tried makes a difference; with init-x: loss 1.02 ")
    assert "comes to 1.02 (" in told
    told = headline([1.0, 1.1, 1.2], [0.99, 1.15, 1.12], 2.0)
    assert told.startswith("init-x came nearest: loss 1.087 after 20 steps")
    told = headline([1.0, 1.1, 1.2], [1.1, 1.15, 1.22], 2.0)
    assert told.startswith("No change that was tried does better; with init-x: loss 1.157 ")
    told = headline([1.0, 1.1, 1.2], [math.inf, 1.15, 1.22], 2.0)
    assert "loss 1.457 " in told  # a run that broke counts as the untrained network


def test_a_cause_that_no_change_mends_comes_first_in_the_headline() -> None:
    told = headline([1.0, 1.1, 1.2], [0.99, 1.15, 1.12], 2.0, cause=1)
    assert told.startswith("IG103 frozen-parameters comes before all else, and no change")
    assert "mends it; yours to do: Do that. init-x came nearest: " in told
    assert "budget" not in told

    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 10)
            self.between = [nn.Linear(32, 32) for _ in range(3)]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.relu(self.first(x))
            for layer in self.between:
                x = F.relu(layer(x))
            out: torch.Tensor = self.last(x)
            return out

    torch.manual_seed(0)
    sgd = functools.partial(torch.optim.SGD, lr=1e-3)
    done = isograd.repair(Listed(), data.digits(64), F.cross_entropy, optimizer=sgd, budget=60)
    assert done.verdict == "nothing-helps"
    assert done.reason.startswith("IG103 frozen-parameters comes before all else")
