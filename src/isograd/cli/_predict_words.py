"""The words of `isograd predict`, judged before torch is imported."""

import ast
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isograd.cli import _batches, _options, _output
from isograd.errors import InputError

if TYPE_CHECKING:
    from isograd.prediction.changes import Change

MOST_POINTS = 200
"""Of a sweep."""
_FORMS = ("text", "json")
"""In which explanations and sweeps are told."""


def settings(words: Iterable[str]) -> dict[str, Any]:
    """Arguments of a factory from words such as `depth=48` and `act=gelu`.

    Raises:
        InputError: a word without a name or value, or a name given twice.
    """
    given = _options.named(words, "--set", "depth=48")
    return {name: _value(text) for name, text in given.items()}


def change(
    inits: Iterable[str], activations: Iterable[str], residual_scale: float | None
) -> "Change":
    """What --init, --activation and --residual-scale do to a network.

    Raises:
        InputError: a word that is no such thing.
    """
    from isograd.prediction import changes  # loads no torch

    return changes.Change(changes.inits(inits), changes.activations(activations), residual_scale)


def swept(words: Sequence[str], given: Mapping[str, Any]) -> tuple[str | None, list[Any]]:
    """Name and values of a sweep, from `depth=12,24,48` or `depth=5:100:20` (from:to:points).

    Args:
        words: of --sweep, one at most; `(None, [])` of none.
        given: what --set gives.

    Raises:
        InputError: not of that form, or several, or also set.
    """
    from isograd.prediction import changes

    if not words:
        return None, []
    if len(words) > 1:
        raise InputError(f"--sweep: {len(words)} are given; sweep one argument, and --set others")
    (word,) = words
    name, _, text = word.partition("=")
    name = name.replace("-", "_")
    if not name.isidentifier() or not text:
        raise InputError(f"--sweep: {word!r} is no name=values, such as depth=12,24,48")
    if name in given:
        raise InputError(f"--sweep: {name} is set by --set, too; leave that out")
    between = text.split(":")
    grid = len(between) == 3 or all(isinstance(_value(part), (int, float)) for part in between)
    a_grid = len(between) > 1 and grid and not {"=", ","} & {*text}
    values = _grid(text) if a_grid else _listed(text)
    if len(values) > MOST_POINTS:
        raise InputError(f"--sweep: {len(values)} values of {name}, at most {MOST_POINTS}")
    for value in values:  # typos now, while they cost nothing; an argument may bear the name
        if name == "init":
            changes.inits([str(value)])
    return name, values


def _listed(text: str) -> list[Any]:
    try:
        found = ast.literal_eval(f"[{text}]")
    except (ValueError, SyntaxError):
        found = [_value(part.strip()) for part in text.split(",")]
    if "" in found:
        raise InputError(f"--sweep: {text!r} has an empty value")
    return list(found)


def _grid(text: str) -> list[Any]:
    numbers = [_value(part) for part in text.split(":")]
    finite = all(isinstance(x, (int, float)) and math.isfinite(x) for x in numbers)
    if len(numbers) != 3 or not finite:
        raise InputError(f"--sweep: {text!r} is no from:to:points, such as 5:100:20")
    low, high, points = numbers
    if not isinstance(points, int) or points < 2 or low == high:
        raise InputError(f"--sweep: {text!r}: from and to differ, with 2 points or more")
    step = (high - low) / (min(points, MOST_POINTS + 1) - 1)
    found = [low + step * i for i in range(min(points, MOST_POINTS + 1))]
    if isinstance(low, int) and isinstance(high, int):
        return list(dict.fromkeys(round(x) for x in found))
    return found


def _value(text: str) -> Any:
    """A number, tuple, True, None … as Python writes it; any other text is a word."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def batch(
    inputs: str | None, data: str | None, *, loss: str | None, batch_size: int, seed: int
) -> Callable[[Any], Any]:
    """Judges --input and --data now; the returned function gives the batch.

    It takes the batch that came with the model, which counts where neither was given.

    Raises:
        InputError: both were given, or one of them is no good.
    """
    if inputs is not None and data is not None:
        raise InputError("--input and --data: give one of them; both say what goes in")
    if inputs is not None:
        from isograd.prediction.specs import parse  # loads no torch

        _, target = parse(inputs)
        if target is None and loss is not None and ":" not in loss:
            raise InputError(
                f"--loss {loss} compares with targets; name them, too: --input '{inputs} -> "
                "int64[32]<10' (or float32[32,10])"
            )
        return lambda _: inputs
    if data is not None:
        source = _batches.source(data, batch_size=batch_size, seed=seed)
        return lambda _: _batches.unplaced(source())

    def own(found: Any) -> Any:
        if found is None:
            raise InputError(
                "there is nothing to predict on; add --input 'float32[32,3,224,224]' (type and "
                "shape of what goes in), --data, or let the factory return (model, batch)"
            )
        return found

    return own


def check_output(
    form: str | None,
    output: str | None,
    *,
    explain: str | None,
    sweep: str | None,
    figure: str | None,
    save: str | None,
) -> None:
    """Refuses outputs that do not go together or cannot be written.

    Raises:
        InputError: so it is.
    """
    _output.check_output(output, form)
    one = "--explain" if explain is not None else "--sweep" if sweep is not None else ""
    if explain is not None and sweep is not None:
        raise InputError("--explain and --sweep: give one of them; a sweep has no one place")
    if one and save is not None:
        raise InputError(f"--save keeps diagnoses; leave it or {one} out")
    if one and _output.form_of(output, form) not in _FORMS:
        raise InputError(f"{one} is told as {' or '.join(_FORMS)}; say so with --format")
    if save is not None:
        _output.check_file(save)
    if figure is not None:
        if sweep is None:
            raise InputError("--figure draws a sweep; add --sweep, or write a report as .html")
        from isograd.reporting import theory_figures

        _output.check_file(figure)
        theory_figures.check(str(Path(figure)))
