"""Optimizers and losses: what they compute, step by step, against torch's own ways."""

import copy
import functools
import pickle
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


def found(case: Case, cause: str) -> Case:
    """The case with one finding."""
    finding = Finding("IG000", Severity.ERROR, cause, "Something is wrong: 1.")
    diagnosis = Diagnosis((finding,), (), case.diagnosis.reading)
    return Case(case.model, case.batch, diagnosis, case.loss, case.optimizer, case.data)


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, **more: Any) -> Tensor:
    """All weights after some steps; `scheduler` and `max_norm` as in anybody's loop."""
    torch.manual_seed(7)
    for _ in range(steps):
        x, y = classes(16)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        if "max_norm" in more:
            nn.utils.clip_grad_norm_(model.parameters(), more["max_norm"])
        optimizer.step()
        if "scheduler" in more:
            more["scheduler"].step()
    return nn.utils.parameters_to_vector(model.parameters()).detach()


SGD = functools.partial(torch.optim.SGD, lr=0.03, momentum=0.9)


def plan_of(code: str, case: Case, **settings: Any) -> Plan:
    remedy = next(v for v in REMEDIES[code].variants())
    plan = type(remedy)(**settings).plan(case)
    assert isinstance(plan, Plan), plan
    return plan


def test_a_warm_up_is_torchs() -> None:
    model = plain(2, gain=1.0)
    case = found(case_of(model, classes(), optimizer=SGD), "lr-too-high")
    plan = plan_of("optimizer-warmup", case, steps=6)
    twin, third = copy.deepcopy(model), copy.deepcopy(model)
    names: dict[str, Any] = {"torch": torch, "optimizer": SGD(twin.parameters())}
    exec(plan.training, names)
    assert plan.optimizer is not None
    mine = trained(model, pickle.loads(pickle.dumps(plan.optimizer))(model.parameters()), 9)
    theirs = trained(twin, names["optimizer"], 9)  # the code runs as it stands
    assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    by_hand = SGD(third.parameters())
    rise = torch.optim.lr_scheduler.LinearLR(by_hand, start_factor=1 / 6, total_iters=5)
    expected = trained(third, by_hand, 9, scheduler=rise)
    assert torch.allclose(mine, expected, rtol=1e-5, atol=1e-6)


def test_clipping_is_torchs() -> None:
    model = plain(3, gain=4.0)
    make = functools.partial(torch.optim.SGD, lr=0.01)
    plan = plan_of("optimizer-clip", case_of(model, classes(), optimizer=make))
    twin, third = copy.deepcopy(model), copy.deepcopy(model)
    assert plan.optimizer is not None
    mine = trained(model, pickle.loads(pickle.dumps(plan.optimizer))(model.parameters()), 5)
    theirs = trained(twin, make(twin.parameters()), 5, max_norm=1.0)
    assert torch.equal(mine, theirs)
    names: dict[str, Any] = {"torch": torch, "optimizer": make(third.parameters())}
    exec(plan.training, names)  # the code runs as it stands
    assert torch.equal(mine, trained(third, names["optimizer"], 5))
    assert not torch.equal(mine, trained(plain(3, gain=4.0), make(twin.parameters()), 5))


def test_where_clipping_cannot_help() -> None:
    for gain, why in ((900.0, "explodes on its way forward"), (1.0, "has norm .* does nothing")):
        make = functools.partial(torch.optim.SGD, lr=0.01)
        with pytest.raises(RemedyError, match=why):
            remedies.apply("optimizer-clip", plain(3, gain=gain), classes(), optimizer=make)
    with pytest.raises(RemedyError, match="optimizer is adaptive"):
        remedies.apply("optimizer-clip", plain(3, gain=4.0), classes(), optimizer=torch.optim.Adam)


def test_a_changed_rate_keeps_the_users_groups() -> None:
    model = plain(2, gain=1.0)
    weights = list(model.parameters())
    groups = [{"params": weights[:2], "lr": 30.0}, {"params": weights[2:]}]
    own = torch.optim.SGD(groups, lr=9.0, momentum=0.5)
    change = remedies.apply("optimizer-lr", model, classes(), optimizer=own)
    assert change.optimizer is not None
    made = change.optimizer(copy.deepcopy(model).parameters())
    first, second = (g["lr"] for g in made.param_groups)
    assert first / second == pytest.approx(30 / 9)
    assert [len(g["params"]) for g in made.param_groups] == [2, 4]
    assert own.param_groups[0]["lr"] == 30.0
    exec(change.code, {"optimizer": own})
    assert own.param_groups[0]["lr"] == pytest.approx(first, rel=1e-5)


