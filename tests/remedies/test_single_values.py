"""Norms of single values that average over all channels instead."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from isograd import remedies
from isograd.errors import RemedyError


def pooled(norm: nn.Module, channels: int = 16) -> nn.Sequential:
    """A norm behind a pooling that leaves one value per channel."""
    body = nn.Conv2d(1, channels, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), norm, nn.Flatten()
    return nn.Sequential(*body, nn.Linear(channels, 4))


@pytest.mark.parametrize("affine", [True, False])
def test_channels_of_a_sample_are_normalized_together(*, affine: bool) -> None:
    torch.manual_seed(0)
    model, x = pooled(nn.GroupNorm(16, 16, affine=affine)), torch.randn(12, 1, 7, 7)
    change = remedies.apply(
        "normalization-statistics", model, (x, torch.zeros(12).long()), by="group"
    )
    values = model[2](model[1](model[0](x)))
    got, values = model[3](values).flatten(1), values.flatten(1)
    mean, variance = values.mean(1, keepdim=True), values.var(1, correction=0, keepdim=True)
    assert torch.allclose(got, (values - mean) / (variance + 1e-5).sqrt(), atol=1e-5)
    change.undo()
    assert model[3].num_groups == 16


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda: pooled(nn.GroupNorm(4, 4), 4), "4 channels, too few"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(49, 1), nn.LayerNorm(1)), "no groups"),
    ],
)
def test_what_cannot_average_over_more_is_told(model: Callable[[], nn.Module], told: str) -> None:
    batch = torch.randn(12, 1, 7, 7), torch.zeros(12, 1)
    batch = (batch[0], torch.zeros(12).long()) if "few" in told else batch
    with pytest.raises(RemedyError, match=told):
        remedies.apply("normalization-statistics", model(), batch, by="group")
