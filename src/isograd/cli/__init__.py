"""The command line: `isograd COMMAND`."""

import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from isograd.cli import commands
from isograd.errors import IsogradError

BAD_INPUT = 2
"""Exit code of everything that the caller can put right; 0 is healthy, 1 has findings."""


class Commands(click.Group):
    """The files of `commands/`: one file, one command, imported only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Names of all commands."""
        return sorted(info.name for info in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports one command; `None` if there is no such file."""
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = importlib.import_module(f"{commands.__name__}.{cmd_name}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the words name; tells which there are if it is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            known = ", ".join(self.list_commands(ctx))
            raise click.UsageError(f"{error.message.rstrip('.')}; there is {known}", ctx) from error


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExample:\n  isograd check net.py:make --data digits",
)
@click.version_option(package_name="isograd", message="isograd %(version)s")
def app() -> None:
    """Tells whether signal and gradient survive the depth of a PyTorch network."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and exits: 0 healthy, 1 findings, 2 bad input (one line on stderr).

    Args:
        arguments: the words after `isograd`; those of the process where left out.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # Not standalone: click's own way of telling an error takes four lines.
        code = app.main(words or ["--help"], prog_name="isograd", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()  # the help, as it stands
        code = BAD_INPUT
    except click.ClickException as error:
        code = _refuse(error.format_message())
    except IsogradError as error:
        code = _refuse(str(error))
    except click.Abort:
        code = 130  # what a shell reports after Ctrl-C
    except BrokenPipeError:
        # Somebody read enough (`| head`); the interpreter must not fail again at its own flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code or 0)


def _refuse(message: str) -> int:
    click.echo(f"isograd: error: {' '.join(message.split())}", err=True)
    return BAD_INPUT
