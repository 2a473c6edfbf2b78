"""Rules that do not tell near from far: they are given fields and gradients without distances."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from isograd.prediction.moments.fields import Field

if TYPE_CHECKING:
    from isograd.prediction.propagation import Propagation


class Copies:
    """Copies of the fields of a run without distances between positions."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[Field, Field]] = {}
        self.made: list[tuple[Field, Field]] = []
        """Fields and their copies, in the order in which they were needed."""

    def of(self, run: Propagation, field: Field) -> Field:
        """The copy of a field; itself if it tells none."""
        found = self._found.get(id(field))
        if found is None:
            same = field.plain() is field
            found = field, field if same else _copied(run, field)
            self.take([found])
        return found[1]

    def take(self, made: Iterable[tuple[Field, Field]]) -> None:
        """Adds copies that have been made."""
        for pair in made:
            self._found[id(pair[0])] = pair
            self.made.append(pair)


def _copied(run: Propagation, field: Field) -> Field:
    from isograd.prediction.ops.layout import relaid
    from isograd.prediction.propagation import Call

    done = relaid(Call(run, "clone", torch.clone), field, Field.plain, lambda g: g)
    run.record("layout", "", done)
    made: Field = done.out
    made.visible, made.notes = field.visible, field.notes
    return made


def without_distances(back: Any) -> Any:
    """The backward of a rule, given gradients without distances."""
    if back is None:
        return None

    def wrapped(given: Any) -> Iterable[tuple[Field, Field]]:
        if isinstance(given, list):
            given = [None if one is None else _plain(one) for one in given]
        else:
            given = _plain(given)
        handed: Iterable[tuple[Field, Field]] = back(given)
        return handed

    return wrapped


def _plain(gradient: Field) -> Field:
    found = gradient.plain()
    if found is not gradient:
        found.notes = dict(gradient.notes)
        if "moment" in found.notes:
            found.notes["moment"] = found.notes["moment"].plain()
    return found