def test_the_rate_follows_the_finding() -> None:
    def case(lr: float) -> Case:
        make = functools.partial(torch.optim.SGD, lr=lr)
        return case_of(plain(2, gain=1.0), classes(), optimizer=make)

    low = plan_of("optimizer-lr", found(case(1e-7), "lr-too-low"))
    assert low.optimizer is not None
    raised = low.optimizer(plain(2).parameters()).param_groups[0]["lr"]
    assert 1e-3 < raised < 1
    assert f"lr={raised:.6g}" in low.training
    refused = REMEDIES["optimizer-lr"].plan(found(case(1e-7), "init-constant"))
    assert isinstance(refused, str)
    assert "which no finding asks for" in refused


def test_rmsprop_gets_the_rate_of_its_later_steps() -> None:
    # Both move every weight by the rate where gradients keep their size; RMSprop's first step is
    # ten times that, for its average starts at zero.
    def rate(make: type[torch.optim.Optimizer]) -> float:
        case = case_of(plain(2, gain=1.0), classes(), optimizer=functools.partial(make, lr=1.0))
        plan = plan_of("optimizer-lr", found(case, "lr-too-high"))
        assert plan.optimizer is not None
        return float(plan.optimizer(plain(2).parameters()).param_groups[0]["lr"])

    assert rate(torch.optim.RMSprop) == pytest.approx(rate(torch.optim.Adam), rel=0.1)


def test_adam_where_the_signal_is_alive_alone() -> None:
    make = functools.partial(torch.optim.SGD, lr=0.1, weight_decay=0.02)
    change = remedies.apply("optimizer-adam", plain(4, nn.Sigmoid), classes(), optimizer=make)
    assert "Adam(model.parameters(), lr=0.001, weight_decay=0.02)" in change.code
    torch.manual_seed(0)
    dim = plain(6, nn.Sigmoid)  # differs by 1e-5 of its size, a hundred times what float32 resolves
    assert remedies.apply("optimizer-adam", dim, classes(), optimizer=make).optimizer is not None
    with pytest.raises(RemedyError, match="lost on its way forward"):
        remedies.apply("optimizer-adam", plain(12, nn.Sigmoid), classes(), optimizer=make)
    with pytest.raises(RemedyError, match="needs the optimizer"):
        remedies.apply("optimizer-adam", plain(4, nn.Sigmoid), classes())


def test_odd_settings_become_usual_ones() -> None:
    model = plain(2)
    own = torch.optim.Adam(model.parameters(), lr=3e-3, betas=(0.9, 0.5), eps=1e-2)
    change = remedies.apply("optimizer-defaults", model, classes(), optimizer=own)
    assert change.code.endswith("torch.optim.Adam(model.parameters(), lr=0.003)")


@pytest.mark.parametrize(("kind", "decay"), [("SGD", ", weight_decay=0.0005"), ("AdamW", "")])
def test_a_weight_decay_that_eats_the_weights(kind: str, decay: str) -> None:
    model = plain(2)
    own = getattr(torch.optim, kind)(model.parameters(), lr=0.3, weight_decay=0.5)
    change = remedies.apply("optimizer-defaults", model, classes(), optimizer=own)
    assert change.code.endswith(f"lr=0.3{decay})")  # AdamW's own default is left out


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (functools.partial(torch.optim.SGD, lr=0.1, weight_decay=1.0), "SGD({}lr=0.1, {}0.01)"),
        (
            functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1.0),
            "SGD({}lr=0.1, momentum=0.9, {}0.001)",
        ),
        (functools.partial(torch.optim.AdamW, lr=0.05, weight_decay=2.0), "AdamW({}lr=0.05)"),
        (functools.partial(torch.optim.Adam, lr=0.005, weight_decay=200.0), "AdamW({}lr=0.005)"),
    ],
)
def test_a_decay_that_the_rule_reports_is_the_one_it_names(make: Any, line: str) -> None:
    model, batch = plain(2), classes()
    diagnosis = isograd.check(model, batch, F.cross_entropy, optimizer=make)
    assert [f.code for f in diagnosis.findings] == ["IG306"]
    named = diagnosis.findings[0].evidence["settings"]
    case = Case(model, batch, diagnosis, F.cross_entropy, make)
    plan = plan_of("optimizer-defaults", case)
    assert plan.training.endswith(line.format("model.parameters(), ", "weight_decay="))
    assert plan.optimizer is not None
    made = plan.optimizer(model.parameters())
    assert made.param_groups[0]["weight_decay"] == named["weight_decay"]
    again = isograd.check(model, batch, F.cross_entropy, optimizer=plan.optimizer)
    assert "IG306" not in [f.code for f in again.findings]


