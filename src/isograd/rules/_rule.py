"""What a rule is: it sees a Reading, never a model, and says exactly one thing."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

from isograd.catalogue import field_texts, sections_of, title_of
from isograd.findings import Finding
from isograd.records import Reading


@dataclass(frozen=True)
class Passed:
    """The rule looked and found nothing; `reason` holds the number that convinced it."""

    reason: str


@dataclass(frozen=True)
class NotApplicable:
    """The rule could not look; `reason` says what is missing and how to add it."""

    reason: str


Outcome = Finding | Passed | NotApplicable

HEADINGS = ("Sees", "Matters", "Wrong when", "Do")


class Rule(ABC):
    """One rule: a frozen dataclass whose fields are its thresholds, each with its reason.

    The docstring is the one text for every surface. Its first line is the title; then come the
    headings `Sees:`, `Matters:`, `Wrong when:` and `Do:`, a paragraph each.
    """

    code: ClassVar[str]
    """`IG` and three digits, never reused."""
    rank: ClassVar[int]
    """Order among findings of one severity: 0 data and loss, 10 graph, 20 local faults,
    30 weights, 40 architecture, 50 optimizer, 60 symptoms over depth, 70 the rest."""
    explains: ClassVar[tuple[str, ...]] = ()
    """Codes of rules whose findings follow from a finding of this one."""

    @abstractmethod
    def judge(self, reading: Reading) -> Outcome:
        """Judges a reading."""

    @staticmethod
    @abstractmethod
    def sick() -> Reading:
        """The smallest reading that this rule must find."""

    @staticmethod
    @abstractmethod
    def well() -> Reading:
        """The same reading without the fault; the rule must pass it."""

    @classmethod
    def title(cls) -> str:
        """First line of the docstring, without its period."""
        return title_of(cls)

    def thresholds(self) -> list[tuple[str, object, str]]:
        """(name, value, reason) of each field; the reasons are the docstrings under the fields."""
        reasons = field_texts(type(self))
        own = (field.name for field in fields(self) if field.name in reasons)  # type: ignore[arg-type]  # subclasses are dataclasses
        return [(name, getattr(self, name), reasons[name]) for name in own]

    @classmethod
    def sections(cls) -> dict[str, str]:
        """The docstring's text under each of HEADINGS, line breaks removed."""
        return sections_of(cls, HEADINGS)
