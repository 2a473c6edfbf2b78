"""Healthy networks get no warning, at first sight and in a rehearsal."""

import pytest
import torch

import isograd
from isograd.findings import Diagnosis, Finding, Severity
from patients.patient import Build, Patient
from patients.zoo import HEALTHY

REHEARSED = 3
LEARNT = 12


@pytest.fixture(params=HEALTHY)
def patient(request: pytest.FixtureRequest) -> Patient:
    build: Build = HEALTHY[request.param]
    return build()


def alarms(diagnosis: Diagnosis) -> list[str]:
    """What a user would be worried by, in words."""

    def told(finding: Finding) -> str:
        return f"{finding.code} {finding.severity.value} {finding.cause}: {finding.message}"

    loud = (f for f in diagnosis.findings if f.severity.reaches(Severity.WARNING))
    broken = (v for v in diagnosis.verdicts if v.state == "failed")
    return [told(f) for f in loud] + [f"{v.code} failed: {v.reason}" for v in broken]


def test_healthy_at_first_sight(patient: Patient) -> None:
    assert alarms(isograd.check(patient.model, patient.batch, patient.loss)) == []


def test_healthy_in_a_rehearsal(patient: Patient) -> None:
    diagnosis = isograd.check(
        patient.model, patient.batch, patient.loss, optimizer=patient.optimizer, steps=REHEARSED
    )
    assert alarms(diagnosis) == []


def test_it_is_healthy_indeed(patient: Patient) -> None:
    """The witness: by plain torch, every one of them learns its batch from the first steps on."""
    torch.manual_seed(2)
    optimizer = patient.optimizer(patient.model.parameters())
    losses = []
    for _ in range(LEARNT):
        optimizer.zero_grad()
        loss = patient.objective()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.995 * sum(losses[:3])
