"""A rule of one's own: a class that judges records, and a test of it.

pytest examples/own_rule.py

Once the package that holds it is installed with

    [project.entry-points."isograd.rules"]
    tokens = "yourpackage.own_rule:ShortSequences"

in its pyproject.toml, `isograd check` judges by it, and `isograd rules` and `isograd explain IG990`
show it. Codes from IG990 to IG999 are left to such rules.
"""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules import NotApplicable, Outcome, Passed, Rule
from isograd.testing import check_rule


@dataclass(frozen=True)
class ShortSequences(Rule):
    """The batch is shorter than the sequences the model is for.

    Sees: the second axis of a batch of token ids.

    Matters: a position that no batch reaches gets no gradient, so that its embedding stays as it
        was drawn and longer texts fail later.

    Wrong when: the sequences are short on purpose, such as in the first phase of a curriculum.

    Do: measure on a batch of the length that the model will see.
    """

    code: ClassVar[str] = "IG990"
    rank: ClassVar[int] = 5

    shortest: int = 16
    """Sentences are longer than this; what is shorter was cut off."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the length with the threshold."""
        shape = reading.seen.fact("batch.shape")
        if reading.seen.fact("batch.kind") != "ids" or not isinstance(shape, list) or not shape[1:]:
            return NotApplicable("the batch is none of token ids, [samples, tokens]")
        length = shape[1]
        if length >= self.shortest:
            return Passed(f"sequences have {length} tokens")
        return Finding(
            self.code,
            Severity.WARNING,
            "data-bug",
            f"Sequences have {length} tokens, fewer than {self.shortest}.",
            evidence={"batch.shape": shape},
            remedies=("Pad or pack to the length that the model will see.",),
        )

    @staticmethod
    def sick() -> Reading:
        """Eight tokens."""
        return _ids(8)

    @staticmethod
    def well() -> Reading:
        """Forty-eight tokens."""
        return _ids(48)


def _ids(length: int) -> Reading:
    return Reading(Record((), facts={"batch.kind": "ids", "batch.shape": [4, length]}))


def test_the_rule_keeps_the_contract() -> None:
    check_rule(ShortSequences())
