"""What each kind of operation does to a field, forward and backward: one file, one kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from isograd.catalogue import Catalogue

if TYPE_CHECKING:
    from isograd.prediction.backward.links import Link
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.propagation import Call

Backward = Callable[..., Iterable["tuple[Field, Field]"]]
"""Takes the gradient's field of the output (of each output, None where none arrived), gives
(input field, its gradient's field)."""


@dataclass(slots=True)
class Outcome:
    """What a rule makes of one call."""

    out: Any
    """The output's field; a sequence of fields for several outputs; any other value as it is."""
    back: Backward | None = None
    inputs: Sequence[Field] = ()
    """The fields that went in, for the readable trace."""
    dtype: Any = None
    """Of the output, where it is not that of the first input."""
    formula: str = ""
    """What was computed, for the readable trace."""
    notes: list[str] = field(default_factory=list)
    link: Link | tuple[Link | None, ...] | None = None
    """How covariances with other tensors pass through, to the output or to each of several."""


class Op:
    """One kind of operation.

    A third party adds one through the entry-point group `isograd.prediction.ops`.
    """

    code: ClassVar[str]
    """Unique name."""
    functions: ClassVar[tuple[str, ...]]
    """Names of torch functions and methods, without underscores around them; those of other
    libraries' operations with the library's: `own::squared_relu`."""
    source: ClassVar[str]
    """Where the formula is from."""
    lines: ClassVar[tuple[str, ...]] = ()
    """Those of the functions whose rule goes by `pairs` alone, so that it may be given axes that
    tell near from far; all others get them without."""

    def apply(self, call: Call, *args: Any, **kwargs: Any) -> Outcome:
        """The rule; arguments are those of the torch function."""
        raise NotImplementedError


@cache
def catalogue() -> Catalogue[Op]:
    """All kinds of operations."""
    return Catalogue(__name__, Op)


@cache
def by_function() -> dict[str, Op]:
    """The rule of each torch function: a third party's, where there is one."""
    ordered = sorted(catalogue(), key=is_foreign)
    return {name: op for op in ordered for name in op.functions}


def is_foreign(op: Op) -> bool:
    """Whether a rule is a third party's."""
    return not type(op).__module__.startswith(f"{__name__}.")
