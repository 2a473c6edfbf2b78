"""Scores: what a network knows of the targets, whatever the scale of its outputs."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from isograd.repairs.scoring import beside_line, calibrated, judge, unexplained
from isograd.repairs.supply import gather


def logits(samples: int = 200, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(classes, (samples,))
    return 1.5 * F.one_hot(labels, classes) + torch.randn(samples, classes), labels


def test_the_best_temperature_is_that_of_a_search() -> None:
    x, y = logits()
    best = min(float(F.cross_entropy(x.double() * t, y)) for t in torch.logspace(-3, 3, 2000))
    assert calibrated(x, y) == pytest.approx(best, rel=0.002)
    assert calibrated(x, y) >= best - 1e-6


def test_targets_that_are_shares_are_judged_by_the_divergence() -> None:
    x, _ = logits()
    shares = x.softmax(1)
    supply = gather([(x, shares)] * 5, (x, shares), 4)
    options = {"new_loss": True, "scale": False, "training": True, "seed": 0}
    for last in (nn.Identity(), nn.Softmax(1), nn.LogSoftmax(1)):  # the right answer in all forms
        score = judge(last, supply, None, **options)
        assert score.measure == "classes"
        assert score(last) == pytest.approx(0, abs=1e-6)
    blind = nn.Sequential(nn.Linear(5, 5, bias=False))
    nn.init.zeros_(blind[0].weight)
    level = shares.log_softmax(1) * 0 + math.log(0.2)
    expected = float(F.kl_div(level, shares, reduction="batchmean"))
    assert judge(blind, supply, None, **options)(blind) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "measure"),
    [
        ({}, "classes"),
        ({"scale": True}, "classes"),
        ({"own": True}, "loss"),  # an embedding is no logits, though it comes with labels
        ({"own": True, "new_loss": True}, "classes"),
    ],
)
def test_what_labels_are_judged_by(options: dict[str, object], measure: str) -> None:
    x, y = logits()
    usual = {"new_loss": False, "scale": False, "training": True, "seed": 0}
    supply = gather([(x, y)] * 5, (x, y), 4)
    assert judge(nn.Identity(), supply, F.cross_entropy, **usual | options).measure == measure


@pytest.mark.parametrize("scale", [2.0**-6, 2.0**6])
def test_a_scale_of_the_outputs_does_not_count(scale: float) -> None:
    x, y = logits()
    assert calibrated(x * scale, y) == pytest.approx(calibrated(x, y), rel=1e-6)


def test_no_network_is_worse_than_chance_and_no_number_is_worst() -> None:
    x, y = logits()
    assert calibrated(-x, y) <= math.log(5) + 1e-3
    assert calibrated(-1e6 * x, y) <= math.log(5)  # however large the outputs
    assert calibrated(x * float("nan"), y) == math.inf


def test_variance_that_is_left() -> None:
    torch.manual_seed(0)
    y = torch.randn(500)
    assert unexplained(y[:, None], y) == pytest.approx(0, abs=1e-9)
    assert unexplained(torch.full((500, 1), float(y.mean())), y) == pytest.approx(1, rel=1e-5)
    binary = (y > 0).float()
    assert unexplained(100 * (binary - 0.5), binary) == pytest.approx(0, abs=1e-6)


def test_the_best_line_is_that_of_least_squares() -> None:
    torch.manual_seed(0)
    y = torch.randn(300, 2, dtype=torch.float64) * torch.tensor([1.0, 3.0])
    x = y + torch.randn(300, 2, dtype=torch.float64)
    left = 0.0
    for column in range(2):
        design = torch.stack([x[:, column], torch.ones(300, dtype=torch.float64)], 1)
        target = y[:, column : column + 1]
        line = design @ torch.linalg.lstsq(design, target).solution
        left += float((line - target).square().sum())
    total = float((y - y.mean(0)).square().sum())
    assert beside_line(x, y) == pytest.approx(left / total, rel=1e-9)
    assert beside_line(1000 * x - 7, y) == pytest.approx(left / total, rel=1e-9)
    assert beside_line(torch.full_like(x, 5.0), y) == 1
    assert beside_line(x * math.inf, y) == math.inf


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.drop = nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.norm(self.layer(x)))


@pytest.mark.parametrize("training", [True, False])
def test_a_judge_leaves_no_trace_and_says_the_same_again(training: bool) -> None:
    torch.manual_seed(0)
    model = Noisy()
    batch = torch.randn(32, 4), torch.randint(3, (32,))
    supply = gather(None, batch, steps=1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    score = judge(
        model, supply, F.cross_entropy, new_loss=False, scale=True, training=training, seed=0
    )
    state = torch.get_rng_state()
    assert score.measure == "classes"
    assert score(model) == score(model)
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("targets", "loss", "new_loss", "scale", "measure"),
    [
        (torch.randn(32, 3), F.mse_loss, False, True, "loss"),
        (torch.randn(32, 3), F.mse_loss, False, False, "line"),
        (torch.ones(32, 3), F.mse_loss, False, False, "loss"),
        (torch.randn(32, 3), F.mse_loss, True, True, "variance"),
        (torch.arange(96).view(32, 3), F.mse_loss, True, True, "variance"),
        (torch.randint(3, (32,)), F.cross_entropy, True, True, "classes"),
        (torch.randint(3, (32, 1)), lambda out, y: out.mean(), True, False, "loss"),
    ],
)
def test_the_measure_fits_the_targets(
    targets: torch.Tensor, loss: object, new_loss: bool, scale: bool, measure: str
) -> None:
    model, x = nn.Linear(4, 3), torch.randn(32, 4)
    supply = gather(None, (x, targets), steps=1)
    score = judge(model, supply, loss, new_loss=new_loss, scale=scale, training=True, seed=0)
    assert score.measure == measure
    assert math.isfinite(score(model))
    if measure == "loss" and not new_loss:
        assert score(model) == pytest.approx(F.mse_loss(model(x), targets).item(), rel=1e-6)


def test_what_is_only_off_in_scale_is_told() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(4, 1), torch.randn(64, 4)
    targets = 30 + 5 * model(x).detach() + torch.randn(64, 1)
    supply = gather(None, (x, targets), steps=1)
    score = judge(model, supply, F.mse_loss, new_loss=False, scale=True, training=True, seed=0)
    found = score.off_scale(model)
    assert found is not None
    left, line = found
    assert left == pytest.approx(unexplained(model(x), targets))
    assert left > 50
    rows = torch.cat([model(x).detach(), torch.ones(64, 1)], 1).double()
    rest = targets - rows @ torch.linalg.lstsq(rows, targets.double()).solution
    assert line == pytest.approx(float(rest.square().mean() / targets.var(correction=0)))
    labels = gather(None, (x, torch.randint(3, (64,))), steps=1)
    classes = judge(
        nn.Linear(4, 3), labels, None, new_loss=False, scale=True, training=True, seed=0
    )
    assert classes.off_scale(nn.Linear(4, 3)) is None


@pytest.mark.parametrize(("noise", "measure"), [(0.1, "loss"), (3.0, "line")])
def test_where_a_line_is_all_there_is_to_learn_scale_and_offset_count(
    noise: float, measure: str
) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(1, 1), torch.randn(64, 1)
    targets = 2 * x - 1 + noise * torch.randn(64, 1)
    supply = gather(None, (x, targets), steps=1)
    score = judge(model, supply, F.mse_loss, new_loss=False, scale=False, training=True, seed=0)
    assert score.measure == measure
    assert float(torch.corrcoef(torch.cat([x, targets], 1).T)[0, 1] ** 2) == pytest.approx(
        1 - beside_line(model(x), targets), rel=1e-5
    )


def test_labels_of_which_the_loss_takes_a_part_are_judged_by_it() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(8, 6, 5), torch.randint(5, (8, 7))  # the first label has no output
    supply = gather([(x, y)] * 5, (x, y), 4)

    def loss(out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(out.flatten(0, 1), labels[:, 1:].flatten())

    options = {"new_loss": False, "scale": False, "training": True, "seed": 0}
    score = judge(nn.Identity(), supply, loss, **options)
    assert score.measure == "loss"
    assert score(nn.Identity()) == pytest.approx(float(loss(x, y)), rel=1e-6)


def test_one_output_tells_of_class_numbers_what_its_correlation_can() -> None:
    torch.manual_seed(0)
    y = torch.randint(4, (4000, 1)).float()
    supply = gather([(y, y)] * 5, (y, y), 4)
    options = {"new_loss": True, "scale": False, "training": True, "seed": 0, "labels": True}
    score = judge(nn.Identity(), supply, None, **options)

    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 5.0 * torch.randn_like(x)

    class Logits(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 9.0 * F.one_hot(x.flatten().long(), 4).float()

    # ln 4, and of a Gaussian channel of signal 1.25 in noise 25 its capacity.
    expected = math.log(4) - math.log(1 + 1.25 / 25) / 2
    assert score(Noisy()) == pytest.approx(expected, abs=0.01)
    assert score(Logits()) == pytest.approx(0, abs=1e-3)


class Pooled(nn.Module):
    """Samples that change one another's outputs without a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x - x.mean(0))
        return out


