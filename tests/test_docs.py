"""Generated pages are what their command makes, and the documented keys are those that exist."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import isograd
from patients.ill import ILL
from patients.zoo import HEALTHY

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", ["rules", "remedies"])
def test_a_generated_page_is_up_to_date(name: str) -> None:
    spec = importlib.util.spec_from_file_location(f"make_{name}", DOCS / f"make_{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (DOCS / f"{name}.md").read_text()
    assert written == module.page(), f"run python docs/make_{name}.py"


def documented() -> set[str]:
    """All keys of docs/records.md; in a row, `…_x` and `forward.share_bf16_…` continue a key."""
    text = (DOCS / "records.md").read_text()
    keys = set(re.findall(r"`([a-z]+\.[a-z0-9_]+)`", text))
    sums = "count nonfinite zero positive mean rms abs_mean kurtosis min max band".split()
    shares = [f"share_{f}_{e}" for f in ("fp16", "bf16", "fp8") for e in ("underflow", "overflow")]
    return keys | {f"{side}.{k}" for side in ("forward", "backward") for k in (*sums, *shares)}


@pytest.mark.parametrize("name", ["resnet18", "gpt2", "lstm_two_layers", "regressor"])
def test_every_key_that_is_measured_is_documented(name: str) -> None:
    patient = HEALTHY[name]()
    reading = isograd.check(
        patient.model, patient.batch, patient.loss, optimizer=patient.optimizer, steps=2
    ).reading
    for record in (reading.seen, reading.last):
        assert set(record.series) | set(record.facts) | set(record.histograms) <= documented()


@pytest.mark.parametrize("name", ["resnet18", "gpt2", "lstm_two_layers", "encoder_pre_norm"])
def test_every_key_that_is_predicted_is_documented(name: str) -> None:
    patient = HEALTHY[name]()
    record = isograd.predict(patient.model, patient.batch, loss=patient.loss)
    text = (DOCS / "records.md").read_text()
    section = text[text.index("## What a prediction has") : text.index("## Histograms")]
    assert set(record.series) == set(re.findall(r"`((?:forward|backward|weight)\.\w+)`", section))
    assert set(record.facts) <= documented()
    assert not record.histograms


def test_keys_of_trouble_are_documented() -> None:
    for name in ("square root", "cut graph", "double softmax", "broadcast", "residuals"):
        patient = ILL[name].build()
        facts = isograd.measure(patient.model, patient.batch, patient.loss).facts
        assert set(facts) <= documented()


def test_a_stranger_key_would_be_noticed() -> None:
    record = isograd.measure(nn.Linear(3, 2), torch.randn(5, 3))
    assert "forward.rms" in record.series
    assert "forward.nonsense" not in documented()
