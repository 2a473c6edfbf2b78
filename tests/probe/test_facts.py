"""Facts about batch, targets, outputs, model and optimizer, worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isograd.probe.facts import norm_facts, optimizer_facts, output_facts
from isograd.probe.measuring import measure
from isograd.sites import facts as data
from isograd.sites.batches import as_batch
from isograd.sites.facts import batch_facts
from isograd.sites.parameters import model_facts

GENERATOR = torch.Generator().manual_seed(5)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR)


def target_facts(targets: Any, out: Tensor | None, kind: str) -> dict[str, Any]:
    return data.target_facts(targets, None if out is None else tuple(out.shape), kind)


def test_a_batch_of_features() -> None:
    scale = torch.tensor([1.0, 10.0, 0.1, 3.0, 0.0])
    shift = torch.tensor([0.0, 5.0, 0.2, -3.0, 7.0])
    x = normal(29, 5) * scale + shift  # the last column is constant
    facts = batch_facts(as_batch((x, None)))
    values = x.double().numpy()
    assert facts["batch.size"] == 29
    assert facts["batch.shape"] == [29, 5]
    assert facts["batch.kind"] == "float"
    assert facts["batch.mean"] == pytest.approx(values.mean())
    assert facts["batch.rms"] == pytest.approx(np.sqrt((values**2).mean()))
    assert facts["batch.std"] == pytest.approx(values.std())
    assert facts["batch.min"] == pytest.approx(values.min())
    assert facts["batch.max"] == pytest.approx(values.max())
    assert facts["batch.nonfinite"] == 0
    assert facts["batch.integer_like"] is False
    std, mean = values.std(0)[:4], values.mean(0)[:4]
    assert facts["batch.feature_std_ratio"] == pytest.approx(std.max() / std.min())
    assert facts["batch.feature_offset"] == pytest.approx(np.sqrt(((mean / std) ** 2).mean()))
    singular = np.linalg.svd(values / math.sqrt(29), compute_uv=False)
    assert facts["batch.condition"] == pytest.approx((singular[0] / singular[-1]) ** 2, rel=1e-6)


def test_directions_without_variance_do_not_count() -> None:
    x = normal(29, 4)
    doubled = torch.cat([x, x[:, :1] * 2], 1)  # one direction of zero
    facts = batch_facts(as_batch(doubled))
    singular = np.linalg.svd(doubled.double().numpy(), compute_uv=False)
    assert facts["batch.condition"] == pytest.approx((singular[0] / singular[3]) ** 2, rel=1e-4)


@pytest.mark.parametrize("shape", [(4, 5), (29, 1), (1, 5), (29, 5, 3), (29,)])
def test_where_there_is_no_condition_number(shape: tuple[int, ...]) -> None:
    assert "batch.condition" not in batch_facts(as_batch(normal(*shape)))


def test_a_batch_of_images() -> None:
    x = torch.randint(256, (7, 3, 5, 11), generator=GENERATOR).float()
    x[:, 1] /= 51
    x[:, 1] = x[:, 1].round()
    facts = batch_facts(as_batch(x))
    assert facts["batch.integer_like"] is True
    channels = x.double().transpose(0, 1).flatten(1).numpy()
    mean, std = channels.mean(1), channels.std(1)
    assert facts["batch.feature_std_ratio"] == pytest.approx(std.max() / std.min())
    assert facts["batch.feature_offset"] == pytest.approx(np.sqrt(((mean / std) ** 2).mean()))
    assert "batch.condition" not in facts


def test_a_constant_batch_has_no_features() -> None:
    facts = batch_facts(as_batch(torch.full((5, 3), 2.0)))
    assert facts["batch.std"] == 0
    assert facts["batch.integer_like"] is True
    assert "batch.feature_std_ratio" not in facts


def test_a_batch_of_ids() -> None:
    ids = torch.arange(6).reshape(2, 3)
    assert batch_facts(as_batch({"ids": ids, "labels": ids})) == {
        "batch.size": 2,
        "batch.shape": [2, 3],
        "batch.kind": "ids",
    }
    mixed = batch_facts(as_batch(((ids, normal(2, 7)), None)))
    assert mixed["batch.shape"] == [2, 7]  # the first floating-point input
    assert mixed["batch.kind"] == "float"
    assert batch_facts(as_batch({"labels": ids})) == {"batch.size": 1}


LABELS = torch.tensor([0, 2, 2, 1, 2, 0, -100])
BITS = torch.tensor([0.0, 1.0, 1.0, 1.0])
REAL = torch.tensor([-1.0, 0.5, 2.0, 7.0, 1.5])


def test_class_targets() -> None:
    facts = target_facts(LABELS, normal(7, 5), "cross_entropy")
    assert facts["target.kind"] == "class"
    assert facts["target.mean"] == pytest.approx(7 / 6)  # -100 is left out
    assert facts["target.std"] == pytest.approx(np.std([0, 2, 2, 1, 2, 0]))
    assert (facts["target.min"], facts["target.max"]) == (0, 2)
    assert facts["target.distinct"] == 3
    assert facts["target.integer_like"] is True
    entropy = -sum(p * math.log(p) for p in (2 / 6, 1 / 6, 3 / 6))
    assert facts["target.entropy"] == pytest.approx(entropy)
    assert facts["target.classes"] == 5
    assert facts["target.out_of_range"] == 0
    assert facts["loss.chance"] == pytest.approx(math.log(5))


@pytest.mark.parametrize(
    ("out", "targets", "classes", "beyond"),
    [
        (normal(7, 2), LABELS, 2, 3),
        (normal(2, 3, 7), torch.tensor([[0, 1, 9], [-1, 6, 7]]), 7, 3),  # tokens, classes last
        (normal(2, 7, 3), torch.tensor([[0, 1, 9], [-1, 6, 7]]), 7, 3),  # classes on axis 1
        (normal(2, 3, 7), torch.tensor([0, 1, 9, -1, 6, 7]), 7, 3),  # flattened before the loss
        (normal(2, 7, 3), torch.tensor([0, 1, 9, -1, 6, 7]), 7, 3),  # likewise, axis 1
        (normal(6, 7), torch.tensor([[0, 1, 9], [-1, 6, 7]]), 7, 3),  # flattened on the way
        (normal(2, 3, 5, 4), torch.zeros(2, 5, 4).long(), 3, 0),  # segmentation
    ],
)
def test_the_classes_a_loss_sees(out: Tensor, targets: Tensor, classes: int, beyond: int) -> None:
    facts = target_facts(targets, out, "nll")
    assert facts["target.classes"] == classes
    assert facts["target.out_of_range"] == beyond
    assert facts["loss.chance"] == pytest.approx(math.log(classes))


def test_binary_targets() -> None:
    facts = target_facts(BITS, normal(4, 1), "bce_logits")
    assert facts["target.kind"] == "binary"
    assert facts["target.classes"] == 2
    assert facts["target.out_of_range"] == 0
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert facts["target.entropy"] == pytest.approx(entropy)
    assert facts["loss.chance"] == pytest.approx(math.log(2))
    assert target_facts(BITS * 2 - 1, normal(4), "bce")["target.out_of_range"] == 1
    assert target_facts(BITS * 3, normal(4), "bce")["target.out_of_range"] == 3


def test_real_targets() -> None:
    facts = target_facts(REAL, normal(5), "mse")
    assert facts["target.kind"] == "real"
    assert facts["target.integer_like"] is False
    assert facts["loss.chance"] == pytest.approx(np.var(REAL.numpy()))
    assert "target.entropy" not in facts
    assert "target.classes" not in facts
    chance = np.abs(REAL.numpy() - np.median(REAL.numpy())).mean()
    assert target_facts(REAL, normal(5), "l1")["loss.chance"] == pytest.approx(chance)
    assert target_facts(REAL * 2, normal(5), "mse")["target.distinct"] == 5


def test_chance_is_what_a_constant_prediction_gets() -> None:
    """The best constant by search, with torch's own losses."""
    constants = torch.linspace(-2, 8, 4001)
    for kind, loss in (("mse", F.mse_loss), ("l1", F.l1_loss)):
        best = min(float(loss(c.expand(5), REAL)) for c in constants)
        assert target_facts(REAL, None, kind)["loss.chance"] == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize(
    "targets",
    [None, [], torch.ones(0), torch.full((3,), -100), torch.ones(3, dtype=torch.complex64), "x"],
)
def test_no_targets_no_facts(targets: Any) -> None:
    assert target_facts(targets, normal(3, 5), "cross_entropy") == {}


