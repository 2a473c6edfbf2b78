"""Entries added up by known indices, as messages at the nodes of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isograd.prediction.moments import mixing
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.sums import added
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.sampling import sampled

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Indices
    from isograd.prediction.propagation import Call

_NAMES = "input", "dim", "index", "source", "reduce"


class Scattering(Op):
    """Sums, or means, over the entries that have one index: a known matrix along one axis."""

    code = "scattering"
    functions = ("index_add", "scatter_add", "scatter_reduce", "index_reduce")
    source = "second moments of sums"

    def apply(self, call: Call, *args: Any, **kwargs: Any) -> Outcome:
        """One call of any of the functions."""
        given: dict[str, Any] = dict(zip(_NAMES, args, strict=False)) | kwargs
        base: Any = given.get("input", given.get("self"))
        entries = given.get("source", given.get("src"))
        mean = given.get("reduce") == "mean"
        own = mean and given.get("include_self", True)
        at = _index(call, given["index"], given["dim"], entries)
        if at is None or given.get("reduce", "sum") not in ("sum", "mean"):
            return sampled(call, *args, **kwargs)
        f = call.field(entries)
        axis, size = given["dim"] % len(f.groups), base.shape[given["dim"]]
        sums = mixing.added_up(f, axis, at, size)
        number = np.bincount(at, minlength=size) + own
        if sums is None or given.get("alpha", 1) != 1 or (mean and not number.all()):
            return sampled(call, *args, **kwargs)
        if mean:
            sums = mixing.scaled_rows(sums, 1 / number)
        found = mixing.mixed(call, sums, always=True)
        assert found is not None
        nothing = call.known(base) and not bool(_any(base))
        if nothing or (mean and not own):
            return found
        if mean:
            return sampled(call, *args, **kwargs)
        total = added(call, call.field(base), found.out, 1.0)

        def back(gradient: Field) -> list[tuple[Field, Field]]:
            assert found.back is not None
            assert total.back is not None
            result: list[tuple[Field, Field]] = []
            for where, one in total.back(gradient):
                result += found.back(one) if where is found.out else [(where, one)]
            return result

        return Outcome(total.out, back, [*total.inputs[:1], *found.inputs], formula=found.formula)


def _any(known: Tensor) -> Any:
    with torch._C.DisableTorchFunction():
        return known.any()


def _index(call: Call, index: Any, dim: int, entries: Any) -> Indices | None:
    """The index along one axis, if it is known and the same everywhere else."""
    if not isinstance(entries, Tensor) or not call.known(index):
        return None
    with torch._C.DisableTorchFunction():
        if index.ndim > 1 and index.shape != entries.shape:
            return None
        rows = index.movedim(dim, 0).flatten(1) if index.ndim > 1 else index[:, None]
        if not bool((rows == rows[:, :1]).all()):
            return None
        return np.asarray(rows[:, 0].numpy())
