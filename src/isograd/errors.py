"""Every error a user can meet: each says where, what was found and what to do."""

import operator
import sys
import warnings
from typing import Any


class IsogradError(Exception):
    """The parent of all errors raised on purpose; catching it catches them all."""


class InputError(IsogradError):
    """Something handed in (a model, batch, loss, file, option, code) cannot be used as it is."""


class TargetError(InputError):
    """A TARGET such as `module:factory` could not be turned into a model."""


class DataError(InputError):
    """A batch, data set or data file could not be read or does not fit."""


class LossError(InputError):
    """The loss is missing where one is needed, raises, or is not one real number."""


class ModelError(InputError):
    """The model's own forward or backward raised; the original error is the `__cause__`."""


class PredictionError(InputError):
    """The model cannot be predicted: an operation needs values that nobody has computed."""


class RemedyError(InputError):
    """A remedy does not fit a network: a precondition of it fails."""


class StorageError(IsogradError):
    """A run file cannot be read or written, or is of another schema."""


class RunTakenError(StorageError):
    """A process that is alive writes this run file already."""


class CatalogueError(IsogradError):
    """An entry of a catalogue is missing, given twice, or breaks its contract."""


class UntrainableError(AssertionError, IsogradError):
    """`assert_trainable` found something at or above its threshold; the message is the report."""


class StopTraining(IsogradError):  # noqa: N818  # it ends a loop, as StopIteration does
    """A watched training was asked to stop at a finding; `with isograd.watch(...)` takes it."""


class IsogradWarning(UserWarning):
    """Something went wrong that a training must not stop for; it says what was lost."""


def a_kind(value: object) -> str:
    """The type of what was found, with its article: `a list`, `an int`."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in tuple('aeio') else 'a'} {name}"


MOST_SEEDS = 2**62
"""Torch seeds with 64 bits; a few seeds beside the one that was handed in are used, too."""


def checked_seed(seed: Any, who: str) -> int:
    """A seed that was handed in, as an int.

    Args:
        seed: a whole number of any kind.
        who: the function that it was handed to.

    Raises:
        InputError: it is none, or one that torch does not seed with.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise InputError(
            f"{who}: seed={seed!r} is {a_kind(seed)}; give a whole number, such as 0"
        ) from None
    if not 0 <= number < MOST_SEEDS:
        raise InputError(
            f"{who}: seed={seed!r} is out of range; give a whole number from 0 to 2**62 - 1"
        )
    return number


def warn(message: str) -> None:
    """Warns, and never raises, not even where warnings are errors: somebody's training goes on."""
    try:
        warnings.warn(message, IsogradWarning, stacklevel=_in_the_loop())
    except IsogradWarning:
        print(f"IsogradWarning: {message}", file=sys.stderr)  # noqa: T201  # nobody else tells it


def _in_the_loop() -> int:
    """Stack level of the line of the user's that led here, seen from `warn`."""
    level, frame = 2, sys._getframe(2)
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("isograd", "torch"):
            return level
        level, frame = level + 1, frame.f_back
    return level
