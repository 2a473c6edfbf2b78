"""What a loss can be at the least, and what is known of one that a factor makes small."""

import pytest
import torch
from torch import Tensor

import isograd
from isograd.findings import Finding, Severity
from isograd.rules._profile import learnt
from isograd.rules.initial_loss import InitialLoss, _loss
from isograd.sites.chance import chance, least_loss, shrunk, uninformed


@pytest.mark.parametrize("classes", [2, 5, 1000])
def test_the_least_loss_is_that_of_the_clearest_answer(classes: int) -> None:
    logits = torch.full((3, classes), -0.7, dtype=torch.double)
    logits[:, 1] = 1.1
    least = float(torch.nn.functional.cross_entropy(logits, torch.ones(3, dtype=torch.long)))
    facts = {"output.min": -0.7, "output.max": 1.1, "target.classes": classes}
    seen = _loss(1.0, kind="cross_entropy", chance=2.0, **facts).seen
    assert least_loss(seen) == pytest.approx(least, rel=1e-7)


@pytest.mark.parametrize("factor", [1.0, 1e-6])
def test_the_least_square_is_that_of_outputs_along_the_targets(factor: float) -> None:
    torch.manual_seed(0)
    targets = torch.randn(500, 1) * 3 + 2
    along = (targets - targets.mean()) / targets.std(correction=0)
    model = torch.nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(0.4)
        model.bias.fill_(-1.0)

    def loss(outputs: Tensor, wanted: Tensor) -> Tensor:
        return factor * torch.nn.functional.mse_loss(outputs, wanted)

    seen = isograd.measure(model, (along, targets), loss)  # of all such outputs the best
    square = float((model(along) - targets).detach().square().mean())
    assert least_loss(seen) == pytest.approx(square, rel=1e-5)
    assert shrunk(seen) is (factor < 1)
    variance = float(targets.var(correction=0))
    assert uninformed(seen) == (pytest.approx(variance, rel=1e-5) if factor == 1 else None)


def test_targets_that_the_loss_scales_itself_are_no_factor() -> None:
    torch.manual_seed(0)
    x = torch.randn(128, 20)
    targets = 900 * x[:, :1] + 4000
    model = torch.nn.Sequential(torch.nn.Linear(20, 50), torch.nn.ReLU(), torch.nn.Linear(50, 1))

    def loss(outputs: Tensor, wanted: Tensor) -> Tensor:
        return (outputs - (wanted - 4000) / 900).square().mean()

    seen = isograd.measure(model, (x, targets), loss)
    assert least_loss(seen) is None
    assert not shrunk(seen)
    assert isograd.diagnose(seen).healthy


def test_the_least_binary_loss_has_every_answer_at_its_end() -> None:
    targets = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0], dtype=torch.double)
    out = 1.1 * targets - 0.3
    least = float(torch.nn.functional.binary_cross_entropy_with_logits(out, targets))
    facts = {"output.min": -0.3, "output.max": 0.8, "target.mean": 0.6}
    seen = _loss(1.0, kind="bce_logits", chance=0.7, **facts).seen
    assert least_loss(seen) == pytest.approx(least, rel=1e-7)


@pytest.mark.parametrize(
    ("value", "ends", "why"),
    [
        (2.3e-6, 0.5, "loss-mismatch"),
        (2.3e-6, 20.0, "data-bug"),  # so clear an answer is right
        (0.5, 0.5, "data-bug"),  # a quarter, as of gradients that are added up
    ],
)
def test_a_loss_that_its_outputs_cannot_have_is_made_small(
    value: float, ends: float, why: str
) -> None:
    facts = {"output.min": -ends, "output.max": ends, "target.classes": 10, "batch.size": 64}
    reading = _loss(value, kind="cross_entropy", chance=2.303, **facts)
    finding = InitialLoss().judge(reading)
    assert isinstance(finding, Finding)
    assert finding.cause == why
    assert finding.severity is Severity.INFO
    assert learnt(reading.seen) is (why == "data-bug")


def test_what_a_constant_answer_has_is_of_as_many_terms_as_the_loss() -> None:
    facts = {"batch.size": 64, "loss.summed": True, "target.entropy": 2.0}
    seen = _loss(150.0, kind="cross_entropy", chance=2.303, **facts).seen
    assert chance(seen) == pytest.approx(64 * 2.303)
    assert uninformed(seen) == 128.0  # labels that are not equally frequent
