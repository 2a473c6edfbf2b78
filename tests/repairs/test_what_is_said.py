"""What a repair goes by, and what it says of it."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import isograd
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
