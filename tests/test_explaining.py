"""explain(): a rule's text is complete, in lines that fit, and cannot be asked for in vain."""

import dataclasses

import pytest

from isograd.errors import InputError
from isograd.explaining import explain
from isograd.rules import RULES, Rule
from isograd.rules._rule import HEADINGS

ALL = list(RULES)


def words(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("rule", ALL, ids=[rule.code for rule in ALL])
def test_everything_the_rule_says(rule: Rule) -> None:
    text = explain(rule.code)
    lines = text.splitlines()
    assert lines[0] == f"{rule.code}  {rule.title()}"
    assert [line for line in lines if line in (*HEADINGS, "Thresholds")] == [
        *HEADINGS,
        *(["Thresholds"] if dataclasses.fields(rule) else []),
    ]
    assert max(len(line) for line in lines) <= 96
    for section in rule.sections().values():
        assert words(section) in words(text)
    for name, value, reason in rule.thresholds():
        assert words(f"{name} = {value}: {reason}") in words(text)
    assert {name for name, _, _ in rule.thresholds()} == {f.name for f in dataclasses.fields(rule)}


def test_codes_in_either_case() -> None:
    assert explain("ig101") == explain("IG101")


@pytest.mark.parametrize("code", ["IG999", "", "IG1", "vanishing"])
def test_an_unknown_code(code: str) -> None:
    with pytest.raises(InputError) as caught:
        explain(code)
    message = str(caught.value)
    assert message.startswith(f"explain: no rule has the code {code!r}; the rules are IG101, ")
    assert all(rule.code in message for rule in ALL)
    assert "\n" not in message
