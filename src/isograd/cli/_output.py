"""Where a diagnosis goes: the terminal or a file, and the exit code it stands for."""

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isograd.errors import InputError
from isograd.findings import Severity

if TYPE_CHECKING:
    from isograd.findings import Diagnosis
    from isograd.repairs.result import Repair

FORMS = ("text", "json", "html", "sarif", "markdown")

_SUFFIXES = {
    "": "text",
    ".txt": "text",
    ".log": "text",
    ".json": "json",
    ".html": "html",
    ".htm": "html",
    ".sarif": "sarif",
    ".md": "markdown",
}

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(FORMS),
    help="Default: told by the suffix of --output, else text.",
)
output_option = click.option(
    "--output", metavar="FILE", help="Write the report to FILE instead of standard output."
)
fail_option = click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "never"]),
    default="warning",
    show_default=True,
    help="Exit with code 1 if something this severe, or more, was found.",
)


def write(
    diagnosis: "Diagnosis | Repair",
    form: str | None,
    output: str | None,
    *,
    artifact: Path | None = None,
) -> None:
    """Renders a diagnosis or a repair and puts it where the user wants it.

    Args:
        diagnosis: what to tell.
        form: one of FORMS; told by the suffix of the file where left out, else text.
        output: a file; standard output where left out.
        artifact: the file that defines the model, which SARIF points to.

    Raises:
        InputError: the file cannot be written.
    """
    from isograd.reporting import render

    here = output is None
    text = render(
        diagnosis,
        form_of(output, form),
        width=width() if here else None,
        color=here and color(),
        artifact=artifact,
    )
    put(text.rstrip("\n"), output)


def form_of(output: str | None, form: str | None) -> str:
    """The form asked for, or told by the suffix of the file; text where neither tells."""
    return form or _SUFFIXES[_suffix(output)]


def put(text: str, output: str | None) -> None:
    """Writes a text to a file, or to standard output.

    Raises:
        InputError: the file cannot be written.
    """
    if output is None:
        click.echo(text)
        return
    try:
        Path(output).write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output {output}: cannot be written: {error.strerror}") from error
    say_written(output)


def say_written(name: str) -> None:
    """Tells that a file was written."""
    click.echo(f"wrote {name}", err=True)


def json_text(data: Any) -> str:
    """Strict JSON of plain values; what is not finite is the string "nan", "inf" or "-inf"."""
    return json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)


def exit_code(diagnosis: "Diagnosis", fail_on: str) -> int:
    """1 if something at or above the threshold was found, else 0."""
    if diagnosis.severity is None or fail_on == "never":
        return 0
    return int(diagnosis.severity.reaches(Severity(fail_on)))


def check_output(output: str | None, form: str | None) -> None:
    """Refuses a file that cannot be written or named, before anything costly is done.

    Args:
        output: the file; `None` for standard output.
        form: what will be in it; told by its suffix where left out.

    Raises:
        InputError: it is a folder or in none, or its suffix tells no form.
    """
    if output is None:
        return
    check_file(output)
    if form is None and _suffix(output) not in _SUFFIXES:
        known = ", ".join(suffix for suffix in _SUFFIXES if suffix)
        raise InputError(
            f"--output {output}: no report is written as {_suffix(output)}; "
            f"use {known}, or say --format ({', '.join(FORMS)})"
        )


def check_file(name: str) -> None:
    """Refuses what is no place for a file.

    Raises:
        InputError: it is a folder, or in none.
    """
    if not os.path.isdir(Path(name).absolute().parent):
        raise InputError(f"{name}: there is no folder {Path(name).parent}; make it first")
    if os.path.isdir(name):
        raise InputError(f"{name}: is a folder; name a file in it")


def _suffix(output: str | None) -> str:
    return Path(output or "").suffix.lower()


def clean(text: str) -> str:
    """The text without characters that could steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def color() -> bool:
    """Whether standard output shows colors."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size((100, 24)).columns
