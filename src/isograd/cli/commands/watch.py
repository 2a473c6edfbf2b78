"""`isograd watch`: runs somebody's training, watched."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from isograd.errors import InputError
from isograd.integrations.scripts import environment
from isograd.watching import default_path

EXAMPLE = """\
\b
Examples:
  isograd watch -- python train.py --epochs 3
  isograd watch --run runs/today.isograd --on-finding stop -- torchrun --nproc-per-node 4 train.py
"""


@click.command(
    short_help="Run a training program, watched.",
    epilog=EXAMPLE,
    context_settings={"allow_interspersed_args": False},
)
@click.option("--run", metavar="FILE", help="The run file. Default: isograd-runs/ and the time.")
@click.option(
    "--overhead",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.02,
    show_default=True,
    help="Share of the time that watching may cost.",
)
@click.option("--every", type=click.IntRange(min=1), metavar="N", help="Look at every Nth step.")
@click.option(
    "--on-finding",
    type=click.Choice(["warn", "stop"]),
    default="warn",
    show_default=True,
    help="Stop: the program ends, with exit code 1.",
)
@click.option(
    "--sinks",
    default="sqlite",
    show_default=True,
    metavar="CODES",
    help="Where readings go: sqlite, jsonl, console, tensorboard, wandb, mlflow; with commas.",
)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND…")
def command(
    run: str | None,
    overhead: float,
    every: int | None,
    on_finding: str,
    sinks: str,
    words: tuple[str, ...],
) -> int:
    """Run COMMAND unchanged and watch the first model that each Python in it trains.

    Exit code: that of COMMAND; 2 for bad input.
    """
    codes = _sinks(sinks)
    file = str(default_path()) if run is None else _file(run)
    options = {
        "run": os.path.abspath(file),  # for the command may go elsewhere
        "overhead": overhead,
        "every": every,
        "on_finding": on_finding,
        "sinks": codes,
    }
    with tempfile.TemporaryDirectory(prefix="isograd-") as folder:
        note = Path(folder) / "note"
        code = _execute(words, environment(options, note))
        told = note.read_text(encoding="utf-8") if note.exists() else ""
    if not told:
        click.echo(
            "isograd: nothing was watched: no Python in this command called a torch module whose "
            "parameters an optimizer holds (docs/watch.md names the limits)",
            err=True,
        )
    else:
        places = [place for sink in _chosen(codes) if (place := sink.where(file))]
        click.echo(f"isograd: watched; see {'; '.join(places) or 'above'}", err=True)
    return code


def _file(run: str) -> str:
    if not run or Path(run).is_dir():
        raise InputError(f"--run {run!r}: not a file; name one, such as runs/today.isograd")
    there = next(folder for folder in Path(run).absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"--run {run}: nothing can be written in {there}; name another place")
    return run


def _chosen(codes: Sequence[str]) -> list[Any]:
    from isograd.sinks import SINKS

    return [SINKS[code] for code in codes]


def _sinks(text: str) -> list[str]:
    from isograd.sinks import SINKS

    codes = text.replace(",", " ").split()
    known = sorted(sink.code for sink in SINKS)
    for code in codes:
        if code not in known:
            raise InputError(f"--sinks: no sink {code!r}; there is {', '.join(known)}")
        package = SINKS[code].package
        if package and find_spec(package) is None:
            raise InputError(f"--sinks: {code} needs {package}: pip install 'isograd[{code}]'")
    return codes


def _execute(words: Sequence[str], env: dict[str, str]) -> int:
    """The exit code of a command, 128 and the number where a signal ended it."""
    try:
        process = subprocess.Popen(words, env=env)
    except OSError as error:
        hint = f"; write python {words[0]}" if words[0].endswith(".py") else ""
        raise InputError(f"{words[0]}: cannot be run: {error.strerror}{hint}") from error

    def forward(number: int, _: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    # Ctrl-C reaches both; it is for the command to say what comes of it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    terminate = signal.signal(signal.SIGTERM, forward)
    try:
        code = process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, terminate)
    return code if code >= 0 else 128 - code