def test_without_a_known_loss_there_is_no_chance() -> None:
    assert "loss.chance" not in target_facts(REAL, normal(5), "other")
    assert "loss.chance" not in target_facts(LABELS, normal(7), "mse")
    assert target_facts(LABELS * 0, normal(7, 1), "nll")["loss.chance"] is None


def test_tensors_without_values_tell_their_shape() -> None:
    x = torch.empty(5, 3, device="meta")
    assert batch_facts(as_batch((x, None))) == {
        "batch.size": 5,
        "batch.shape": [5, 3],
        "batch.kind": "float",
    }
    assert target_facts(torch.empty(5, device="meta"), None, "mse") == {}


def test_numbers_that_are_not_finite_and_huge_ones() -> None:
    x = torch.tensor([[1e30, -3e30], [math.inf, math.nan]], dtype=torch.float64) * 1e150
    facts = batch_facts(as_batch(x))
    assert facts["batch.nonfinite"] == 2
    assert facts["batch.rms"] == pytest.approx(math.sqrt(5) * 1e180)
    assert facts["batch.mean"] == pytest.approx(-1e180)
    nothing = batch_facts(as_batch(torch.full((3, 2), math.nan)))
    assert nothing["batch.nonfinite"] == 6
    assert nothing["batch.rms"] is None


