"""Weights in half precision that their own updates do not reach."""

from collections.abc import Callable
from statistics import median

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isograd
from isograd.findings import Finding, Severity

Make = Callable[..., torch.optim.Optimizer]


def batch(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(64, 20).to(dtype), torch.arange(64) % 5


def net(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5)).to(dtype)


def found(dtype: torch.dtype, make: Make, **options: float) -> Finding | None:
    diagnosis = isograd.check(
        net(dtype), batch(dtype), F.cross_entropy, optimizer=lambda p: make(p, **options), steps=3
    )
    return next((f for f in diagnosis.findings if f.code == "IG404"), None)


def arrived(dtype: torch.dtype, make: Make, **options: float) -> float:
    """The second witness: both weights stepped in this format and in float32."""
    moved: dict[bool, list[float]] = {}
    for wide in (False, True):
        model, (x, y) = net(dtype), batch(dtype)
        F.cross_entropy(model(x), y).backward()
        kept = [p.grad for p in model.parameters()]
        model = model.float() if wide else model
        for p, g in zip(model.parameters(), kept, strict=True):
            assert g is not None
            p.grad = g.to(p.dtype)
        weights = [m.weight for m in model if isinstance(m, nn.Linear)]
        before = [w.detach().double() for w in weights]
        make(model.parameters(), **options).step()
        moved[wide] = [
            float((w.detach().double() - b).norm()) for w, b in zip(weights, before, strict=True)
        ]
    return median(a / b for a, b in zip(moved[False], moved[True], strict=True))


@pytest.mark.parametrize(
    ("make", "options", "lost"),
    [
        (torch.optim.SGD, {"lr": 3e-3}, True),
        (torch.optim.SGD, {"lr": 0.5}, False),
        (torch.optim.AdamW, {"lr": 1e-5}, True),
        (torch.optim.AdamW, {"lr": 1e-3}, False),
    ],
)
def test_updates_that_round_to_nothing(make: Make, options: dict[str, float], lost: bool) -> None:
    share = arrived(torch.bfloat16, make, **options)
    finding = found(torch.bfloat16, make, **options)
    assert (share < 0.5) is lost
    assert (finding is not None) is lost
    if finding is not None:
        assert finding.cause == "precision"
        assert finding.evidence["arrived"] == pytest.approx(share, abs=0.05)
    assert found(torch.float32, make, **options) is None


def test_an_eps_that_is_zero() -> None:
    finding = found(torch.float16, torch.optim.Adam, lr=1e-3)
    assert finding is not None
    assert finding.severity is Severity.ERROR
    assert found(torch.float16, torch.optim.Adam, lr=1e-3, eps=1e-4) is None
    model, (x, y) = net(torch.float16), batch(torch.float16)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    assert not torch.isfinite(model[0].weight).all()  # what the rule says is so


def test_what_is_too_small_in_any_format_is_not_the_formats_fault() -> None:
    diagnosis = isograd.check(
        net(torch.bfloat16),
        batch(torch.bfloat16),
        F.cross_entropy,
        optimizer=lambda p: torch.optim.SGD(p, 1e-7),
        steps=1,
    )
    assert {f.cause for f in diagnosis.findings} == {"lr-too-low"}
