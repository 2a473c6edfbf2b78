"""check() and assert_trainable(): what they refuse, and how a failing test reads."""

import pytest
import torch
from torch import nn

import isograd
from isograd.errors import InputError, UntrainableError

BATCH = (torch.randn(11, 7, generator=torch.Generator().manual_seed(0)), torch.arange(11) % 3)


class Cut(nn.Module):
    """A detach() on the way to the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(7, 13), nn.Linear(13, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(torch.relu(self.first(x)).detach())
        return found


def test_a_failing_test_begins_with_what_to_fix() -> None:
    with pytest.raises(UntrainableError) as caught:
        isograd.assert_trainable(Cut(), BATCH)
    assert isinstance(caught.value, AssertionError)
    # pytest's summary shows the first line alone
    first = str(caught.value).splitlines()[0]
    assert first.startswith("✗ 1 error")
    assert "fix first: graph-cut at first.weight" in first


def test_what_is_no_finding_or_not_severe_enough_passes() -> None:
    assert isograd.assert_trainable(nn.Linear(7, 3), BATCH).healthy
    diagnosis = isograd.assert_trainable(Cut(), BATCH, ignore=["IG103"], fail_on="error")
    assert [v.state for v in diagnosis.verdicts if v.code == "IG103"] == ["ignored"]


def test_what_makes_no_sense_is_told() -> None:
    model = nn.Linear(7, 3)
    with pytest.raises(InputError, match="fail_on='warn' is no severity; it is one of error, warn"):
        isograd.assert_trainable(model, BATCH, fail_on="warn")
    with pytest.raises(InputError, match=r"select=\['IG777'\].* leave no rule to judge by"):
        isograd.check(model, BATCH, select=["IG777"])
    with pytest.raises(InputError, match="steps=3 needs optimizer="):
        isograd.check(model, BATCH, steps=3)
    with pytest.raises(InputError, match="steps=-1; it must be 0 or more"):
        isograd.check(model, BATCH, steps=-1, optimizer=torch.optim.Adam)
