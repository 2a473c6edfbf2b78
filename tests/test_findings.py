"""Findings: severities are ordered, causes are known, a diagnosis sums up."""

import pytest

from isograd.findings import CAUSES, Diagnosis, Finding, Severity
from isograd.records import Reading, Record
from isograd.reporting import render

READING = Reading(Record(()))


def finding(severity: Severity) -> Finding:
    return Finding("IG999", severity, "data-bug", "1 thing.")


def diagnosis(*severities: Severity) -> Diagnosis:
    return Diagnosis(tuple(finding(s) for s in severities), (), READING)


def test_severities_are_ordered() -> None:
    error, warning, info = Severity.ERROR, Severity.WARNING, Severity.INFO
    assert error.weight > warning.weight > info.weight
    assert [s.reaches(warning) for s in (error, warning, info)] == [True, True, False]
    assert [s.reaches(error) for s in (error, warning, info)] == [True, False, False]
    assert [s.reaches(info) for s in (error, warning, info)] == [True, True, True]
    assert not error.reaches(None)


def test_a_cause_is_one_that_is_known() -> None:
    assert len(set(CAUSES)) == len(CAUSES)
    with pytest.raises(ValueError, match="IG999: 'bad-luck' is no cause; causes: "):
        Finding("IG999", Severity.ERROR, "bad-luck", "1 thing.")


def test_another_severity_leaves_the_finding() -> None:
    first = finding(Severity.INFO)
    second = first.with_severity(Severity.ERROR)
    assert second.severity is Severity.ERROR
    assert first.severity is Severity.INFO
    assert second.with_severity(Severity.INFO) == first


@pytest.mark.parametrize(
    ("severities", "healthy", "highest"),
    [
        ((), True, None),
        ((Severity.INFO,), True, Severity.INFO),
        ((Severity.INFO, Severity.WARNING), False, Severity.WARNING),
        ((Severity.WARNING, Severity.ERROR, Severity.INFO), False, Severity.ERROR),
    ],
)
def test_a_diagnosis_sums_up(
    severities: tuple[Severity, ...], healthy: bool, highest: Severity | None
) -> None:
    made = diagnosis(*severities)
    assert made.healthy is healthy
    assert made.severity is highest


def test_a_diagnosis_shows_itself() -> None:
    made = diagnosis(Severity.ERROR)
    assert str(made) == render(made, "text")
    assert made._repr_html_() == render(made, "html-fragment")
