"""Seeding reaches what is in use, and nothing that begins later."""

import pytest
import torch
from torch import nn

import isograd
from isograd.sites.randomness import reseed


def test_the_stream_is_that_of_torch() -> None:
    torch.manual_seed(7)
    expected = torch.randn(5)
    reseed(7)
    assert torch.equal(torch.randn(5), expected)


def test_devices_that_nobody_uses_yet_begin_where_the_user_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", told.append)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    torch.manual_seed(3)
    assert told == [3]
    model = nn.Sequential(*[nn.Linear(12, 12) for _ in range(15)], nn.Linear(12, 3))
    x, y = torch.randn(16, 12), torch.randint(3, (16,))
    isograd.repair(model, (x, y), optimizer=lambda p: torch.optim.SGD(p, 0.05), budget=30)
    isograd.predict(model, (x, y))
    assert told == [3]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    reseed(5)
    assert told == [3, 5]
