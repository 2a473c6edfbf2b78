"""Whether a loss sums over its batch or over entries, told from halves."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from isograd.probe.losses import is_summed, sums_entries

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
