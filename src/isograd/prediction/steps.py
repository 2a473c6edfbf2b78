"""Steps of a run, and what arrives at their fields in the backward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isograd.prediction.backward.links import Link
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import SIGN, sign_of
from isograd.prediction.ops import Backward


@dataclass(slots=True)
class Step:
    """One operation of the run."""

    name: str
    module: str
    source: str
    formula: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    back: Backward | None
    several: bool
    link: Link | tuple[Link | None, ...] | None = None


@dataclass(slots=True)
class Slope:
    """What arrived at a field in the backward."""

    whole: Field
    """All of it."""
    direct: Field | None
    """What is yet to be handed on; the rest went straight to the field's origin."""


def inherit(made: Field, inputs: Sequence[Field], link: Any = None) -> None:
    """What a rule says nothing of comes from its inputs."""
    if isinstance(link, Link) and link.kind == "layout" and made.nodes is None:
        sign = 0 if made.is_centered or len(inputs) != 1 else sign_of(inputs[0])
        if sign:
            made.notes[SIGN] = sign
    if inputs and made.condition == 0.0:
        made.condition = max(one.condition for one in inputs)
    if inputs and made.noise == 0.0:
        made.noise = max(one.noise for one in inputs)
