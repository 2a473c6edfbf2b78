"""Whether a loss sums over its batch or over entries, told from halves."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import isograd
from isograd.probe.losses import is_summed, sums_entries
from isograd.probe.measuring import measure
from isograd.sites.chance import uninformed

GENERATOR = torch.Generator().manual_seed(7)
LOGITS = torch.randn(11, 5, generator=GENERATOR)
LABELS = torch.randint(5, (11,), generator=GENERATOR)


@pytest.mark.parametrize(
    ("loss", "summed"),
    [
        (F.cross_entropy, False),
        (lambda o, t: F.cross_entropy(o, t, reduction="sum"), True),
        (lambda o, t: F.cross_entropy(o, t, reduction="sum") / 13, True),
        (lambda o, t: -F.cross_entropy(o, t, reduction="sum"), True),
        (lambda o, t: F.cross_entropy(o, t) if len(o) > 6 else o.missing, None),
        (None, None),
    ],
)
def test_sums_are_told_from_means(loss: Any, summed: bool | None) -> None:
    value = 1.0 if loss is None else float(loss(LOGITS, LABELS))
    assert is_summed(loss, LOGITS, LABELS, value) is summed


@pytest.mark.parametrize(
    ("outputs", "targets", "value"),
    [
        ({"logits": LOGITS}, LABELS, 1.0),
        (LOGITS, [1], 1.0),
        (LOGITS[:1], LABELS[:1], 1.0),
        (LOGITS, LABELS[:4], 1.0),
        (torch.tensor(1.0), torch.tensor(1.0), 1.0),
        (LOGITS, LABELS, 0.0),
    ],
)
def test_where_it_cannot_be_told(outputs: Any, targets: Any, value: float) -> None:
    assert is_summed(F.cross_entropy, outputs, targets, value) is None


@pytest.mark.parametrize("width", [2, 5, 12])
@pytest.mark.parametrize(
    ("loss", "summed"),
    [
        (F.mse_loss, False),
        (lambda o, t: (o - t).square().sum(1).mean(), True),
        (lambda o, t: F.mse_loss(o, t, reduction="sum") / len(o), True),
        (lambda o, t: -F.l1_loss(o, t), False),
        (lambda o, t: F.mse_loss(o.view(-1, 60), t.view(-1, 60)), None),
        (None, None),
    ],
)
def test_sums_over_entries_are_told_from_means(loss: Any, summed: bool | None, width: int) -> None:
    generator = torch.Generator().manual_seed(3)
    outputs = torch.randn(60, width, generator=generator)
    targets = 3 + 2 * torch.randn(60, width, generator=generator)
    value = 1.0 if loss is None else float(loss(outputs, targets))
    found = sums_entries(loss, outputs[:59] if summed is None else outputs, targets, value)
    assert found is summed
    assert sums_entries(loss, outputs[:, :1], targets[:, :1], value) is None


def test_weighted_labels_have_a_guessing_of_their_own() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(4, 1), torch.randn(50, 4)
    y = torch.zeros(50, 1)
    y[:3] = 1
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([50.0]))
    record = measure(model, (x, y), loss)
    half = math.log(2) * (50 * 0.06 + 0.94)
    assert record.fact("loss.chance") == pytest.approx(half, rel=1e-6)
    assert uninformed(record) == pytest.approx(half, rel=1e-6)  # their entropy is 0.227
    plain = measure(model, (x, y), nn.BCEWithLogitsLoss())
    assert plain.fact("loss.chance") == pytest.approx(math.log(2))
    assert plain.fact("loss.weighted") is None
    assert uninformed(plain) == pytest.approx(0.22697, rel=1e-4)
    # Torch divides by the weights: guessing evenly costs ln 2 whatever they are.
    classes = y[:, 0].long()
    loss_of_classes = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 16.0]))
    record = measure(nn.Linear(4, 2), (x, classes), loss_of_classes)
    assert uninformed(record) == pytest.approx(math.log(2))


def test_rare_positives_that_weigh_more_are_learned() -> None:
    torch.manual_seed(0)
    x = torch.randn(4000, 20)
    y = (x[:, :1] + x[:, 1:2] > 2.9).float()
    batches = list(zip(x.split(64), y.split(64), strict=True))
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([50.0]))
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 1))
    done = isograd.repair(model, batches[0], loss, data=batches)
    assert (done.verdict, done.learned) == ("healthy", True)
