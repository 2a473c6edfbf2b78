"""Starts that learning hides: a first step too many, and outputs held back by what ends them."""

import functools
from collections.abc import Callable

import pytest
import torch
from threshold_readings import flat_sigmoids, normed_targets, squared_sigmoids, thrown
from torch import Tensor, nn
from torch.nn import functional as F

import isograd
from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules import RULES
from patients import data
from patients.dense import mlp


@pytest.mark.parametrize(
    ("code", "reading", "severity"),
    [
        ("IG304", thrown(1.0, 3e4), Severity.WARNING),  # it has learned, and is another network
        ("IG304", thrown(1.0, 20.0), None),  # those that follow are smaller
        ("IG304", thrown(0.3, 3e4), None),
        ("IG304", thrown(6.0, 20.0), Severity.INFO),
        ("IG602", normed_targets(3.0), Severity.WARNING),
        ("IG602", normed_targets(1.5), None),
        ("IG602", normed_targets(3.0, out=3.2), None),  # it has arrived
        ("IG606", flat_sigmoids(0.3), Severity.WARNING),
        ("IG606", flat_sigmoids(0.1), Severity.INFO),
        ("IG606", squared_sigmoids(20, level=0.1), Severity.INFO),
    ],
)
def test_what_the_start_tells(code: str, reading: Reading, severity: Severity | None) -> None:
    found = RULES[code].judge(reading)
    assert (found.severity if isinstance(found, Finding) else None) is severity


def by_hand(p: Tensor, y: Tensor) -> Tensor:
    """Binary cross entropy as people write it."""
    near = 1e-7
    one = y * torch.log(p.clamp(near, 1 - near))
    return -(one + (1 - y) * torch.log((1 - p).clamp(near, 1 - near))).mean()


def with_epsilon(p: Tensor, y: Tensor) -> Tensor:
    return -(y * torch.log(p + 1e-8) + (1 - y) * torch.log(1 - p + 1e-8)).mean()


def by_log1p(p: Tensor, y: Tensor) -> Tensor:
    p = p.squeeze(1).clamp(1e-6, 1 - 1e-6)
    return -(y.squeeze(1) * p.log() + (1 - y.squeeze(1)) * torch.log1p(-p)).mean()


def gamma(p: Tensor, y: Tensor) -> Tensor:
    """Logarithms of two things, neither of which is one minus the other."""
    q = F.softplus(p)
    return (torch.log(q) + y / q + torch.log(1 + q)).mean()


@pytest.mark.parametrize("loss", [by_hand, with_epsilon, by_log1p])
@pytest.mark.parametrize("last", [nn.Tanh, nn.ReLU, nn.Identity, nn.Sigmoid])
def test_a_likelihood_of_both_answers_is_known_by_its_logarithms(
    loss: Callable[[Tensor, Tensor], Tensor], last: type[nn.Module]
) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    model = nn.Sequential(mlp(8, 16, 1), last())
    for layer in model[0][::2]:
        nn.init.normal_(layer.weight)
    seen = isograd.measure(model, (x, (x[:, :1] > 0).float()), loss)
    assert seen.facts["loss.kind"] == "bce"
    assert seen.facts["loss.chance"] == pytest.approx(0.69, abs=0.02)
    found = [f.code for f in isograd.check(model, (x, (x[:, :1] > 0).float()), loss).findings]
    assert ("IG605" in found) is (last is not nn.Sigmoid)


def poisson(p: Tensor, y: Tensor) -> Tensor:
    """A logarithm of one answer alone."""
    return (p - y * torch.log(p + 1e-8)).mean()


@pytest.mark.parametrize("loss", [gamma, poisson])
def test_other_logarithms_are_no_likelihood_of_both_answers(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    model = nn.Sequential(mlp(8, 16, 1), nn.Softplus())
    seen = isograd.measure(model, (x, x[:, :1].abs()), loss)
    assert seen.facts["loss.kind"] == "other"


def test_a_network_that_learns_after_it_was_thrown_is_looked_at() -> None:
    x, y = data.digits(1024)
    batches = list(zip(x.split(64), y.split(64), strict=True))

    def verdict(rate: float) -> isograd.Repair:
        torch.manual_seed(0)
        model = mlp(64, 256, 256, 256, 256, 256, 10)
        make = functools.partial(torch.optim.RMSprop, lr=rate)
        return isograd.repair(model, batches[0], optimizer=make, data=batches, budget=150)

    ill = verdict(0.01)
    assert ill.before.findings[0].code == "IG304", str(ill)
    assert ill.verdict == "repaired", str(ill)
    assert verdict(0.001).verdict == "healthy"
