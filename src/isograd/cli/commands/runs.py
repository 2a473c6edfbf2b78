"""`isograd runs`: the watched runs of a folder."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isograd.cli import _output
from isograd.errors import InputError, StorageError

if TYPE_CHECKING:
    from isograd.storage import Progress, Session

EXAMPLE = """\
\b
Example:
  isograd runs runs
"""

SUFFIX = ".isograd"
"""What a run file's name ends with where it is looked for; `report` takes any name."""

_COLORS = {"running": "green", "finished": None, "unknown": "yellow"}


@dataclass(frozen=True)
class _Row:
    file: str
    several: bool
    """Whether its file holds more than one."""
    session: "Session"
    progress: "Progress"
    alarms: list[str]
    """Codes of those that stand."""


@click.command(short_help="List watched runs.", epilog=EXAMPLE)
@click.argument("folder", default=".", required=False)
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def command(folder: str, form: str) -> None:
    """List the watched runs in FOLDER and below, the latest first; of one file where it is one."""
    if not os.path.exists(folder):
        raise InputError(f"{folder}: there is no such folder; give one that holds run files")
    rows: list[_Row] = []
    for file in _files(Path(folder)):
        try:
            rows += _read(file, folder)
        except StorageError as error:
            if os.path.isfile(folder):
                raise
            click.echo(f"isograd: left out: {error}", err=True)
    rows.sort(key=lambda row: row.session.info.started, reverse=True)
    if form == "json":
        _output.put(_output.json_text([_plain(row) for row in rows]), None)
    elif rows:
        _table(rows)
    else:
        click.echo(
            f"no watched run in {folder}: isograd.watch(run=...) writes one, {SUFFIX} at the end "
            "of its name"
        )


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    for place, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if name.endswith(SUFFIX))


def _read(file: Path, folder: str) -> Iterator[_Row]:
    from isograd.storage import open_run, sessions

    found = sessions(file)
    name = str(file.relative_to(folder)) if file != Path(folder) else str(file)
    for session in found:
        with open_run(file, session=session.number) as run:
            standing = [a.finding.code for a in run.alarms() if a.state != "withdrawn"]
            yield _Row(name, len(found) > 1, session, run.progress(), sorted(set(standing)))


def _table(rows: list[_Row]) -> None:
    heads = ("run", "name", "started", "step", "looks", "state", "loss", "alarms")
    right = {"step", "looks", "loss"}
    lines: list[tuple[str, ...]] = [
        (
            row.file + (f" --session {row.session.number}" if row.several else ""),
            row.session.info.name,
            _when(row.session.info.started),
            "–" if row.progress.step is None else f"{row.progress.step:,}",
            f"{row.progress.looks:,}",
            row.session.state,
            "–" if row.progress.loss is None else f"{row.progress.loss:.4g}",
            " ".join(row.alarms) or "–",
        )
        for row in rows
    ]
    lines = [tuple(map(_output.clean, line)) for line in lines]
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]

    def line(cells: tuple[str, ...]) -> list[str]:
        return [
            cell.rjust(width) if head in right else cell.ljust(width)
            for cell, width, head in zip(cells, widths, heads, strict=True)
        ]

    click.secho("  ".join(line(heads)).rstrip(), dim=True)
    for row, cells in zip(rows, lines, strict=True):
        padded = line(cells)
        padded[5] = click.style(padded[5], fg=_COLORS.get(row.session.state, "red"))
        if row.alarms:
            padded[7] = click.style(padded[7], fg="yellow")
        click.echo("  ".join(padded).rstrip())


def _when(started: str) -> str:
    """In the reader's own time zone; as it is where it is no time."""
    try:
        return f"{datetime.fromisoformat(started).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return started


def _plain(row: _Row) -> dict[str, Any]:
    session = row.session
    return {
        "file": row.session.info.path,
        "session": session.number,
        "name": session.info.name,
        "started": session.info.started,
        "ended": session.ended,
        "state": session.state,
        "host": session.host,
        "pid": session.pid,
        "step": row.progress.step,
        "looks": row.progress.looks,
        "loss": row.progress.loss,
        "alarms": row.alarms,
    }
