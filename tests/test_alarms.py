"""Alarms: raised once, kept through looks that cannot see, withdrawn when healed."""

from dataclasses import replace

import pytest

from isograd.alarms import Alarms
from isograd.findings import Alarm, Diagnosis, Finding, Severity, Verdict
from isograd.records import Reading, Record

READING = Reading(Record(()))
CODES = ("IG301", "IG305")
E, W, I = Severity.ERROR, Severity.WARNING, Severity.INFO  # noqa: E741


def found(
    severity: Severity = W,
    code: str = "IG301",
    cause: str = "lr-too-high",
    symptoms: tuple[Finding, ...] = (),
) -> Finding:
    return Finding(code, severity, cause, f"{code} {severity.value}", symptoms=symptoms)


def looked(*findings: Finding, blind: tuple[str, ...] = (), state: str = "passed") -> Diagnosis:
    """A diagnosis of `CODES`: what is neither found nor blind passed."""
    codes = {s.code for f in findings for s in (f, *f.symptoms)}
    states = {c: "finding" if c in codes else state for c in CODES if c not in blind}
    verdicts = [Verdict(c, states.get(c, "not-applicable"), "") for c in CODES]
    return Diagnosis(findings, tuple(verdicts), READING)


def told(changes: tuple[Alarm, ...]) -> list[tuple[str, str, str, int, int, int]]:
    return [
        (a.finding.code, a.finding.severity.value, a.state, a.first_step, a.worst_step, a.last_step)
        for a in changes
    ]


def test_an_alarm_is_raised_at_the_second_look_and_once() -> None:
    alarms = Alarms()
    assert told(alarms.update(3, looked(found()))) == []
    assert alarms.all == alarms.raised == ()
    assert told(alarms.update(5, looked(found()))) == [("IG301", "warning", "raised", 3, 3, 5)]
    assert told(alarms.update(7, looked(found()))) == []
    assert told(alarms.all) == told(alarms.raised) == [("IG301", "warning", "raised", 3, 3, 7)]


def test_what_is_seen_in_every_other_look_is_noise() -> None:
    alarms = Alarms()
    for step in range(40):
        assert alarms.update(step, looked(*([found()] if step % 2 else []))) == ()
    assert alarms.all == ()


def test_an_error_is_raised_at_once_and_a_worsening_told() -> None:
    alarms = Alarms()
    assert told(alarms.update(0, looked(found(E)))) == [("IG301", "error", "raised", 0, 0, 0)]
    alarms = Alarms(looks=3)
    alarms.update(0, looked(found(W)))
    assert told(alarms.update(2, looked(found(E)))) == [("IG301", "error", "raised", 0, 2, 2)]
    assert told(alarms.update(4, looked(found(W)))) == []
    assert told(alarms.raised) == [("IG301", "error", "raised", 0, 2, 4)]
    alarms = Alarms(looks=1)
    alarms.update(0, looked(found(W)))
    assert told(alarms.update(9, looked(found(E)))) == [("IG301", "error", "raised", 0, 9, 9)]


def test_an_alarm_is_withdrawn_after_several_looks_and_enough_steps() -> None:
    alarms = Alarms(steps=20)
    for step in (0, 1):
        alarms.update(step, looked(found()))
    for step in (2, 3, 4, 20):  # looks enough, not steps
        assert alarms.update(step, looked()) == ()
    assert told(alarms.update(21, looked())) == [("IG301", "warning", "withdrawn", 0, 0, 1)]
    assert alarms.raised == ()
    assert told(alarms.all) == [("IG301", "warning", "withdrawn", 0, 0, 1)]
    alarms = Alarms(steps=20)
    for step in (0, 1):
        alarms.update(step, looked(found()))
    assert [len(alarms.update(step, looked())) for step in (50, 100, 150)] == [0, 0, 1]


def test_a_look_that_cannot_see_heals_nothing_and_breaks_no_row() -> None:
    alarms = Alarms(steps=0)
    alarms.update(0, looked(found()))
    alarms.update(1, looked(blind=CODES))
    assert told(alarms.update(2, looked(found()))) == [("IG301", "warning", "raised", 0, 0, 2)]
    for step in range(3, 100):
        assert alarms.update(step, looked(blind=("IG301",))) == ()
    for step in range(100, 120):
        assert alarms.update(step, looked(state="failed")) == ()
    assert told(alarms.raised) == [("IG301", "warning", "raised", 0, 0, 2)]


