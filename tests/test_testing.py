"""The contract finds what is broken in a rule, and says it in the rule's own terms."""

import dataclasses
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from isograd.catalogue import Catalogue
from isograd.diagnosis import diagnose
from isograd.errors import CatalogueError
from isograd.findings import Finding, Severity
from isograd.records import Parameter, Reading, Record, Site
from isograd.rules import RULES, NotApplicable, Outcome, Passed, Rule
from isograd.testing import check_rule

SITES = (Site("fc", "linear", "Linear", 1, (5, 7)), Site("fc#2", "linear", "Linear", 2, (5, 7)))
PARAMETERS = (Parameter("fc.weight", (7, 7), "linear"),)


def sized(batch: object) -> Reading:
    return Reading(Record(SITES, PARAMETERS, facts={"batch.size": batch}))


@dataclass(frozen=True)
class Good(Rule):
    """The batch is small.

    Sees: the number of samples in the batch at hand.

    Matters: a gradient of few samples says little about the next.

    Wrong when: samples are large and many steps are accumulated.

    Do: take more samples or accumulate over several batches.
    """

    code: ClassVar[str] = "IG991"
    rank: ClassVar[int] = 5

    smallest: int = 4
    """Fewer samples than these give mostly noise."""

    def judge(self, reading: Reading) -> Outcome:
        size = reading.seen.fact("batch.size")
        if isinstance(size, bool) or not isinstance(size, int):
            return NotApplicable("the record holds no batch size")
        if size >= self.smallest:
            return Passed(f"the batch has {size} samples")
        return self.finding(f"The batch has {size} samples.")

    def finding(self, message: str, **changed: Any) -> Finding:
        plain: dict[str, Any] = {
            "sites": ("fc", "fc.weight"),
            "evidence": {"batch.size": 1},
            "remedies": ("Take more samples.",),
        }
        return Finding(self.code, Severity.WARNING, "data-bug", message, **{**plain, **changed})

    @staticmethod
    def sick() -> Reading:
        return sized(1)

    @staticmethod
    def well() -> Reading:
        return sized(32)


def variant(**members: Any) -> Rule:
    """The good rule with other members; a class of its own would hide what differs."""
    made = type("Good", (Good,), {"__doc__": Good.__doc__, **members})
    made.thresholds = lambda self: Good.thresholds(Good())
    return made()


def finds(**changed: Any) -> Callable[[Any, Reading], Outcome]:
    """Judges as the good rule does, with a finding that differs."""

    def judge(self: Any, reading: Reading) -> Outcome:
        found = Good.judge(self, reading)
        return dataclasses.replace(found, **changed) if isinstance(found, Finding) else found

    return judge


def instead(kind: type, outcome: Any) -> Callable[[Any, Reading], Outcome]:
    """Judges as the good rule does, but for one kind of outcome."""

    def judge(self: Any, reading: Reading) -> Outcome:
        found = Good.judge(self, reading)
        if not isinstance(found, kind):
            return found
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return judge


def raises_on(condition: Callable[[Record], bool]) -> Callable[[Any, Reading], Outcome]:
    def judge(self: Any, reading: Reading) -> Outcome:
        if condition(reading.last):
            raise KeyError("oops")
        return Good.judge(self, reading)

    return judge


DOC = Good.__doc__ or ""


def test_a_good_rule_is_good() -> None:
    check_rule(Good())
    check_rule(Good(), further=[sized(3)])
    check_rule(RULES["IG501"])  # its code is its own


