"""What `isograd predict` does with its words: makes networks without parameters, and predicts."""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from isograd.cli import _output, _targets
from isograd.errors import TargetError

if TYPE_CHECKING:
    from isograd.findings import Diagnosis
    from isograd.prediction.changes import Change
    from isograd.prediction.explanation import Explanation
    from isograd.prediction.sweeping import Sweep


class Chosen(TypedDict):
    """By which rules a prediction is judged."""

    select: Sequence[str]
    ignore: Sequence[str]


def factory(
    target: _targets.Target, arguments: Mapping[str, Any], swept: str | None = None
) -> Callable[..., Any]:
    """A function that makes the model of a target, or (model, batch), under `recording()`.

    Args:
        target: where it is from.
        arguments: of the factory.
        swept: the argument that will be given at each call.

    Raises:
        TargetError: a model that is given arguments, or a factory that does not take them.
    """
    from torch import nn

    from isograd.prediction.recording import recording
    from isograd.prediction.sweeping import CHANGES

    found = _targets.load(target)
    if isinstance(found, nn.Module):
        if arguments:
            raise TargetError(
                f"{target.text}: is a model, not a factory, and takes no --set; name a function "
                "that returns it"
            )
        return lambda: found
    if not callable(found):
        raise TargetError(
            f"{target.text}: is of type {type(found).__name__}; name a torch.nn.Module, or a "
            "factory that returns one or (model, batch)"
        )
    takes = swept is not None and _takes(found, swept)
    given = [*arguments, *([swept] if swept and (takes or swept not in CHANGES) else [])]
    _fit(target, found, given)

    # Its signature tells what can be swept.
    @functools.wraps(found)
    def make(**more: Any) -> Any:
        with recording():
            made = _targets.call(
                target, f"{target.attribute}()", lambda: found(**arguments, **more)
            )
        model = made[0] if isinstance(made, tuple) and len(made) == 2 else made
        if not isinstance(model, nn.Module):
            raise TargetError(
                f"{target.text}: returned an object of type {type(made).__name__}, not a model; "
                "name a factory that returns a torch.nn.Module or (model, batch)"
            )
        return made

    return make


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # some built-in callables have no signature
        return {}


def _takes(function: Callable[..., Any], name: str) -> bool:
    return name in _parameters(function)


def _fit(target: _targets.Target, function: Callable[..., Any], given: Sequence[str]) -> None:
    """Refuses arguments that a factory does not take, and missing ones."""
    parameters = _parameters(function)
    named = [
        name
        for name, one in parameters.items()
        if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    free = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for name in given:
        if parameters and name not in named and not free:
            close = difflib.get_close_matches(name, named, n=3)
            told = f"did you mean {' or '.join(close)}" if close else f"there is {', '.join(named)}"
            raise TargetError(f"{target.text}: takes no argument {name!r}; {told}")
    needed = [name for name in named if parameters[name].default is inspect.Parameter.empty]
    missing = [name for name in needed if name not in given]
    if missing:
        more = " ".join(f"--set {name}=…" for name in missing)
        raise TargetError(f"{target.text}: needs the arguments {', '.join(missing)}; add {more}")


@dataclass(frozen=True)
class Network:
    """A network to predict, and how."""

    make: Callable[..., Any]
    batch: Callable[[Any], Any]
    """What goes in, from the batch that came with the model."""
    change: "Change"
    loss: Any
    training: bool | None
    seed: int

    def judged(self, *, select: Sequence[str], ignore: Sequence[str]) -> "Diagnosis":
        """What the rules say of its predicted Record."""
        from dataclasses import replace

        from isograd.diagnosis import diagnose
        from isograd.prediction.assembling import assemble

        with self._traced() as (found, notes):
            record = assemble(found)
        record = replace(record, notes=(*notes, *record.notes))
        return diagnose(record, select=select, ignore=ignore)

    def explained(self, path: str) -> "Explanation":
        """How the numbers at one place came about."""
        from isograd.prediction.explanation import explain

        with self._traced() as (found, _):
            return explain(found, path)

    def swept(self, name: str, values: Sequence[Any], tell: Callable[[int, int], None]) -> "Sweep":
        """The network at several values of one thing."""
        from isograd.prediction.sweeping import sweep

        batches: list[Any] = []

        @functools.wraps(self.make)
        def make(**more: Any) -> Any:
            tell(len(batches), len(values))
            model, own = self._made(**more)
            batches.append(own)
            return model

        return sweep(
            make,
            lambda _: self.batch(batches[-1]),
            name,
            values,
            loss=self.loss,
            seed=self.seed,
            change=self.change,
            records=True,
        )

    def _made(self, **more: Any) -> tuple[Any, Any]:
        made = self.make(**more)
        model, own = made if isinstance(made, tuple) else (made, None)
        if self.training is not None:
            model.train(self.training)
        return model, own

    def _traced(self) -> AbstractContextManager[tuple[Any, list[str]]]:
        from isograd.prediction.variants import traced

        model, own = self._made()
        return traced(model, self.batch(own), self.change, loss=self.loss, seed=self.seed)


def tell_explanation(found: "Explanation", form: str | None, output: str | None) -> None:
    """An explanation as text or JSON, on standard output or in a file."""
    from isograd.reporting import explanations

    if _output.form_of(output, form) == "json":
        _output.put(_output.json_text(asdict(found)), output)
        return
    here = output is None
    width, color = (_output.width(), _output.color()) if here else (None, False)
    _output.put(explanations.tell(found, width=width, color=color), output)


def tell_sweep(
    found: "Sweep",
    form: str | None,
    output: str | None,
    figure: str | None,
    *,
    select: Sequence[str],
    ignore: Sequence[str],
) -> int:
    """A sweep as text or JSON, and as a figure; returns the exit code."""
    from isograd.diagnosis import diagnose
    from isograd.reporting import sweeps

    verdicts = [
        None if point.record is None else diagnose(point.record, select=select, ignore=ignore)
        for point in found.points
    ]
    if _output.form_of(output, form) == "json":
        _output.put(_output.json_text(sweeps.as_plain(found, verdicts)), output)
    else:
        here = output is None
        width, color = (_output.width(), _output.color()) if here else (None, False)
        _output.put(sweeps.tell(found, verdicts, width=width, color=color), output)
    if figure is not None:
        from isograd.reporting import prediction_figures, theory_figures

        theory_figures.save(prediction_figures.sweep(found), figure)
        _output.say_written(figure)
    if any(point.error for point in found.points):
        return 2
    well = all(sweeps.is_well(*pair) for pair in zip(found.points, verdicts, strict=True))
    return int(not well)