def test_seen_again_in_between_starts_the_count_anew() -> None:
    alarms = Alarms(steps=0)
    for step, findings in enumerate([[found()], [found()], [], [], [found()], [], []]):
        alarms.update(step, looked(*findings))
    assert told(alarms.raised) == [("IG301", "warning", "raised", 0, 0, 4)]


def test_an_alarm_that_comes_back_has_steps_of_its_own() -> None:
    alarms = Alarms(steps=0)
    for step, findings in enumerate([[found()], [found()], [], [], [], [found()]]):
        alarms.update(step, looked(*findings))
    assert told(alarms.all) == [("IG301", "warning", "withdrawn", 0, 0, 1)]
    alarms.update(6, looked(found()))
    assert told(alarms.all) == [("IG301", "warning", "raised", 5, 5, 6)]


def test_two_causes_are_two_alarms_and_a_rule_in_doubt_is_heard() -> None:
    high, low = found(), found(cause="lr-too-low")
    alarms = Alarms()
    alarms.update(0, looked(high, low))
    assert len(alarms.update(1, looked(high, low))) == 2
    alarms = Alarms()
    alarms.update(0, looked(high))
    (alarm,) = alarms.update(1, looked(low))
    assert (alarm.finding.cause, alarm.first_step) == ("lr-too-low", 1)
    assert alarms.update(2, looked(high)) == ()  # the rule has its alarm


def test_information_is_not_seen_unless_asked_for() -> None:
    alarms = Alarms(steps=0)
    for step, severity in enumerate((W, W, I, I, I)):
        changed = alarms.update(step, looked(found(severity)))
    assert told(changed) == [("IG301", "warning", "withdrawn", 0, 0, 1)]
    alarms = Alarms(least=I)
    alarms.update(0, looked(found(I)))
    assert told(alarms.update(1, looked(found(I)))) == [("IG301", "info", "raised", 0, 0, 1)]


def test_what_its_rule_calls_harmless_is_withdrawn_without_a_wait() -> None:
    cause = found(E, "IG305")
    for harmless in (looked(found(I)), looked(replace(cause, symptoms=(found(I),)))):
        alarms = Alarms(steps=1000)
        for step in (0, 1):
            alarms.update(step, looked(found()))
        changes = [alarms.update(step, harmless) for step in (2, 3, 4)]
        assert ("IG301", "warning", "withdrawn", 0, 0, 1) in told(changes[-1])


def test_the_last_judgement_has_no_second_one() -> None:
    alarms = Alarms()
    assert told(alarms.update(9, looked(found()), last=True)) == [
        ("IG301", "warning", "raised", 9, 9, 9)
    ]
    for missed, steps, after in (
        (0, 1000, ["raised"]),
        (1, 1000, ["withdrawn"]),
        (0, 5, ["withdrawn"]),
    ):
        alarms = Alarms(steps=steps)
        for step in (0, 1):
            alarms.update(step, looked(found()))
        for step in range(2, 2 + missed):
            alarms.update(step, looked())
        alarms.update(9, looked(), last=True)
        assert [alarm.state for alarm in alarms.all] == after


@pytest.mark.parametrize("before", [0, 2])
def test_a_symptom_raises_nothing_and_keeps_what_is_raised(before: int) -> None:
    alarms = Alarms(steps=0)
    symptom = found(code="IG305")
    for step in range(before):
        alarms.update(step, looked(symptom))
    for step in range(before, 9):
        alarms.update(step, looked(found(E, symptoms=(symptom,))))
    codes = {alarm.finding.code: alarm.last_step for alarm in alarms.raised}
    assert codes == ({"IG301": 8, "IG305": 8} if before else {"IG301": 8})


def test_memory_does_not_grow_with_a_rule_that_flickers() -> None:
    alarms = Alarms(looks=1, steps=0)
    for step in range(0, 3000, 3):
        alarms.update(step, looked(found()))
        for later in (1, 2):
            alarms.update(step + later, looked())
    assert len(alarms.all) == 1


def test_the_most_severe_stands_first() -> None:
    alarms = Alarms(looks=1)
    alarms.update(0, looked(found(W)))
    alarms.update(4, looked(found(W), found(E, "IG305")))
    assert [a.finding.code for a in alarms.raised] == ["IG305", "IG301"]
    assert [a.finding.code for a in alarms.all] == ["IG301", "IG305"]
