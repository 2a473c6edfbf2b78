"""Every remedy on real networks: it has a plan that runs and is undone, or a reason."""

import pytest
import torch
from torch import nn

from isograd.probe.measuring import measure
from isograd.remedies import REMEDIES, Plan, case_of
from patients.odd import ODD
from patients.zoo import HEALTHY

NETWORKS = """
    bert cells_unrolled conv_autoencoder encoder_post_norm gpt2 lstm_two_layers mlp_relu_he_deep
    resnet18 t5 transformer_seq2seq vit
""".split()


ODD_ONES = """
    batch_of_one bfloat16_model complex_layers compiled_eager frozen_middle scripted_part
    tied_weights weight_norm_by_hook
""".split()


SMALL = {*ODD_ONES, "cells_unrolled", "conv_autoencoder", "lstm_two_layers", "mlp_relu_he_deep"}
"""On these every variant is tried: it costs little."""


def everything(model: nn.Module) -> list[object]:
    """Values and modules, hooks and modes."""
    tensors = [t.detach().clone() for t in (*model.parameters(), *model.buffers())]
    return [tensors, [(type(m), m.training, list(vars(m))) for m in model.modules()]]


def same(a: list[object], b: list[object]) -> bool:
    return a[1] == b[1] and all(torch.equal(x, y) for x, y in zip(a[0], b[0], strict=True))  # type: ignore[call-overload]


@pytest.mark.parametrize("name", [*NETWORKS, *ODD_ONES])
def test_every_remedy_runs_on_a_network_or_says_why_not(name: str) -> None:
    patient = (HEALTHY.get(name) or ODD[name])()
    case = case_of(patient.model, patient.batch, patient.loss, optimizer=patient.optimizer)
    before = everything(patient.model)
    for remedy in REMEDIES:
        for variant in remedy.variants() if name in SMALL else (remedy,):
            plan = variant.plan(case)
            if not isinstance(plan, Plan):
                assert len(plan.split()) > 3, remedy.code
                continue
            change = plan.apply(patient.model, seed=1)
            record = measure(change.model, patient.batch, change.loss or patient.loss)
            assert record.fact("loss.value") == record.fact("loss.value"), remedy.code
            keys = change.model.load_state_dict(change.model.state_dict())
            assert not keys.missing_keys, remedy.code
            if change.optimizer is not None:
                assert change.optimizer(change.model.parameters()).param_groups
            change.undo()
            assert same(everything(patient.model), before), remedy.code