def test_outputs() -> None:
    out = normal(7, 3) * torch.tensor([1.0, 2.0, 5.0]) + 1
    facts = output_facts(out)
    values = out.double().numpy()
    assert facts["output.shape"] == [7, 3]
    assert facts["output.mean"] == pytest.approx(values.mean())
    assert facts["output.rms"] == pytest.approx(np.sqrt((values**2).mean()))
    assert facts["output.min"] == pytest.approx(values.min())
    assert facts["output.max"] == pytest.approx(values.max())
    assert facts["output.spread"] == pytest.approx(np.sqrt(values.var(0).mean()), rel=1e-5)
    assert "output.spread" not in output_facts(out[:1])
    assert output_facts(None) == output_facts(torch.ones(0)) == output_facts(LABELS) == {}


def test_a_model() -> None:
    model = nn.Sequential(nn.Linear(7, 11), nn.BatchNorm1d(11)).double().eval()
    model[1].requires_grad_(False)
    assert model_facts(model) == {
        "model.name": "Sequential",
        "model.parameters": 7 * 11 + 11 + 22,
        "model.trainable": 7 * 11 + 11,
        "model.training": False,
        "model.dtype": "float64",
        "model.device": "cpu",
        "model.frozen": ["1.weight", "1.bias"],
        "model.scripted": 0,
        "model.dropout": [],
        "model.dropout_at": [],
    }
    drops = nn.Sequential(nn.Dropout(0.3), nn.Dropout(0.0), nn.AlphaDropout(0.2), nn.Dropout2d(0.5))
    drops[3].eval()
    found = model_facts(drops)
    assert (found["model.dropout"], found["model.dropout_at"]) == ([0.3, 0.2], ["0", "2"])
    bare = model_facts(nn.Tanh())
    assert (bare["model.dtype"], bare["model.device"]) == ("none", "none")