def test_weights_of_zero_have_no_first_step_to_go_by() -> None:
    model = plain(2)
    for p in model.parameters():
        nn.init.zeros_(p)
    with pytest.raises(RemedyError, match="no weight moves at the first step and has a size"):
        remedies.apply("optimizer-lr", model, classes(), optimizer=SGD(model.parameters()))


def test_a_divergence_gets_logarithms() -> None:
    model = nn.Sequential(*plain(2, out=5), nn.Softmax(1))
    x = torch.randn(40, 20)
    shares = torch.randn(40, 5).softmax(1)
    loss = functools.partial(F.kl_div, reduction="batchmean")
    before = model(x)
    change = remedies.apply("loss-logits", model, (x, shares), loss)
    torch.testing.assert_close(change.model(x).exp(), before)
    assert change.loss is None


def test_an_optimizer_is_given_the_rest() -> None:
    model = plain(2)
    own = torch.optim.SGD(model[-1].parameters(), lr=0.3)
    change = remedies.apply("optimizer-coverage", model, classes(), optimizer=own)
    exec(change.code, {"model": model, "optimizer": own})
    held = {id(p) for g in own.param_groups for p in g["params"]}
    assert held == {id(p) for p in model.parameters()}
    assert change.optimizer is not None
    assert len(change.optimizer(model.parameters()).param_groups[0]["params"]) == 6


def test_frozen_parameters_are_thawed_where_they_do_harm() -> None:
    model = plain(2)
    model[0].weight.requires_grad_(False)  # type: ignore[union-attr, operator]
    make = functools.partial(torch.optim.SGD, lr=0.1)
    case = case_of(model, classes(), optimizer=make)
    assert isinstance(REMEDIES["optimizer-coverage"].plan(case), str)
    change = plan_of("optimizer-coverage", found(case, "frozen-parameters")).apply(model)
    assert model[0].weight.requires_grad  # type: ignore[union-attr]
    change.undo()
    assert not model[0].weight.requires_grad  # type: ignore[union-attr]


def test_a_softmax_before_cross_entropy_goes() -> None:
    model, (x, y) = nn.Sequential(*plain(2), nn.Softmax(1)), classes()
    logits = torch.log(model(x)).detach()
    remedies.apply("loss-softmax", model, (x, y), F.cross_entropy)
    assert float(F.cross_entropy(model(x), y).detach()) == pytest.approx(
        float(F.nll_loss(logits, y)), rel=1e-5
    )


@pytest.mark.parametrize(
    ("loss", "own"),
    [(F.cross_entropy, "softmax"), (F.binary_cross_entropy_with_logits, "sigmoid")],
)
def test_what_makes_probabilities_of_logits_is_what_the_loss_applies(loss: Any, own: str) -> None:
    model, (x, y) = nn.Sequential(*plain(2), nn.Sigmoid()), classes()
    many = model(x).shape[1]
    targets = y if own == "softmax" else F.one_hot(y, many).float()
    plan = plan_of("loss-softmax", found(case_of(model, (x, targets), loss), "loss-mismatch"))
    assert f"apply {own} to them" in " ".join(plan.notes)


def test_a_softmax_over_one_unit_becomes_a_sigmoid() -> None:
    model, x = nn.Sequential(*plain(2, out=1), nn.Softmax(1)), torch.randn(30, 20)
    y = (x[:, :1] > 0).float()
    remedies.apply("loss-softmax", model, (x, y), F.mse_loss)
    assert isinstance(model[-1], nn.Sigmoid)


