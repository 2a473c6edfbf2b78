"""Every rule of the catalogue goes through the contract."""

from pathlib import Path

import pytest
from contract import Trial
from layer_examples import EXAMPLES as LAYERS
from op_examples import EXAMPLES as OPERATIONS

from isograd.prediction.ops import catalogue

EXAMPLES = OPERATIONS | LAYERS


def cases():
    for code, examples in EXAMPLES.items():
        for number, example in enumerate(examples):
            yield f"{code}-{number}", example


@pytest.mark.parametrize(
    ("example", "kind"),
    [
        pytest.param(example, kind, id=f"{name}-{kind}")
        for name, example in cases()
        for kind in example.kinds
    ],
)
def test_rule_agrees_with_draws(example, kind):
    Trial(example, kind).check()


@pytest.mark.parametrize(
    "example", [pytest.param(example, id=name) for name, example in cases() if example.linear]
)
def test_linear_rules_are_adjoint(example):
    Trial(example, "plain", centered=True).check_adjoint()


@pytest.mark.parametrize("code", [op.code for op in catalogue()])
def test_every_operation_has_examples(code):
    """Here, or in a file of its own: where the rule holds for many units, for instance."""
    assert EXAMPLES.get(code) or Path(__file__).with_name(f"test_ops_{code}.py").exists()