def test_norms() -> None:
    model = nn.Sequential(
        nn.BatchNorm1d(3, momentum=0.3),
        nn.BatchNorm1d(3, momentum=0.02),
        nn.BatchNorm1d(3, momentum=None),
        nn.BatchNorm1d(3, momentum=0.001, track_running_stats=False),
    )
    model[:3](normal(5, 3))
    model[0](normal(5, 3))
    assert norm_facts(model) == {"norm.tracked": 1, "norm.momentum": 0.02}
    assert norm_facts(model[2]) == {"norm.tracked": 1}
    assert norm_facts(model[3]) == norm_facts(nn.LayerNorm(3)) == {}


def test_a_look_does_not_count_as_a_batch() -> None:
    model = nn.BatchNorm1d(3)
    assert measure(model, normal(5, 3)).fact("norm.tracked") == 0
    model(normal(5, 3))
    assert measure(model, normal(5, 3)).fact("norm.tracked") == 1


@pytest.mark.parametrize(
    ("module", "shape", "values"),
    [
        (nn.BatchNorm1d(3), (5, 3), 5),
        (nn.BatchNorm1d(3), (5, 3, 7), 35),
        (nn.BatchNorm2d(3), (2, 3, 7, 11), 154),
        (nn.Sequential(nn.BatchNorm2d(3), nn.MaxPool2d(3), nn.BatchNorm2d(3)), (2, 3, 6, 9), 12),
        (nn.BatchNorm1d(3).eval(), (5, 3), None),
        (nn.InstanceNorm1d(3), (5, 3, 7), None),
    ],
)
def test_values_per_channel_of_a_batch_norm(
    module: nn.Module, shape: tuple[int, ...], values: int | None
) -> None:
    assert measure(module, normal(*shape)).fact("norm.min_values") == values


LAYERS = nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 2)])
LAYERS[1].bias.requires_grad_(False)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda p: torch.optim.SGD(p, lr=0.1),
            {"name": "SGD", "lr": 0.1, "momentum": 0.0, "adaptive": False, "weight_decay": 0.0},
        ),
        (
            lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9, weight_decay=0.01),
            {"momentum": 0.9, "adaptive": False, "weight_decay": 0.01},
        ),
        (
            lambda p: torch.optim.AdamW(p, lr=1e-3, betas=(0.8, 0.95), eps=1e-6),
            {"betas": [0.8, 0.95], "eps": 1e-6, "adaptive": True, "weight_decay": 0.01},
        ),
        (lambda p: torch.optim.RMSprop(p, momentum=0.5), {"adaptive": True, "momentum": 0.5}),
        (lambda p: torch.optim.Adam(p, maximize=True), {"maximize": True}),
        (torch.optim.LBFGS, {"maximize": False}),
        (torch.optim.Adagrad, {"adaptive": True}),
        (torch.optim.Adadelta, {"adaptive": True}),
        (torch.optim.Adafactor, {"adaptive": True}),
        (torch.optim.Rprop, {"adaptive": True}),
        (torch.optim.NAdam, {"adaptive": True}),
        (torch.optim.ASGD, {"adaptive": False}),
        (lambda p: torch.optim.Adam(p, lr=torch.tensor(0.5)), {"lr": 0.5}),
    ],
)
def test_an_optimizer(make: Any, expected: dict[str, Any]) -> None:
    facts = optimizer_facts(make(list(LAYERS[0].parameters())), LAYERS.named_parameters())
    assert {key: facts[f"optimizer.{key}"] for key in expected} == expected
    assert facts["optimizer.missing"] == ["1.weight"]  # frozen ones need not be held


