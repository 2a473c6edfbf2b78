"""One cause is one finding, causes come first, and every rule gets exactly one verdict."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from isograd.diagnosis import diagnose
from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules import RULES, NotApplicable, Outcome, Passed, Rule
from isograd.rules._examples import reading

NOTHING = Passed("nothing")


@dataclass(frozen=True)
class Fixed(Rule):
    """A rule that always says the same."""

    code: str = "IG999"  # type: ignore[misc]
    rank: int = 10  # type: ignore[misc]
    outcome: Outcome | Exception = NOTHING

    title_: ClassVar[str] = "fixed"

    def judge(self, reading: Reading) -> Outcome:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    @staticmethod
    def sick() -> Reading:
        return reading()

    @staticmethod
    def well() -> Reading:
        return reading()


def finds(code: str, rank: int, severity: str = "warning", explains: tuple[str, ...] = ()) -> Fixed:
    finding = Finding(code, Severity(severity), "data-bug", f"{code} 1", explains=explains)
    return Fixed(code, rank, finding)


def codes(*rules: Fixed) -> list[tuple[str, tuple[str, ...]]]:
    diagnosis = diagnose(reading(), rules=rules)
    return [(f.code, tuple(s.code for s in f.symptoms)) for f in diagnosis.findings]


def test_errors_come_first_then_causes() -> None:
    found = codes(finds("IG103", 60, "error"), finds("IG101", 5, "info"), finds("IG102", 30))
    assert found == [("IG103", ()), ("IG102", ()), ("IG101", ())]


def test_a_symptom_is_folded_whatever_the_ranks() -> None:
    cause, symptom = finds("IG900", 70, explains=("IG100",)), finds("IG100", 1, "error")
    assert codes(symptom, cause) == [("IG900", ("IG100",))]
    assert diagnose(reading(), rules=(symptom, cause)).findings[0].severity is Severity.ERROR


def test_symptoms_of_symptoms_go_to_the_root() -> None:
    found = codes(
        finds("IG103", 60),
        finds("IG102", 50, explains=("IG103",)),
        finds("IG101", 40, explains=("IG102",)),
    )
    assert found == [("IG101", ("IG102", "IG103"))]


def test_findings_that_explain_each_other_leave_the_first() -> None:
    a, b = finds("IG101", 10, explains=("IG102",)), finds("IG102", 20, explains=("IG101",))
    third = finds("IG103", 30)
    assert codes(b, a, third) == [("IG101", ("IG102",)), ("IG103", ())]


def test_information_explains_nothing() -> None:
    found = codes(finds("IG101", 10, "info", explains=("IG102",)), finds("IG102", 20))
    assert found == [("IG102", ()), ("IG101", ())]


def test_every_rule_gets_one_verdict_and_a_broken_rule_hides_nothing() -> None:
    rules = (
        Fixed("IG101"),
        Fixed("IG102", outcome=NotApplicable("needs a loss")),
        Fixed("IG103", outcome=ValueError("oops")),
        finds("IG104", 10),
        finds("IG201", 10),
    )
    diagnosis = diagnose(reading(), rules=rules, ignore=["IG2"])
    states = [(v.code, v.state) for v in diagnosis.verdicts]
    assert states == [
        ("IG101", "passed"),
        ("IG102", "not-applicable"),
        ("IG103", "failed"),
        ("IG104", "finding"),
        ("IG201", "ignored"),
    ]
    assert "oops" in diagnosis.verdicts[2].reason
    assert [f.code for f in diagnosis.findings] == ["IG104"]


@pytest.mark.parametrize(("select", "judged"), [(["IG1"], 2), (["IG104"], 1), ([], 3)])
def test_select_takes_prefixes(select: list[str], judged: int) -> None:
    rules = (Fixed("IG101"), finds("IG104", 10), Fixed("IG201"))
    verdicts = diagnose(reading(), rules=rules, select=select).verdicts
    assert sum(v.state != "ignored" for v in verdicts) == judged


def test_the_catalogue_judges_a_bare_record() -> None:
    diagnosis = diagnose(reading().seen)
    assert len(diagnosis.verdicts) == len(RULES)
    assert all(v.state != "failed" for v in diagnosis.verdicts)
