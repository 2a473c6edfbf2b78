"""What a rule says of itself is read from its source."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from isograd.records import Reading, Record
from isograd.rules import Outcome, Passed, Rule

READING = Reading(Record(()))


@dataclass(frozen=True)
class Spoken(Rule):
    """The title, in one line.

    Sees: something that
        goes over two lines.

    Matters: a colon: and the word Do: inside a line.

    Wrong when: never.

    Do: nothing.
    """

    code: ClassVar[str] = "IG999"
    rank: ClassVar[int] = 3

    first: float = 0.5
    """A reason
    of two lines."""
    second: int = 3
    """Another one."""
    silent: int = 7

    unit: ClassVar[int] = 1
    """No threshold."""

    def judge(self, reading: Reading) -> Outcome:
        return Passed(f"{self.first}")

    @staticmethod
    def sick() -> Reading:
        return READING

    @staticmethod
    def well() -> Reading:
        return READING


def test_the_title_is_the_first_line() -> None:
    assert Spoken.title() == "The title, in one line"


def test_sections_are_the_text_under_the_headings() -> None:
    assert Spoken.sections() == {
        "Sees": "something that goes over two lines.",
        "Matters": "a colon: and the word Do: inside a line.",
        "Wrong when": "never.",
        "Do": "nothing.",
    }


def test_thresholds_have_the_reasons_below_them() -> None:
    assert Spoken().thresholds() == [
        ("first", 0.5, "A reason of two lines."),
        ("second", 3, "Another one."),
    ]
    assert Spoken(first=0.7).thresholds()[0][1] == 0.7


def test_a_rule_explains_nothing_unless_it_says_so() -> None:
    assert Spoken.explains == ()


def test_a_rule_that_does_not_judge_cannot_be_made() -> None:
    class Unfinished(Spoken):
        judge = Rule.judge

    with pytest.raises(TypeError, match="judge"):
        Unfinished()
