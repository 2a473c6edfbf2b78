"""`isograd explain`: what one rule sees, why it matters, when it is wrong, what to do."""

import click

from isograd.explaining import explain

EXAMPLE = """\
\b
Example:
  isograd explain IG101
"""


@click.command(short_help="Say what a rule sees and what to do about it.", epilog=EXAMPLE)
@click.argument("code")
def command(code: str) -> None:
    """Say what the rule CODE sees, why it matters, when it is wrong and what to do."""
    click.echo(explain(code))
