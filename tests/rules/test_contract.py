"""Every rule of the catalogue keeps the contract, with the readings its thresholds need."""

import pytest
from threshold_readings import FURTHER

from isograd.rules import RULES, Rule
from isograd.testing import check_rule

ALL = list(RULES)


@pytest.mark.parametrize("rule", ALL, ids=[rule.code for rule in ALL])
def test_the_contract(rule: Rule) -> None:
    check_rule(rule, further=FURTHER.get(rule.code, ()))


def test_further_readings_are_of_rules_that_exist() -> None:
    assert set(FURTHER) <= {rule.code for rule in ALL}