@pytest.mark.parametrize(
    ("model", "training", "as_one"),
    [
        (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), True, True),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), True, False),
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), False, True),
        (nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)), True, False),
        (Pooled(), True, False),
    ],
)
def test_batches_are_judged_as_one_where_that_says_the_same(
    model: nn.Module, training: bool, as_one: bool
) -> None:
    torch.manual_seed(0)
    batches = [(torch.randn(16, 4), torch.randint(3, (16,))) for _ in range(30)]
    supply = gather(batches, batches[0], 20)
    score = judge(
        model, supply, F.cross_entropy, new_loss=False, scale=True, training=training, seed=0
    )
    assert len(supply.held) > 1
    assert (score.whole is not None) is as_one
    apart = replace(score, whole=None)
    assert score(model) == pytest.approx(apart(model), rel=1e-6)
    # A candidate may have got batch norms, whose samples belong to their batch.
    normed = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))
    assert score(normed) == apart(normed)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_outputs_that_are_not_finite_are_judged_without_an_error(bad: float) -> None:
    class Divided(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.where(x.sum(1, keepdim=True) > 0, bad, 0.0)

    x, y = logits()
    supply = gather(
        [(x[k : k + 20], y[k : k + 20]) for k in range(0, 200, 20)], (x[:20], y[:20]), 6
    )
    assert len(supply.held) > 1  # which are tried as one
    options = {"new_loss": False, "scale": False, "training": True, "seed": 0}
    assert judge(Divided(), supply, None, **options)(Divided()) == math.inf
