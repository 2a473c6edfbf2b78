"""explain(): how the numbers at one place of a network came about, operation by operation."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isograd.errors import PredictionError

if TYPE_CHECKING:
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.steps import Step
    from isograd.prediction.tracing import Trace

_MOVED = "no arithmetic"
"""Source of operations that only lay their numbers out anew."""


@dataclass(frozen=True)
class Term:
    """One tensor that goes into an operation, or comes out of it."""

    name: str
    """The site or the parameter whose tensor it is; empty for a result that is neither."""
    kind: str
    """signal, weight or known."""
    shape: tuple[int, ...]
    energy: float
    """E x^2."""
    mean: float
    """E x."""
    cosine: float | None
    """Between the tensors of two samples."""
    gradient: float | None
    """E (dLoss/dx)^2 of all that arrives there; None where no gradient arrives."""
    handed: float | None = None
    """What this operation alone hands to it, of an input."""
    law: str = ""
    """How a weight is drawn."""
    maker: int | None = None
    """Index of the operation here that it comes from."""


@dataclass(frozen=True)
class Operation:
    """One operation of the forward, and what it does to the gradient."""

    name: str
    """The torch function."""
    module: str
    """Path of the module in whose forward it runs; empty for the model's own."""
    formula: str
    """What was computed."""
    source: str
    """Where the formula is from."""
    inputs: tuple[Term, ...]
    outputs: tuple[Term, ...]
    moved: bool
    """Whether it only lays its numbers out anew."""
    sampled: bool
    """Whether there is no rule for it, and it was estimated by drawing."""
    count: float | None = None
    """Of a weight layer: summands per output, E out^2 = count E x^2 E w^2 + E b^2."""


@dataclass(frozen=True)
class Explanation:
    """How the numbers at one place came about."""

    path: str
    """A module or a site."""
    label: str
    """Its class, or the name of the function."""
    operations: tuple[Operation, ...]
    """In order of execution."""


def explain(traced: Trace, path: str) -> Explanation:
    """The operations of one module or site, with what each does to signal and gradient.

    Args:
        traced: the run.
        path: of a module (`blocks.3.mlp`; empty for all), or name of a site (`blocks.3:add`).

    Raises:
        PredictionError: there is no such place, or nothing was predicted there.
    """
    chosen = _chosen(traced, path)
    if not chosen:
        raise PredictionError(
            f"explain: {path!r} does nothing to a signal that is predicted; ask for a module that "
            "computes, or for one of the sites"
        )
    names = _Names(traced)
    makers: dict[int, int] = {}
    told = []
    for step in chosen:
        told.append(_operation(traced, step, names, makers))
        for out in step.outputs:
            origin = makers.get(id(step.inputs[0])) if _is_moved(step) and step.inputs else None
            makers[id(out)] = len(told) - 1 if origin is None else origin
    return Explanation(path, _label(traced, path), tuple(told))


def _is_moved(step: Step) -> bool:
    """Whether it only lays numbers out anew."""
    return step.source == _MOVED or step.name == "layout"


def _chosen(traced: Trace, path: str) -> list[Step]:
    steps = traced.run.steps
    place = _site(traced, path)
    modules = dict(traced.model.named_modules())
    owner, _, number = path.partition("#")
    if owner in modules and not number:
        return [step for step in steps if _within(step.module, path)]
    if place is None:
        raise _unknown(path, [*modules, *(row.name for row in traced.reader.rows)])
    end = _made(steps, traced.reader.fields[place])
    if end is None:
        return []
    if owner not in modules:  # one operation
        return [steps[end]]
    before = owner if number == "2" else f"{owner}#{int(number) - 1}"
    other = _site(traced, before)
    start = None if other is None else _made(steps, traced.reader.fields[other])
    first = 0 if start is None else start + 1
    return [step for step in steps[first : end + 1] if _within(step.module, owner)]


def _within(module: str, path: str) -> bool:
    return not path or module == path or module.startswith(f"{path}.")


def _site(traced: Trace, name: str) -> int | None:
    names = [row.name for row in traced.reader.rows]
    return names.index(name) if name in names else None


def _made(steps: Sequence[Step], field: Field | None) -> int | None:
    """Index of the operation that made a field."""
    found = (i for i, step in enumerate(steps) if any(out is field for out in step.outputs))
    return next(found, None)


