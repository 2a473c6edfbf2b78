"""The loss as the tape sees it: its kind, what enters it, what stretches, what is cut."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isograd.probe.measuring import measure
from isograd.records import Record

GENERATOR = torch.Generator().manual_seed(5)
X = torch.randn(13, 7, generator=GENERATOR)
LABELS = torch.randint(5, (13,), generator=GENERATOR)
BITS = torch.arange(13) % 2 * 1.0
REAL = torch.randn(13, generator=GENERATOR)

Loss = Callable[[Any, Any], Tensor]


def judged(loss: Loss | None, targets: Tensor, *layers: nn.Module, width: int = 5) -> Record:
    """A record of one linear layer, further layers, and a loss."""
    torch.manual_seed(0)
    return measure(nn.Sequential(nn.Linear(7, width), *layers), (X, targets), loss)


def column(out: Tensor) -> Tensor:
    return out[:, 0]


def own_cross_entropy(out: Tensor, targets: Tensor) -> Tensor:
    return -out.softmax(1)[torch.arange(13), targets].log().mean()


def own_bce(out: Tensor, targets: Tensor) -> Tensor:
    p = out[:, 0].sigmoid()
    return -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()


@pytest.mark.parametrize(
    ("loss", "targets", "kind"),
    [
        (F.cross_entropy, LABELS, "cross_entropy"),
        (nn.CrossEntropyLoss(), LABELS, "cross_entropy"),
        (nn.CrossEntropyLoss(label_smoothing=0.1), LABELS, "cross_entropy"),
        (lambda o, t: F.nll_loss(o.log_softmax(1), t), LABELS, "nll"),
        (lambda o, t: F.binary_cross_entropy(column(o).sigmoid(), t), BITS, "bce"),
        (lambda o, t: F.binary_cross_entropy_with_logits(column(o), t), BITS, "bce_logits"),
        (lambda o, t: F.mse_loss(column(o), t), REAL, "mse"),
        (lambda o, t: F.l1_loss(column(o), t), REAL, "l1"),
        (lambda o, t: F.smooth_l1_loss(column(o), t), REAL, "l1"),
        (lambda o, t: F.huber_loss(column(o), t), REAL, "l1"),
        (lambda o, t: F.cross_entropy(o, t) + 1e-3 * o.square().mean(), LABELS, "cross_entropy"),
        (lambda o, t: F.cross_entropy(o, t) + F.mse_loss(t / 2, t / 3), LABELS, "cross_entropy"),
        # Written by hand.
        (own_cross_entropy, LABELS, "nll"),
        (own_bce, BITS, "bce"),
        (lambda o, t: ((column(o) - t) ** 2).mean(), REAL, "mse"),
        (lambda o, t: (t - column(o)).pow(2).mean(), REAL, "mse"),
        (lambda o, t: (column(o) - t).square().mean(), REAL, "mse"),
        (lambda o, t: torch.sub(column(o), t).square().sum(), REAL, "mse"),
        (lambda o, t: (column(o) - t).abs().mean(), REAL, "l1"),
        (lambda o, t: (column(o) - t).mean(), REAL, "other"),
        (lambda o, t: (o[:, None] - o[None]).square().mean(), LABELS, "other"),
        (lambda o, t: column(o).exp().log().mean(), REAL, "other"),
        (lambda o, t: column(o).mul(t).mean(), REAL, "other"),
    ],
)
def test_the_kind_of_a_loss(loss: Loss, targets: Tensor, kind: str) -> None:
    record = judged(loss, targets)
    assert record.fact("loss.kind") == kind
    assert record.fact("loss.chosen") is False
    assert record.fact("loss.input_site") == 0


@pytest.mark.parametrize(
    ("loss", "targets", "kind", "mean"),
    [
        (lambda o, t: F.mse_loss(column(o), t * 20 + 7), REAL, "real", float(REAL.mean()) * 20 + 7),
        (
            lambda o, t: F.binary_cross_entropy_with_logits(column(o), (t == 3).float()),
            LABELS,
            "binary",
            float((LABELS == 3).float().mean()),
        ),
        # Of shares of classes, and of two terms, the labels of the batch say more.
        (
            lambda o, t: F.cross_entropy(o, F.one_hot(t, 5).float()),
            LABELS,
            "class",
            float(LABELS.double().mean()),
        ),
        (
            lambda o, t: F.mse_loss(column(o), t * 2) + F.mse_loss(column(o), t * 3),
            REAL,
            "real",
            float(REAL.mean()),
        ),
        # What the loss makes of the prediction, or of nothing, is no target.
        (lambda o, t: F.mse_loss(o, o.detach() + 9), REAL, "real", float(REAL.mean())),
        (lambda o, t: F.mse_loss(o, torch.ones_like(o)), REAL, "real", float(REAL.mean())),
    ],
)
def test_targets_are_read_as_the_loss_compares_with_them(
    loss: Loss, targets: Tensor, kind: str, mean: float
) -> None:
    record = judged(loss, targets)
    assert record.fact("target.kind") == kind
    assert record.fact("target.mean") == pytest.approx(mean, rel=1e-5)


def test_no_targets_means_probes() -> None:
    record = measure(nn.Linear(7, 5), X)
    assert record.fact("loss.kind") == "probe"
    assert record.fact("loss.chosen") is True


def test_the_models_own_loss() -> None:
    class Own(nn.Linear):
        def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
            out = super().forward(x)
            return {"loss": F.cross_entropy(out, labels), "logits": out}

    record = measure(Own(7, 5), {"x": X, "labels": LABELS})
    assert record.fact("loss.kind") == "cross_entropy"
    assert record.fact("loss.name") == "the model's own"
    assert record.fact("output.shape") == [13, 5]


def test_a_loss_handed_in_stays_so_without_a_gradient() -> None:
    model = nn.Linear(7, 5).requires_grad_(False)
    record = measure(model, (X, LABELS), F.cross_entropy)
    assert record.fact("loss.chosen") is False
    assert any(note.startswith("backward: ") for note in record.notes)


@pytest.mark.parametrize(
    ("layers", "loss", "ops", "site"),
    [
        ((), F.cross_entropy, ["cross_entropy"], 0),
        ((nn.Softmax(1),), F.cross_entropy, ["softmax", "cross_entropy"], 1),
        ((nn.LogSoftmax(1),), F.nll_loss, ["log_softmax", "nll_loss"], 1),
        (
            (nn.ReLU(), nn.Linear(5, 3), nn.Sigmoid()),
            lambda o, t: F.cross_entropy(o.view(13, 3).clamp(0, 1), t % 3),
            ["sigmoid", "clamp", "cross_entropy"],
            3,
        ),
        ((nn.Flatten(), nn.Unflatten(1, (5,))), F.cross_entropy, ["cross_entropy"], 2),
    ],
)
def test_operations_between_the_last_layer_and_the_loss(
    layers: tuple[nn.Module, ...], loss: Loss, ops: list[str], site: int
) -> None:
    record = judged(loss, LABELS, *layers)
    assert record.fact("loss.input_ops") == ops
    assert record.fact("loss.input_site") == site


def test_the_path_follows_the_deepest_input() -> None:
    """Of two branches that meet, the one behind more layers is the prediction."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(7, 5), nn.Linear(7, 11), nn.Linear(11, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x).sigmoid() + self.c(self.b(x)).tanh()

    record = measure(Two(), (X, LABELS), F.cross_entropy)
    assert record.fact("loss.input_ops") == ["tanh", "add", "cross_entropy"]


