"""What `isograd lab` says: names judged before torch is imported, results, comparisons."""

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from isograd.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isograd.lab.experiment import Experiment
    from isograd.lab.judging import Check
    from isograd.lab.result import Result
    from isograd.lab.verifying import Verified


def names() -> list[str]:
    """Every experiment, those of other packages last."""
    from importlib.metadata import entry_points

    from isograd.lab.experiments import questions

    foreign = sorted(point.name for point in entry_points(group="isograd.lab.experiments"))
    return [*questions(), *foreign]


def known(name: str) -> str:
    """The name of an experiment.

    Raises:
        InputError: there is none of that name.
    """
    every = names()
    if name in every:
        return name
    close = [one for one in every if name in one] or difflib.get_close_matches(name, every, n=3)
    hint = f"did you mean {' or '.join(close[:3])}" if close else "`isograd lab list` shows them"
    raise InputError(f"no experiment is named {name!r}; {hint}")


def check_folder(output: str) -> None:
    """Makes the folder of the results, before anything has been worked for.

    Raises:
        InputError: it cannot be made, or not be written to.
    """
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {output}: cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"--output {output}: cannot be written to; choose another folder")


def tell(experiment: "Experiment", result: "Result", checks: "Sequence[Check]") -> None:
    """A result in the terminal."""
    click.echo(f"{result.experiment}: {experiment.question()}")
    for note in result.notes:
        click.echo(f"  note: {note}")
    if not checks:
        for key, value in result.numbers.items():
            click.echo(f"  {key:32} {value:.6g}")
    for check in checks:
        _tell_check(check)
    for answer in experiment.answers:
        own = [check for check in checks if check.claim == answer.claim]
        if not own:
            click.echo(f"  {answer.claim}: not tested at these settings")
        elif not all(check.met for check in own):
            click.echo(f"  {answer.claim}: not shown here, a number did not come out")
        else:
            told = f": {answer.statement}" if answer.statement else ""
            click.echo(f"  {answer.claim} is {answer.verdict}{told}")


def tell_verified(one: "Verified") -> None:
    """A comparison in the terminal: one line, and one more for every number that was missed."""
    word = "ok  " if one.ok else "MISS"
    click.echo(f"{word} {one.name:36} {len(one.checks):3} numbers {one.seconds:7.1f} s")
    if one.trouble:
        click.echo(f"  {one.trouble}")
    for check in one.checks:
        if not check.met:
            _tell_check(check)


def _tell_check(check: "Check") -> None:
    mark = "✓" if check.met else "✗"
    value = "missing" if check.measured is None else f"{check.measured:.6g}"
    click.echo(f"  {mark} {check.number:32} {value:>12}  expected {check.wanted}  [{check.claim}]")
