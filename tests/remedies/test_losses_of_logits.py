"""Losses of outputs that the forward has squashed, or has not: against the loss of the logits."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import isograd
from isograd import remedies
from isograd.errors import RemedyError
from isograd.findings import Diagnosis, Finding, Severity
from isograd.remedies import REMEDIES, Case, Plan, case_of
from isograd.remedies._examples import classes, plain
from patients import data


def paired(model: nn.Module, loss: Any) -> Case:
    """The case with the finding that the loss does not fit."""
    case = case_of(model, classes(), loss)
    finding = Finding("IG605", Severity.ERROR, "loss-mismatch", "They do not fit: 1.")
    return Case(model, case.batch, Diagnosis((finding,), (), case.diagnosis.reading), loss)


class Squashed(nn.Module):
    """A network whose forward ends with a function."""

    def __init__(self, last: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.last = plain(2), last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x))


def over_classes(x: Tensor) -> Tensor:
    return F.softmax(x, 1)


WEIGHT = torch.arange(1.0, 8.0)


@pytest.mark.parametrize(
    "loss",
    [
        F.cross_entropy,
        nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1),
        functools.partial(F.cross_entropy, reduction="sum"),
    ],
)
@pytest.mark.parametrize("last", [over_classes, torch.sigmoid])
def test_what_the_forward_squashes_the_loss_takes_back(loss: Any, last: Any) -> None:
    model, (x, y) = Squashed(last), classes()
    change = remedies.apply("loss-softmax", model, (x, y), loss)
    assert change.model is model
    assert change.loss is not None
    torch.testing.assert_close(
        change.loss(model(x), y), loss(model.body(x), y), rtol=1e-4, atol=1e-5
    )
    names: dict[str, Any] = {"loss": loss}
    exec(change.code, names)  # runs as it stands
    assert torch.equal(names["loss"](model(x), y), change.loss(model(x), y))
    # A softmax that is 0 in single precision does not end in an infinite loss.
    assert bool(torch.isfinite(change.loss(F.one_hot(y, 7).float().flip(1), y)))


def test_a_sigmoid_in_the_forward_is_taken_back_before_its_likelihood() -> None:
    model, (x, y) = Squashed(torch.sigmoid), classes()
    wanted = F.one_hot(y, 7).float()
    loss = nn.BCEWithLogitsLoss()
    change = remedies.apply("loss-softmax", model, (x, wanted), loss)
    assert change.loss is not None
    torch.testing.assert_close(change.loss(model(x), wanted), loss(model.body(x), wanted))


def test_what_is_not_known_to_be_the_inverse_is_left_to_the_user() -> None:
    batch = classes()
    why = r"return the logits in the forward, or give cross_entropy outputs.log\(\) in the loss"
    with pytest.raises(RemedyError, match=why):
        remedies.apply(
            "loss-softmax", Squashed(over_classes), batch, lambda o, t: F.cross_entropy(o, t)
        )
    doubled = Squashed(lambda x: 2 * F.softmax(x, 1))
    for model in (doubled, plain(2)):
        with pytest.raises(RemedyError, match="loss-softmax: not applied"):
            remedies.apply(
                "loss-softmax",
                model,
                batch,
                F.cross_entropy
                if model is doubled
                else lambda o, t: F.cross_entropy(F.softmax(o, 1), t),
            )
    with pytest.raises(RemedyError, match="runs over axis 0"):
        remedies.apply("loss-softmax", Squashed(lambda x: F.softmax(x, 0)), batch, F.cross_entropy)


@pytest.mark.parametrize(
    ("last", "loss", "twin"),
    [
        (nn.Identity(), F.nll_loss, F.cross_entropy),
        (nn.Identity(), nn.NLLLoss(), F.cross_entropy),
        (
            nn.Identity(),
            nn.NLLLoss(weight=WEIGHT, reduction="sum", ignore_index=3),
            nn.CrossEntropyLoss(weight=WEIGHT, reduction="sum", ignore_index=3),
        ),
        (
            nn.Identity(),
            functools.partial(F.nll_loss, reduction="sum"),
            functools.partial(F.cross_entropy, reduction="sum"),
        ),
        (over_classes, nn.NLLLoss(weight=WEIGHT), nn.CrossEntropyLoss(weight=WEIGHT)),
    ],
)
def test_a_likelihood_of_no_logarithms_becomes_one(last: Any, loss: Any, twin: Any) -> None:
    model, (x, y) = Squashed(last), classes()
    plan = REMEDIES["loss-logits"].plan(paired(model, loss))
    assert isinstance(plan, Plan), plan
    change = plan.apply(model)
    assert change.loss is not None
    torch.testing.assert_close(
        change.loss(model(x), y), twin(model.body(x), y), rtol=1e-4, atol=1e-5
    )
    names: dict[str, Any] = {"loss": loss}
    exec(change.code, names)
    assert torch.equal(names["loss"](model(x), y), change.loss(model(x), y))


def test_of_a_likelihood_of_ones_own_the_line_is_told() -> None:
    def own(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.nll_loss(outputs, targets)

    case = paired(plain(2), own)
    told = REMEDIES["loss-logits"].plan(case)
    assert isinstance(told, str)
    assert "give nll_loss F.log_softmax(outputs, 1) in place of outputs" in told
    right = paired(Squashed(nn.LogSoftmax(1)), F.nll_loss)
    assert isinstance(REMEDIES["loss-logits"].plan(right), str)


@pytest.mark.parametrize("probabilities", [True, False])
def test_class_numbers_in_a_binary_cross_entropy_get_an_output_each(probabilities: bool) -> None:
    x, y = data.digits(640)
    batches = [(a, b.float()[:, None]) for a, b in zip(x.split(64), y.split(64), strict=True)]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    model.append(nn.Sigmoid() if probabilities else nn.Identity())

    def binary(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        p = outputs.clamp(1e-6, 1 - 1e-6) if probabilities else outputs.sigmoid()
        return -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()

    loss = binary if probabilities else F.binary_cross_entropy_with_logits
    adam = functools.partial(torch.optim.Adam, lr=3e-3)
    done = isograd.repair(model, batches[0], loss, optimizer=adam, data=batches)
    assert done.verdict == "repaired", str(done)
    assert done.remedies[0] == "loss-classes"
    assert done.measure == "cross entropy of the labels"
    logits = done.model(x).detach()
    assert logits.shape == (640, 10)
    expected = F.cross_entropy(logits, y)
    assert float(done.loss(logits, y.float()[:, None])) == pytest.approx(float(expected), rel=1e-6)
    for _ in range(20):
        for inputs, targets in batches:
            done.optimizer.zero_grad()
            done.loss(done.model(inputs), targets).backward()
            done.optimizer.step()
    assert float((done.model(x).argmax(1) == y).float().mean()) > 0.9


def test_labels_that_are_true_together_get_a_question_each() -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 20)
    batch = x, (x @ torch.randn(20, 6) > 0).float()
    model = plain(2, out=6)
    change = remedies.apply("loss-logits", model, batch, F.cross_entropy)
    assert change.loss is F.binary_cross_entropy_with_logits
    change.undo()
    done = isograd.repair(model, batch, F.cross_entropy, data=[batch] * 8)
    assert done.remedies[:1] == ("loss-logits",), str(done)
    with pytest.raises(RemedyError, match="no labels that are true or false"):
        remedies.apply("loss-logits", model, (x, 3 * torch.rand(256, 6)), F.cross_entropy)
    with pytest.raises(RemedyError, match="return the logits first"):
        remedies.apply(
            "loss-logits", Squashed(over_classes), (x, batch[1][:, [0] * 7]), F.cross_entropy
        )


def by_hand(p: Tensor, y: Tensor) -> Tensor:
    """Binary cross entropy as people write it."""
    near = 1e-7
    one = y * torch.log(p.clamp(near, 1 - near))
    return -(one + (1 - y) * torch.log((1 - p).clamp(near, 1 - near))).mean()


@pytest.mark.parametrize("last", [nn.Tanh(), nn.ReLU(), None])
def test_logarithms_of_what_is_no_probability_get_the_logits(last: nn.Module | None) -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 20)
    batch = x, (x[:, :1] > 0).float()
    body = plain(2, out=1)
    nn.init.normal_(body[-1].weight)  # far beyond 0 to 1

    def planned(model: nn.Module) -> Plan | str:
        finding = Finding("IG605", Severity.ERROR, "loss-mismatch", "No probabilities: 1.")
        case = case_of(model, batch, by_hand)
        ill = Case(model, batch, Diagnosis((finding,), (), case.diagnosis.reading), by_hand)
        return REMEDIES["loss-logits"].plan(ill)

    logits = body(x).detach()
    model = body if last is None else nn.Sequential(*body, last)
    plan = planned(model)
    assert isinstance(plan, Plan), plan
    change = plan.apply(model, seed=0)
    assert change.loss is F.binary_cross_entropy_with_logits
    torch.testing.assert_close(change.model(x), logits)
    told = planned(Ended(body))
    assert "module of its own" in str(told)


class Ended(nn.Module):
    """A network whose forward ends with tanh."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.body(x))