@pytest.mark.parametrize(
    ("module", "shape", "targets", "loss", "width"),
    [
        (nn.Softmax(1), (13, 7), LABELS, F.cross_entropy, 5),
        (nn.Softmax(-1), (13, 3, 7), torch.zeros(13, 5).long(), F.cross_entropy, 5),
        (nn.Softmax(1), (13, 3, 7), torch.zeros(13, 5).long(), F.cross_entropy, 3),
        (nn.Softmax(0), (13, 7), LABELS, F.cross_entropy, 13),
        (nn.LogSoftmax(dim=1), (13, 7), LABELS, F.nll_loss, 5),
        (nn.ReLU(), (13, 7), LABELS, F.cross_entropy, None),
    ],
)
def test_the_width_of_a_softmax(
    module: nn.Module, shape: tuple[int, ...], targets: Tensor, loss: Loss, width: int | None
) -> None:
    model = nn.Sequential(nn.Linear(7, 5), module)
    record = measure(model, (torch.randn(shape), targets), loss)
    assert record.fact("output.softmax_width") == width


def test_a_softmax_without_an_axis_has_torchs() -> None:
    for shape, width in (((13, 7), 5), ((4, 13, 7), 4), ((2, 3, 13, 7), 3)):
        layer = nn.Linear(7, 5)
        record = measure(
            layer,
            (torch.randn(shape), torch.zeros(shape[0])),
            lambda o, t: F.softmax(o, dim=None).log().mean(),
        )
        assert record.fact("output.softmax_width") == width, shape


