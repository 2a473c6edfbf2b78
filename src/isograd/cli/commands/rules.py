"""`isograd rules`: every rule, by code."""

import click

from isograd.rules import RULES

EXAMPLE = """\
\b
Example:
  isograd rules
"""


@click.command(short_help="List every rule.", epilog=EXAMPLE)
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def command(form: str) -> None:
    """List the code and title of every rule."""
    if form == "text":
        for rule in RULES:
            click.echo(f"{rule.code}  {rule.title()}")
        return
    import json

    entries = [
        {"code": rule.code, "title": rule.title(), "sections": rule.sections()} for rule in RULES
    ]
    click.echo(json.dumps(entries, indent=2, ensure_ascii=False))
