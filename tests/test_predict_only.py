"""A prediction alone: no warning of healthy networks; what is visible at the start is named."""

import pytest
import torch
from torch import nn

from isograd.diagnosis import diagnose
from isograd.errors import PredictionError
from isograd.findings import Diagnosis, Severity
from isograd.prediction.predicting import predict
from isograd.prediction.recording import recording
from patients.ill import ILL
from patients.patient import Build
from patients.zoo import HEALTHY

NOT_AT_THE_START = {
    "learning rate": "an optimizer",
    "slow": "an optimizer",
    "momentum": "an optimizer",
    "stale statistics": "a rehearsal",
    "square root": "a value of exactly zero",
    "wrong backward": "a measurement to compare with",
}
"""What naming the fault of these takes."""


def judged(build: Build) -> Diagnosis:
    """The network built without its parameters, on the batch of the real one."""
    patient = build()
    with recording():
        made = build()
    assert all(p.is_meta for p in made.model.parameters() if p.ndim > 1)
    record = predict(made.model, patient.batch, loss=patient.loss)
    assert record.source == "predicted"
    return diagnose(record)


def told(diagnosis: Diagnosis) -> list[str]:
    return [f"{f.code} {f.severity.value} {f.cause}: {f.message}" for f in diagnosis.findings]


@pytest.mark.parametrize("name", sorted(HEALTHY))
def test_no_cry_of_wolf(name: str) -> None:
    diagnosis = judged(HEALTHY[name])
    loud = [f for f in diagnosis.findings if f.severity.reaches(Severity.WARNING)]
    assert not loud, told(diagnosis)
    assert [v for v in diagnosis.verdicts if v.state == "failed"] == []
    silent = [v for v in diagnosis.verdicts if v.state == "not-applicable"]
    assert all(len(v.reason.split()) >= 4 for v in silent)


def normalized() -> nn.Linear:
    layer = nn.Linear(8, 8)
    layer.weight.data /= float(torch.linalg.matrix_norm(layer.weight, 2))
    return layer


def test_a_constructor_that_computes_with_its_weights_says_so() -> None:
    with pytest.raises(PredictionError, match="needs values"), recording():
        normalized()


@pytest.mark.parametrize("name", sorted(set(ILL) - set(NOT_AT_THE_START)))
def test_what_is_visible_at_the_start_is_named(name: str) -> None:
    """By the same code, with the same cause, as by a measurement."""
    case = ILL[name]
    diagnosis = judged(case.build)
    first = diagnosis.findings[0]
    family = {first.code, *(symptom.code for symptom in first.symptoms)}
    assert case.code in family, told(diagnosis)
    assert first.cause == case.cause, told(diagnosis)
    assert first.severity.reaches(Severity.WARNING)
    assert [v for v in diagnosis.verdicts if v.state == "failed"] == []


@pytest.mark.parametrize("name", NOT_AT_THE_START)
def test_the_others_are_not_accused_of_something_else(name: str) -> None:
    diagnosis = judged(ILL[name].build)
    loud = [f for f in diagnosis.findings if f.severity.reaches(Severity.WARNING)]
    assert not loud, told(diagnosis)
