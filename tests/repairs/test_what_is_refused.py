"""repair(): what it refuses, and what of the user's it leaves as found."""

import functools
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isograd
from isograd import remedies
from isograd.errors import InputError, ModelError
from isograd.remedies._examples import classes, plain


class Moody(nn.Module):
    """Raises at every seventh call of any copy."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.body = plain(16, nn.Sigmoid)

    def forward(self, x: Tensor) -> Tensor:
        Moody.calls += 1
        if Moody.calls % 7 == 0:
            raise ValueError("not on a Sunday")
        return cast(Tensor, self.body(x))


def test_a_model_that_raises_at_times_is_told_with_its_own_error() -> None:
    with pytest.raises(ModelError, match=r"trial: step \d raised ValueError: not on a Sunday"):
        isograd.repair(Moody(), classes())


class Counting:
    """A loss that is no module, and remembers."""

    def __init__(self) -> None:
        self.calls, self.seen, self.mean = 0, list[float](), torch.zeros(())

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        loss = F.cross_entropy(outputs, targets)
        self.seen.append(float(loss.detach()))
        self.mean += loss.detach()
        return loss


@pytest.mark.parametrize("act", [nn.Sigmoid, nn.ReLU])
def test_a_loss_that_remembers_is_left_as_found(act: type[nn.Module]) -> None:
    loss = Counting()
    seen, mean = loss.seen, loss.mean
    isograd.repair(plain(16 if act is nn.Sigmoid else 2, act), classes(), loss, budget=60)
    assert (loss.calls, loss.seen, float(loss.mean)) == (0, [], 0.0)
    assert loss.seen is seen
    assert loss.mean is mean


def test_progress_is_a_function() -> None:
    with pytest.raises(InputError, match=r"repair: progress=3; give a function of \(steps done"):
        isograd.repair(plain(2), classes(), progress=3)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_scripted_model_was_not_looked_at() -> None:
    scripted = torch.jit.script(plain(2))
    done = isograd.repair(scripted, classes())
    assert done.verdict == "no-remedy"
    assert done.learned is None
    assert done.reason.startswith("Nothing was looked at, and nothing was trained")
    assert done.model is scripted
    # A part of it is no reason to say nothing of the rest.
    mixed = nn.Sequential(nn.Linear(20, 20), torch.jit.script(nn.ReLU()), plain(2))
    assert isograd.repair(mixed, classes()).verdict == "healthy"


def test_inference_mode_is_left_for_the_trials() -> None:
    torch.manual_seed(0)
    model, batch = plain(12, nn.Sigmoid), classes(64)
    make = functools.partial(torch.optim.Adam, lr=1e-3)
    ever = isograd.repair(model, batch, optimizer=make(model.parameters()), budget=100)
    with torch.inference_mode():
        done = isograd.repair(model, batch, optimizer=make(model.parameters()), budget=100)
        seen = isograd.check(model, batch, optimizer=make, data=[batch], steps=2)
        change = remedies.apply("normalization-insert", model, batch)
        assert torch.is_inference_mode_enabled()
    assert ever.verdict == done.verdict == "repaired"
    assert ever.trials == done.trials
    assert not any(p.is_inference() for p in (*done.model.parameters(), *model.parameters()))
    assert change.grown
    assert [f.code for f in seen.findings] == [f.code for f in ever.before.findings]
    F.cross_entropy(done.model(batch[0]), batch[1]).backward()
