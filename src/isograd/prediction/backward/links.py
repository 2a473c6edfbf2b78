"""Links: how a step makes covariances of its output, or of gradients, from those it was given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isograd.prediction.moments.fields import Field

if TYPE_CHECKING:
    from isograd.prediction.steps import Step


@dataclass(frozen=True, slots=True)
class Link:
    """How a step makes covariances of its output from those of its inputs."""

    kind: str
    """layout, multiple, sum, gated (a sum, each term times what gates it), product, cat."""
    ahead: Callable[..., Field] | None = None
    """Of a product: (moments of both factors) -> of the output; else (covariances) -> the same."""
    behind: Callable[..., Field] | None = None
    """Of a product: (gradient's, other factor's, which input) -> of that input's gradient."""
    where: Any = None
    """Of a layout that takes some entries, and of a cat: which. Others have nothing in common."""
    signs: tuple[float, ...] = (1.0, 1.0)
    """Of a sum, or gated: factors of the terms."""
    between: Callable[[Field, int, int], Field] | None = None
    """Of a cat: (moments of the whole's gradient, two places) -> of pairs of one with the other."""
    bias: Callable[[Field], Field] | None = None
    """Of a product: what takes the gradient to that of the bias."""


def _unchanged(f: Field) -> Field:
    return f


SUMS = ("sum", "gated")
_ENDS = ("product", "cat", "part")
"""Where both ways that are followed back have to come to the same kind of step."""


def end_of(link: Link) -> str:
    """What a link is the end of, none if it is passed."""
    if link.kind == "layout":
        return "part" if link.where is not None else ""
    return link.kind if link.kind in _ENDS else ""


CROSSED = "crossed"
"""Note of the output of a and b, fields of the same weights: what takes its gradient's field to
E[g_a g_b'] of the gradients that it gives to both."""
SAME = Link("layout", _unchanged, _unchanged)
"""The output is the input."""


def link_of(step: Step | None, out: Field) -> Link | None:
    """How covariances pass to one output of a step."""
    if step is None:
        return None
    link = step.link
    return link[step.outputs.index(out)] if isinstance(link, tuple) else link


def sign_of(step: Step, link: Link, into: Field) -> float:
    """Of one term of a sum."""
    signs = zip(step.inputs, link.signs, strict=False)
    return next((sign for one, sign in signs if one is into), 1.0)


def factor_of(link: Link, f: Field) -> float:
    """By how much a step changes a covariance with something else."""
    assert link.ahead is not None
    before = f.like(f.second)
    after = link.ahead(before)
    return float(after.energy / before.energy) if before.energy else 1.0
