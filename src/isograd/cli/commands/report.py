"""`isograd report`: shows a watched run, or a saved diagnosis, again."""

import click

from isograd.cli import _output
from isograd.errors import InputError

EXAMPLE = """\
\b
Example:
  isograd report run.isograd --output report.html
"""


@click.command(short_help="Show a watched run, or a saved diagnosis.", epilog=EXAMPLE)
@click.argument("run")
@click.option("--list", "listed", is_flag=True, help="List what is in RUN instead.")
@click.option("--session", type=click.IntRange(min=1), metavar="N", help="A watched run of RUN.")
@click.option("--entry", type=click.IntRange(min=1), metavar="N", help="A saved diagnosis of RUN.")
@_output.format_option
@_output.output_option
def command(
    run: str,
    *,
    listed: bool,
    session: int | None,
    entry: int | None,
    form: str | None,
    output: str | None,
) -> None:
    """Show what is in RUN, a file that isograd.watch or `isograd check --save` wrote.

    The latest watched run, also while it goes on; of a file without one the latest diagnosis.
    """
    from isograd import storage

    _output.check_output(output, form)
    if session is not None and entry is not None:
        raise InputError("--session and --entry exclude each other; leave one out")
    if listed:
        _list(run)
    elif session is not None or (entry is None and storage.sessions(run)):
        _watched(run, session, form, output)
    else:
        _diagnosis(run, entry, form, output)


def _list(run: str) -> None:
    from isograd import storage

    for one in storage.sessions(run):
        click.echo(
            f"--session {one.number:<3} {one.info.started}  {_output.clean(one.info.name)}  "
            f"{_output.clean(one.state)}"
        )
    for number, stored in enumerate(storage.load(run), start=1):
        state = "healthy" if stored.diagnosis.healthy else stored.diagnosis.findings[0].cause
        click.echo(f"--entry {number:<5} {stored.saved}  {stored.name or '-'}  {state}")


def _watched(run: str, session: int | None, form: str | None, output: str | None) -> None:
    from isograd.reporting import render_run
    from isograd.storage import open_run

    here = output is None
    with open_run(run, session=session) as opened:
        text = render_run(
            opened,
            _output.form_of(output, form),
            width=_output.width() if here else None,
            color=here and _output.color(),
        )
    _output.put(text.rstrip("\n"), output)


def _diagnosis(run: str, entry: int | None, form: str | None, output: str | None) -> None:
    from isograd import storage

    stored = storage.load(run)
    number = len(stored) if entry is None else entry
    if not 1 <= number <= len(stored):
        raise InputError(
            f"{run}: has no entry {number}, it holds {len(stored)}; "
            f"`isograd report {run} --list` lists them"
        )
    _output.write(stored[number - 1].diagnosis, form, output)
