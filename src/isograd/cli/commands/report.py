"""`isograd report`: shows a saved diagnosis again."""

import click

from isograd.cli import _output
from isograd.errors import InputError

EXAMPLE = """\
\b
Example:
  isograd report run.isograd --output report.html
"""


@click.command(short_help="Show a saved diagnosis again.", epilog=EXAMPLE)
@click.argument("run")
@click.option("--list", "listed", is_flag=True, help="List what is saved in RUN instead.")
@click.option("--entry", type=click.IntRange(min=1), metavar="N", help="Default: the latest.")
@_output.format_option
@_output.output_option
def command(
    run: str, *, listed: bool, entry: int | None, form: str | None, output: str | None
) -> None:
    """Show a diagnosis of RUN, a file that `isograd check --save` wrote."""
    from isograd import storage

    _output.check_output(output, form)
    stored = storage.load(run)
    if listed:
        for number, one in enumerate(stored, start=1):
            state = "healthy" if one.diagnosis.healthy else one.diagnosis.findings[0].cause
            click.echo(f"{number:4}  {one.saved}  {one.name or '-'}  {state}")
        return
    number = len(stored) if entry is None else entry
    if not 1 <= number <= len(stored):
        raise InputError(
            f"{run}: has no entry {number}, it holds {len(stored)}; "
            f"`isograd report {run} --list` lists them"
        )
    _output.write(stored[number - 1].diagnosis, form, output)