def test_logits_have_the_same_likelihood() -> None:
    torch.manual_seed(1)
    x = torch.randn(30, 20)
    y = (x[:, :1] > 0).float()
    model = nn.Sequential(*plain(2, gain=1.0, out=1), nn.Sigmoid())
    before = float(F.binary_cross_entropy(model(x).detach(), y))
    case = found(case_of(model, (x, y), F.binary_cross_entropy), "loss-mismatch")
    change = plan_of("loss-logits", case).apply(model)
    assert change.loss is F.binary_cross_entropy_with_logits
    assert float(change.loss(model(x), y).detach()) == pytest.approx(before, rel=1e-4)
    classified = nn.Sequential(*plain(2), nn.Softmax(1))
    given, labels = classes()
    change = remedies.apply(
        "loss-logits",
        classified,
        (given, labels),
        lambda out, t: F.mse_loss(out, F.one_hot(t, 7).float()),
    )
    assert change.loss is F.cross_entropy


@pytest.mark.parametrize("ordinal", [False, True])
def test_squared_errors_of_classes_behind_sigmoids_become_a_cross_entropy(ordinal: bool) -> None:
    def squared(out: Tensor, labels: Tensor) -> Tensor:
        columns = F.one_hot(labels, 7).float()
        if ordinal:  # a class and all below: columns of their own
            columns = columns.flip(1).cumsum(1).flip(1)
        return F.mse_loss(out, columns)

    model = nn.Sequential(*plain(2), nn.Sigmoid())
    if ordinal:
        with pytest.raises(RemedyError, match="sigmoid with targets that are class"):
            remedies.apply("loss-logits", model, classes(), squared)
        return
    change = remedies.apply("loss-logits", model, classes(), squared)
    assert change.loss is F.cross_entropy
    assert isinstance(change.model[-1], nn.Identity)  # type: ignore[index]
    assert "apply softmax" in change.plan.notes[0]


def test_targets_are_compared_one_to_one() -> None:
    def squared(out: Tensor, targets: Tensor) -> Tensor:
        return (out - targets).square().mean()

    x = torch.randn(30, 20)
    model = plain(2, out=1)
    change = remedies.apply("loss-broadcast", model, (x, x[:, 0]), squared)
    assert change.loss is not None
    assert torch.equal(change.loss(model(x), x[:, 0]), F.mse_loss(model(x), x[:, :1]))
    assert change.model is model
    with pytest.raises(RemedyError, match="the loss itself takes an axis away"):
        remedies.apply("loss-broadcast", model, (x, x[:, :1]), lambda o, y: squared(o, y[:, 0]))


def test_group_norms_need_no_batch() -> None:
    norm = nn.BatchNorm2d(12, momentum=0.001)
    model = nn.Sequential(nn.Conv2d(3, 12, 3), norm, nn.Flatten(), nn.Linear(48, 5))
    batch = torch.randn(9, 3, 4, 4), torch.randint(5, (9,))
    change = remedies.apply("normalization-statistics", model, batch, by="group")
    one = model(batch[0][:1])
    assert torch.allclose(one, model(batch[0])[:1], atol=1e-6)
    change.undo()
    assert isinstance(model[1], nn.BatchNorm2d)
    assert model[1].momentum == 0.001


def test_weights_in_half_precision_get_their_digits_back() -> None:
    x, y = classes()
    model = plain(2, gain=1.0).half()
    before = [p.detach().clone() for p in model.parameters()]
    change = remedies.apply("optimizer-precision", model, (x.half(), y))
    assert all(p.dtype == torch.float32 for p in change.model.parameters())
    out = change.model(x.half())
    assert out.dtype == torch.float32
    assert torch.allclose(out, model(x), atol=0.05)
    change.undo()
    for p, old in zip(model.parameters(), before, strict=True):
        assert p.dtype == torch.float16
        assert torch.equal(p, old)


@pytest.mark.parametrize(("rate", "becomes"), [(0.3, 0.1), (0.02, 0.02)])
def test_a_rate_is_not_left_too_high_for_the_new_momentum(rate: float, becomes: float) -> None:
    model = plain(2)
    own = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.999)
    change = remedies.apply("optimizer-defaults", model, classes(), optimizer=own)
    assert change.optimizer is not None
    group = change.optimizer(model.parameters()).param_groups[0]
    assert (group["momentum"], group["lr"]) == (0.9, pytest.approx(becomes))
