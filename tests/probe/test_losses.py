"""Whether a loss sums over its batch, told from the batch's halves."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from isograd.probe.losses import is_summed

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