@pytest.mark.parametrize(
    ("members", "broken"),
    [
        ({"code": "IG99"}, "code is 'IG99', not IG and three digits"),
        ({"code": "IG101"}, "code IG101 is VanishingGradient's already"),
        ({"rank": 71}, "rank is 71, not a whole number from 0 to 70"),
        ({"rank": "5"}, "rank is '5', not"),
        ({"__doc__": " "}, "it has no docstring"),
        ({"__doc__": "x" * 81 + DOC}, "characters, not 1 to 80"),
        ({"__doc__": DOC.replace("Do:", "Does:")}, "headings are Sees, Matters, Wrong when, not"),
        (
            {"__doc__": DOC.replace("take more samples or accumulate", "take")},
            "'Do' is no sentence",
        ),
        ({"__doc__": DOC.replace("the next.", "the next")}, "'Matters' is no sentence"),
        ({"sick": staticmethod(lambda: sized(99))}, "sick reading gets no finding but Passed"),
        ({"well": staticmethod(lambda: sized(1))}, "well reading is not passed but gets Finding"),
        ({"well": staticmethod(lambda: sized(None))}, "not passed but gets NotApplicable"),
        ({"judge": finds(code="IG101")}, "its finding has the code 'IG101'"),
        ({"judge": finds(message="Few samples.")}, "no sentence with a number: 'Few samples.'"),
        ({"judge": finds(message="1 sample")}, "no sentence with a number: '1 sample'"),
        ({"judge": finds(evidence={}, sites=())}, "neither evidence nor sites"),
        ({"judge": finds(remedies=())}, "no remedies"),
        ({"judge": finds(remedies=("More.",))}, "remedy is no sentence: 'More.'"),
        ({"judge": finds(remedies=("Take more",))}, "remedy is no sentence: 'Take more'"),
        ({"judge": finds(sites=("fc#3", "head"))}, "names 'head', which is no site or parameter"),
        ({"judge": finds(explains=("IG998",))}, "explains IG998, which no rule has"),
        ({"explains": ("IG101", "IG997")}, "explains IG997, which no rule has"),
        ({"judge": instead(Passed, Passed("fine"))}, "without a number: 'fine'"),
        (
            {"judge": instead(NotApplicable, NotApplicable(""))},
            "an empty record gets NotApplicable",
        ),
        (
            {"judge": instead(NotApplicable, Good().finding("1 thing."))},
            "an empty record gets Finding.*nothing was measured gets Finding",
        ),
        ({"judge": raises_on(lambda r: True)}, "gets no finding but judge raised KeyError: 'oops'"),
        ({"judge": raises_on(lambda r: not r.sites)}, "an empty record gets judge raised KeyError"),
        (
            {"judge": raises_on(lambda r: r.value("forward.any", 0) == 1e30 if r.sites else False)},
            "on 1 sites where every number is 1e[+]30, judge raised KeyError",
        ),
        (
            {"judge": raises_on(lambda r: r.fact("any.thing") == "word")},
            "on facts that are 'word', judge raised KeyError",
        ),
        (
            {"judge": raises_on(lambda r: r.step == 7)},
            "and a second look, judge raised KeyError",
        ),
        (
            {
                "judge": raises_on(
                    lambda r: (
                        len(r.fact("rehearsal.losses") or ()) == 60
                        if isinstance(r.fact("rehearsal.losses"), list)
                        else False
                    )
                )
            },
            "and a rehearsal, judge raised KeyError",
        ),
        ({"judge": lambda self, reading: reading.seen.fact("x").y}, "judge raised AttributeError"),
    ],
)
def test_a_broken_rule_is_told(members: dict[str, Any], broken: str) -> None:
    with pytest.raises(CatalogueError, match=rf"^Good breaks the contract of rules: .*{broken}"):
        check_rule(variant(**members))


@dataclass(frozen=True)
class Unreasoned(Good):
    """The batch is small."""

    __doc__ = Good.__doc__
    smallest: int = 4
    other: int = 3
    """Too short."""


@dataclass(frozen=True)
class Idle(Good):
    __doc__ = Good.__doc__
    smallest: int = 4
    """Fewer samples than these give mostly noise."""
    largest: float = 1e3
    """More samples than these are never looked at."""


def test_thresholds_that_can_be_changed() -> None:
    kept = "judge finding sick well code rank smallest __doc__".split()
    members = {name: vars(Good)[name] for name in kept}
    members |= {"__annotations__": {"smallest": int}, "thresholds": Good.thresholds}
    thawed = dataclass(type("Thawed", (Rule,), members))
    thawed.thresholds = lambda self: Good().thresholds()
    with pytest.raises(CatalogueError, match=r"Thawed breaks .*: it is no frozen dataclass$"):
        check_rule(thawed())


def test_thresholds_without_a_reason() -> None:
    pattern = "smallest has no docstring below it .*; threshold other has no docstring"
    with pytest.raises(CatalogueError, match=pattern):
        check_rule(Unreasoned())


def test_a_threshold_that_decides_nothing() -> None:
    pattern = "Idle breaks .*threshold largest decides nothing about sick, well or 1 further"
    with pytest.raises(CatalogueError, match=pattern) as caught:
        check_rule(Idle(), further=[sized(9)])
    assert "smallest" not in str(caught.value)


def test_what_is_no_rule() -> None:
    with pytest.raises(CatalogueError, match="expected an instance of a Rule, found <class"):
        check_rule(Good)  # type: ignore[arg-type]  # the mistake under test


def example() -> ModuleType:
    path = Path(__file__).parent.parent / "examples" / "own_rule.py"
    spec = importlib.util.spec_from_file_location("own_rule_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_example_keeps_the_contract_and_joins_the_catalogue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = example()
    module.test_the_rule_keeps_the_contract()
    value = "own_rule_example:ShortSequences"
    point = importlib.metadata.EntryPoint("tokens", value, "isograd.rules")
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda *, group: [point] if group == "isograd.rules" else [],
    )
    rules: Catalogue[Rule] = Catalogue("isograd.rules", Rule)  # type: ignore[type-abstract]
    assert rules["IG990"].title() == "The batch is shorter than the sequences the model is for"
    diagnosis = diagnose(module.ShortSequences.sick(), rules=rules)
    assert [f.code for f in diagnosis.findings] == ["IG990"]
    assert 'isograd.rules"]' in (module.__doc__ or "")
    sys.modules.pop("own_rule_example")