def _unknown(path: str, known: Iterable[str]) -> PredictionError:
    names = list(dict.fromkeys(name for name in known if name))
    near = [name for name in names if path and path in name][:3]
    near = near or difflib.get_close_matches(path, names, n=3, cutoff=0.5)
    told = f"did you mean {' or '.join(near)}" if near else f"there is {', '.join(names[:8])} …"
    return PredictionError(f"explain: the model has no module or site {path!r}; {told}")


def _label(traced: Trace, path: str) -> str:
    place = _site(traced, path)
    module = dict(traced.model.named_modules()).get(path.partition("#")[0])
    if place is not None and module is None:
        return traced.reader.rows[place].label
    return type(module).__name__


class _Names:
    """What fields are called: by their site or parameter, or by what they were laid out from."""

    def __init__(self, traced: Trace) -> None:
        self.parameters = dict(traced.model.named_parameters())
        self.of: dict[int, str] = {}
        for name, parameter in self.parameters.items():
            field = traced.run.parameter_field(parameter)
            if field is not None:
                self.of[id(field)] = name
        for row, field in zip(traced.reader.rows, traced.reader.fields, strict=True):
            if field is not None:
                self.of.setdefault(id(field), row.name)
        for step in traced.run.steps:
            if _is_moved(step) and step.inputs and id(step.inputs[0]) in self.of:
                for out in step.outputs:
                    self.of.setdefault(id(out), self.of[id(step.inputs[0])])


def _operation(traced: Trace, step: Step, names: _Names, makers: dict[int, int]) -> Operation:
    handed = dict(_handed(traced, step))
    inputs = tuple(
        _term(traced, one, names, handed.get(id(one)), makers.get(id(one))) for one in step.inputs
    )
    outputs = tuple(_term(traced, one, names) for one in step.outputs)
    return Operation(
        step.name,
        step.module,
        step.formula,
        step.source,
        inputs,
        outputs,
        _is_moved(step),
        step.source == "sampled",
        _count(inputs, outputs),
    )


def _handed(traced: Trace, step: Step) -> Iterator[tuple[int, float]]:
    """What an operation hands on of the gradient at its outputs: (identity of an input, energy)."""
    run = traced.run
    found = [run.slopes.get(id(out)) for out in step.outputs]
    arrived = [None if one is None else one.direct for one in found]
    if step.back is None or all(one is None for one in arrived):
        return
    kept = run.slopes
    run.slopes = {}  # what goes past the inputs, straight to an origin, is not wanted here
    try:
        pairs = list(step.back(arrived) if step.several else step.back(arrived[0]))
        pairs += [(where, s.whole) for where in step.inputs if (s := run.slopes.get(id(where)))]
    finally:
        run.slopes = kept
    totals: dict[int, float] = {}
    for where, gradient in pairs:
        totals[id(where)] = totals.get(id(where), 0.0) + gradient.energy
    yield from totals.items()


def _term(
    traced: Trace,
    field: Field,
    names: _Names,
    handed: float | None = None,
    maker: int | None = None,
) -> Term:
    from isograd.prediction.judging import correlation
    from isograd.prediction.recording import law_of, values_law

    gradient = traced.run.gradient_of(field)
    kind, law = "signal", ""
    name = names.of.get(id(field), "")
    parameter = names.parameters.get(name)
    if parameter is not None:
        kind = "weight"
        found = law_of(parameter) if parameter.is_meta else values_law(parameter)
        law = "" if found is None else found.kind
    elif gradient is None and handed is None and not name and maker is None:
        kind = "known"
    return Term(
        name,
        kind,
        field.shape,
        field.energy,
        field.average,
        None if kind == "weight" else correlation(field),
        None if gradient is None else gradient.energy,
        handed,
        law,
        maker,
    )


def _count(inputs: Sequence[Term], outputs: Sequence[Term]) -> float | None:
    """Summands of a weight layer's output, where its weight has mean 0."""
    signals = [one for one in inputs if one.kind == "signal"]
    weights = [one for one in inputs if one.kind == "weight" and len(one.shape) > 1]
    shifts = [one for one in inputs if one.kind == "weight" and len(one.shape) == 1]
    if len(signals) != 1 or len(weights) != 1 or len(shifts) > 1 or len(outputs) != 1:
        return None
    product = signals[0].energy * weights[0].energy
    if not product or weights[0].mean:
        return None
    return (outputs[0].energy - sum(one.energy for one in shifts)) / product
