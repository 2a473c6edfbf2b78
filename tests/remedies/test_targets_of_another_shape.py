"""Targets (N, 1) beside outputs (N): standardized once the loss gives them one shape."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from isograd.diagnosis import diagnose
from isograd.probe.measuring import measure
from isograd.records import Reading
from isograd.remedies import AlignedTargets, Case
from isograd.remedies.preprocess_targets import PreprocessTargets


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_targets_are_standardized_where_the_loss_aligns_them() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(32, 5), 150 + 70 * torch.randn(32, 1)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0))

    def case(loss: object) -> Case:
        return Case(model, (x, y), diagnose(Reading(measure(model, (x, y), loss))), loss)

    refused = PreprocessTargets().plan(case(F.mse_loss))
    assert refused == "the targets of the batch have not the shape of the outputs"
    plan = PreprocessTargets().plan(case(AlignedTargets(F.mse_loss)))
    assert not isinstance(plan, str), plan
    change = plan.apply(model, seed=0)
    out = change.model(x)
    assert out.shape == (32,)
    std = y.std(correction=0)
    assert torch.allclose(change.loss(out, y), F.mse_loss(out / std, y[:, 0] / std), rtol=1e-4)
    change.undo()