def test_the_lowest_rate_is_told_where_groups_differ() -> None:
    one, two = list(LAYERS[0].parameters())[:2]
    groups = [{"params": [one], "lr": 1e-6}, {"params": [two]}, {"params": [], "lr": 1e-9}]
    facts = optimizer_facts(torch.optim.SGD(groups, lr=30.0), LAYERS.named_parameters())
    assert (facts["optimizer.lr"], facts["optimizer.lr_least"]) == (30.0, 1e-6)
    assert "optimizer.lr_least" not in optimizer_facts(torch.optim.SGD([one], lr=1.0), [])


def test_the_rate_that_a_schedule_goes_up_to_is_told_where_it_is_higher() -> None:
    sgd = torch.optim.SGD(LAYERS.parameters(), lr=0.1)
    assert "optimizer.lr_planned" not in optimizer_facts(sgd, [])
    torch.optim.lr_scheduler.LinearLR(sgd, 0.01)
    facts = optimizer_facts(sgd, [])
    assert (facts["optimizer.lr"], facts["optimizer.lr_planned"]) == (pytest.approx(1e-3), 0.1)


def test_the_first_step_of_what_sums_all_gradients_is_ten_times_the_hundredth() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adagrad([weight], lr=0.1)
    known = optimizer_facts(optimizer, [("weight", weight)])["optimizer.first_step"]
    moved = []
    for _ in range(100):
        before = weight.detach().clone()
        weight.grad = torch.ones(1)
        optimizer.step()
        moved.append(float(before - weight.detach()))
    assert moved[0] / moved[-1] == pytest.approx(known, rel=1e-4)
    begun = torch.optim.Adagrad([weight], initial_accumulator_value=1.0)
    assert "optimizer.first_step" not in optimizer_facts(begun, [("weight", weight)])


def test_groups_of_an_optimizer() -> None:
    groups = [
        {"params": LAYERS[0].parameters(), "lr": 0.1},
        {"params": LAYERS[1].parameters(), "lr": 0.4},
    ]
    facts = optimizer_facts(torch.optim.SGD(groups, lr=0.2), LAYERS.named_parameters())
    assert facts["optimizer.lr"] == 0.4
    assert facts["optimizer.missing"] == []
    assert "optimizer.betas" not in facts
    assert "optimizer.eps" not in facts


def test_muon_does_not_scale_with_the_gradient() -> None:
    optimizer = torch.optim.Muon([LAYERS[0].weight])
    assert optimizer_facts(optimizer, LAYERS.named_parameters())["optimizer.adaptive"] is True


def test_a_number_beside_the_batch_is_no_batch():
    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(11, 3)

        def forward(self, ids, count):
            return self.embed(ids).sum((1, 2)) / count

    ids = torch.arange(10).reshape(5, 2)
    facts = measure(Counted(), ((ids, torch.tensor(128.0)), torch.zeros(5))).facts
    assert (facts["batch.kind"], facts["batch.shape"]) == ("ids", [5, 2])
    assert "batch.std" not in facts


@pytest.mark.parametrize("shape", [(64, 8), (16, 8, 5, 5)])
@pytest.mark.parametrize(
    ("eps", "scale", "told"),
    [
        (1e-5, 1.0, False),
        (0.5, 1.0, False),
        (2.0, 1.0, True),
        (2.0, 2.0, False),
        (1e-3, 0.0, False),
    ],
)
def test_an_eps_above_the_variance_of_what_a_batch_norm_gets(
    shape: tuple[int, ...], eps: float, scale: float, told: bool
) -> None:
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    model = nn.Sequential(nn.Identity(), kind(8, eps=eps), nn.Flatten(), nn.LazyLinear(3))
    batch = scale * normal(*shape), torch.randint(0, 3, shape[:1])
    model(batch[0])
    seen = measure(model, batch)
    assert seen.fact("norm.swallowed") == (["1"] if told else None)
    assert measure(model.eval(), batch).fact("norm.swallowed") is None
