"""Every rule has a real network that it must find, first and with this cause."""

import pytest

import isograd
from isograd.rules import RULES
from patients import ill_courses
from patients.asked import ASKED
from patients.ill import ILL

SHOWN_ELSEWHERE = {
    "IG104",
    "IG201",
    "IG202",
    "IG207",
    "IG213",
    "IG302",
    "IG305",
    "IG309",
    "IG505",
    "IG402",
    "IG603",
    "IG604",
    "IG609",
    "IG702",
    "IG901",
    "IG105",
    "IG403",
    "IG404",
}
"""Symptoms and remarks: they are folded into a cause, or inform, in the patients here. IG105 and
IG403 need histories that `tests/rules` writes by hand."""


@pytest.mark.parametrize("name", [*ILL, *ASKED])
def test_the_diagnosis_names_the_fault(name: str) -> None:
    case = (ILL | ASKED)[name]
    patient = case.build()
    diagnosis = isograd.check(
        patient.model, patient.batch, patient.loss, optimizer=case.optimizer, steps=case.steps
    )
    assert diagnosis.findings, name
    first = diagnosis.findings[0]
    told = [(f.code, f.severity.value, f.cause, f.message) for f in diagnosis.findings]
    assert (first.cause, first.severity.value) == (case.cause, case.severity), told
    family = {first.code, *(s.code for s in first.symptoms)}
    assert case.code in family, told
    assert not [v for v in diagnosis.verdicts if v.state == "failed"]


def test_every_rule_has_its_patient() -> None:
    over_time = {code for _, _, codes in ill_courses.ILL.values() for code in codes}
    shown = {case.code for case in (ILL | ASKED).values()} | over_time | SHOWN_ELSEWHERE
    assert shown >= {rule.code for rule in RULES}
