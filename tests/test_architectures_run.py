"""Every architecture that predictions are judged by runs, forward and backward, when small."""

import pytest
import torch

import isograd
from patients.architectures.table import FAMILIES


@pytest.mark.parametrize("name", FAMILIES)
def test_a_small_one_runs(name: str) -> None:
    family = FAMILIES[name]
    torch.manual_seed(3)
    model = family.build(**family.small)
    inputs = (family.small_inputs or family.inputs)(torch.Generator().manual_seed(4))
    record = isograd.measure(model, inputs)
    assert model.training
    assert record.series["forward.rms"]
    assert all(rms is not None and rms >= 0 for rms in record.series["forward.rms"])
    assert any(record.series["backward.rms"])
