"""What `isograd predict` builds: the network of a TARGET, without its parameters."""

import ast
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from isograd.cli import _batches, _targets
from isograd.errors import InputError, TargetError


def settings(words: Iterable[str]) -> dict[str, Any]:
    """Arguments of a factory from words such as `depth=48` and `act=gelu`.

    Raises:
        InputError: a word without a name or value, or a name given twice.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        if not name.isidentifier() or not text:
            raise InputError(f"--set: {word!r} is no name=value, such as depth=48")
        if name in found:
            raise InputError(f"--set: {name} is given twice")
        found[name] = value(text)
    return found


def value(text: str) -> Any:
    """A number, tuple, True, None … as Python writes it; any other text is a word."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def network(
    target: _targets.Target, found: Any, arguments: Mapping[str, Any]
) -> Callable[[], tuple[Any, Any]]:
    """Makes the model of a target, and the batch that came with it, each time it is called.

    Args:
        target: where it is from.
        found: the object that it names: a model, or what returns one or (model, batch).
        arguments: of the factory.

    Raises:
        TargetError: a model that is given arguments, or a factory that does not take them.
    """
    from torch import nn

    from isograd.prediction.recording import recording

    if isinstance(found, nn.Module):
        if arguments:
            raise TargetError(
                f"{target.text}: is a model, not a factory, and takes no --set; name a function "
                "that returns it"
            )
        return lambda: (found, None)
    if not callable(found):
        raise TargetError(
            f"{target.text}: is of type {type(found).__name__}; name a torch.nn.Module, or a "
            "factory that returns one or (model, batch)"
        )
    _fit(target, found, arguments)

    def make() -> tuple[Any, Any]:
        with recording():
            made = _targets.call(target, f"{target.attribute}()", lambda: found(**arguments))
        model, batch = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        if not isinstance(model, nn.Module):
            raise TargetError(
                f"{target.text}: returned an object of type {type(made).__name__}, not a model; "
                "name a factory that returns a torch.nn.Module or (model, batch)"
            )
        return model, batch

    return make


def _fit(target: _targets.Target, factory: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuses arguments that a factory does not take, and missing ones."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some built-in callables have no signature
        return
    kinds = [one.kind for one in parameters.values()]
    named = [
        n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for name in given:
            if name not in named:
                close = difflib.get_close_matches(name, named, n=3)
                known = (
                    f"did you mean {' or '.join(close)}"
                    if close
                    else (f"there is {', '.join(named)}" if named else "it takes none")
                )
                raise TargetError(f"{target.text}: takes no argument {name!r}; {known}")
    missing = [name for name in _targets._required(factory) if name not in given]
    if missing:
        more = " ".join(f"--set {name}=…" for name in missing)
        raise TargetError(f"{target.text}: needs the arguments {', '.join(missing)}; add {more}")


def batch(
    inputs: str | None, data: str | None, *, batch_size: int, seed: int
) -> Callable[[Any], Any]:
    """Judges --input and --data now; the returned function gives the batch.

    It takes the batch that came with the model, which counts where neither was given.

    Raises:
        InputError: both were given, or one of them is no good.
    """
    if inputs is not None and data is not None:
        raise InputError("--input and --data: give one of them; both say what goes in")
    if inputs is not None:
        from isograd.prediction.specs import parse  # not with torch in tow

        parse(inputs)
        return lambda _: inputs
    if data is not None:
        source = _batches.source(data, batch_size=batch_size, seed=seed)
        return lambda _: source().batch

    def own(found: Any) -> Any:
        if found is None:
            raise InputError(
                "there is nothing to predict on; add --input 'float32[32,3,224,224]' (type and "
                "shape of what goes in), --data, or let the factory return (model, batch)"
            )
        return found

    return own
