"""The rules: one public file, one rule. Adding the file is the registration."""

from isograd.catalogue import Catalogue
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule

RULES: Catalogue[Rule] = Catalogue(__name__, Rule)  # type: ignore[type-abstract]  # only subclasses

__all__ = ["RULES", "NotApplicable", "Outcome", "Passed", "Rule"]