@pytest.mark.parametrize(
    ("loss", "shapes"),
    [
        (lambda o, t: F.mse_loss(o, t.expand(13, 13)), None),  # stretched on purpose
        (lambda o, t: ((o - t) ** 2).mean(), [[13, 1], [13]]),
        (lambda o, t: (t - o).abs().mean(), [[13], [13, 1]]),
        (lambda o, t: (o * t).mean(), [[13, 1], [13]]),
        (lambda o, t: ((o - 2 * t) ** 2).mean(), [[13, 1], [13]]),
        (lambda o, t: ((o[:, 0] - t) ** 2).mean(), None),
        (lambda o, t: ((o - t[:, None]) ** 2).mean(), None),
        (lambda o, t: ((o - t.mean()) ** 2).mean(), None),
        (lambda o, t: ((o - o.T) ** 2).mean() + 0 * t.mean(), None),  # no target in it
    ],
)
def test_a_broadcast_of_prediction_and_target(loss: Loss, shapes: Any) -> None:
    record = judged(loss, REAL, width=1)
    assert record.fact("loss.broadcast") == shapes


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_broadcast_inside_torchs_loss() -> None:
    assert judged(F.mse_loss, REAL, width=1).fact("loss.broadcast") == [[13, 1], [13]]
    assert judged(F.mse_loss, REAL[:, None], width=1).fact("loss.broadcast") is None


def test_a_bias_of_the_loss_is_no_broadcast() -> None:
    """A weight per class stretches over the batch, as it should."""

    def loss(out: Tensor, targets: Tensor) -> Tensor:
        return ((out * torch.arange(5.0) - targets[:, None] * torch.ones(13, 5)) ** 2).mean()

    assert judged(loss, REAL).fact("loss.broadcast") is None


class Cut(nn.Module):
    """Two layers and something between them."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(7, 11), nn.Linear(11, 5)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self.a(x)))


def frozen(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x.tanh()


def through_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(x.detach().numpy().copy())


@pytest.mark.parametrize(
    ("between", "op"),
    [
        (lambda x: x.detach(), "detach"),
        (lambda x: x.data, "data"),
        (frozen, "tanh"),
        (lambda x: F.one_hot(x.argmax(1), 11).float(), "argmax"),
    ],
)
def test_a_cut_is_named(between: Callable[[Tensor], Tensor], op: str) -> None:
    record = measure(Cut(between), (X, LABELS), F.cross_entropy)
    cuts = record.fact("graph.cuts")
    assert [cut["op"] for cut in cuts] == [op]
    assert cuts[0]["module"] == ""
    assert record.fact("model.unreached") == ["a.weight", "a.bias"]
    if op != "tanh":  # tanh is a site of its own
        assert record.sites[cuts[0]["site"]].name == "a"


def test_a_cut_in_the_loss() -> None:
    record = measure(
        nn.Linear(7, 5), (X, LABELS), lambda o, t: torch.tensor(o.square().mean().item())
    )
    assert "item" in [cut["op"] for cut in record.fact("graph.cuts")]
    assert record.fact("model.unreached") == ["weight", "bias"]


def test_a_way_through_numpy_is_a_cut() -> None:
    record = measure(Cut(through_numpy), (X, LABELS), F.cross_entropy)
    assert "detach" in [cut["op"] for cut in record.fact("graph.cuts")]
    assert record.fact("model.unreached") == ["a.weight", "a.bias"]


def test_a_side_branch_that_is_cut_is_no_cut_of_the_loss() -> None:
    class Aside(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            self.kept = out.detach().tanh()
            return out.relu()

    record = measure(Aside(7, 5), (X, LABELS), F.cross_entropy)
    assert record.fact("model.unreached") == []
    on_the_way = record.fact("graph.cuts")
    assert [cut["op"] for cut in on_the_way] == ["detach"]  # without one on the way, all
    assert measure(nn.Linear(7, 5), (X, LABELS)).fact("graph.cuts") == []


def test_of_several_cuts_those_on_the_way_count() -> None:
    class Both(Cut):
        def forward(self, x: Tensor) -> Tensor:
            self.kept = self.a(x).detach()
            return self.b(self.a(x).argmax(1, keepdim=True) * torch.ones(11))

    record = measure(Both(torch.tanh), (X, LABELS), F.cross_entropy)
    assert [cut["op"] for cut in record.fact("graph.cuts")] == ["argmax"]


def test_comparisons_are_no_cuts() -> None:
    record = measure(Cut(lambda x: torch.where(x > 0, x, 0.1 * x)), (X, LABELS), F.cross_entropy)
    assert record.fact("graph.cuts") == []


def test_parameters_that_are_not_used() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare, self.still = (nn.Linear(7, 5) for _ in range(3))
            self.still.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x) + self.still(x)

    record = measure(Spare(), (X, LABELS), F.cross_entropy)
    assert record.fact("model.unused") == ["spare.weight", "spare.bias"]
    assert record.fact("model.unreached") == []
    assert record.fact("model.frozen") == ["still.weight", "still.bias"]
