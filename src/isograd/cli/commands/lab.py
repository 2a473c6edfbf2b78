"""`isograd lab`: experiments that show every mechanism, with the number that must come out."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isograd.cli import _lab, _options, _output
from isograd.errors import InputError

if TYPE_CHECKING:
    from isograd.lab.verifying import Verified

EXAMPLE = """\
\b
Examples:
  isograd lab list
  isograd lab run products-of-factors --set depth=50
  isograd lab verify --fast
"""


@click.group(short_help="Run experiments that show every mechanism.", epilog=EXAMPLE)
def command() -> None:
    """Show every mechanism of signal and gradient with real numbers, theory beside measurement."""


@command.command("list", short_help="List every experiment.")
def list_() -> None:
    """Say the name and the question of every experiment, and which claims it answers."""
    from isograd.lab.experiments import questions

    told = questions()
    width = max(map(len, told), default=0)
    for name, question in told.items():
        click.echo(f"{name:{width}}  {question}")


@command.command(
    "run",
    short_help="Run one experiment, or --all.",
    epilog="\b\nExample:\n  isograd lab run depth-cliff --set width=32 --data digits",
)
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Every experiment.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting: depth=50. May be repeated; a list has commas.",
)
@click.option("--data", metavar="NAME", help="Data set; `isograd lab data` lists them.")
@click.option("--seed", type=_options.SEED, default=0, show_default=True)
@click.option(
    "--scale",
    type=click.Choice(["fast", "standard", "full"]),
    default="standard",
    show_default=True,
    help="full is for a GPU.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, mps or xpu.")
@click.option(
    "--output",
    metavar="DIR",
    default="isograd-lab",
    show_default=True,
    help="Folder for the result, its figure and its page.",
)
def run(
    name: str | None,
    every: bool,
    changes: tuple[str, ...],
    data: str | None,
    seed: int,
    scale: str,
    device: str,
    output: str,
) -> None:
    """Run the experiment NAME and write its numbers, its figure and its page."""
    if every == (name is not None):
        raise InputError("lab run wants either the NAME of an experiment or --all")
    _options.check_device(device)
    settings = _options.named(changes, "--set", "depth=50")
    names = _lab.names() if name is None else [_lab.known(name)]
    if name is None and settings:
        raise InputError("--set belongs to one experiment, not to --all")
    _lab.check_folder(output)
    from isograd.lab import EXPERIMENTS, judge, write
    from isograd.lab.running import run as run_one

    for one in names:
        experiment = EXPERIMENTS[one]
        if name is None and scale == "full" and "full" not in experiment.scales:
            continue
        options: dict[str, Any] = {"data": data} if name is not None or experiment.data else {}
        result = run_one(
            experiment, scale=scale, settings=settings, seed=seed, device=device, **options
        )
        _lab.tell(experiment, result, judge(experiment, result))
        paths = write(experiment, result, Path(output))
        for path in paths:
            _output.say_written(str(path))


@command.command(
    short_help="Run experiments again and compare.",
    epilog="\b\nExample:\n  isograd lab verify --fast",
)
@click.argument("names", nargs=-1)
@click.option(
    "--fast", "scale", flag_value="fast", default=True, help="Small, on bundled data (the default)."
)
@click.option("--all", "scale", flag_value="standard", help="At the size of the gallery.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Processes, each with one thread; one per core where left out.",
)
@click.option("--output", metavar="DIR", help="Write the results there too.")
@click.pass_context
def verify(
    ctx: click.Context, names: tuple[str, ...], scale: str, jobs: int | None, output: str | None
) -> None:
    """Run the experiments NAMES, or every one, and compare; exit with 1 on a miss."""
    chosen = [_lab.known(name) for name in names] or _lab.names()
    from isograd.lab.verifying import verify as verify_all
    from isograd.lab.writing import SUFFIXES

    done: list[Verified] = []
    folder = None if output is None else Path(output)
    count = min(jobs or os.cpu_count() or 1, len(chosen))
    for one in verify_all(chosen, scale, jobs=count, folder=folder, suffixes=SUFFIXES):
        _lab.tell_verified(one)
        done.append(one)
    checks = sum(len(one.checks) for one in done)
    missed = [one.name for one in done if not one.ok]
    click.echo(
        f"{len(done)} experiments, {checks} numbers: "
        + (f"missed in {', '.join(sorted(missed))}" if missed else "all came out")
    )
    ctx.exit(int(bool(missed)))


@command.command(
    short_help="Download a data set.", epilog="\b\nExample:\n  isograd lab fetch mnist"
)
@click.argument("name")
@click.option("--output", metavar="DIR", help="Its folder goes there; a cache where left out.")
def fetch(name: str, output: str | None) -> None:
    """Download the data set NAME (mnist, fashion-mnist or cifar10) and check its sums."""
    from isograd.lab.fetching import fetch as fetch_one

    _output.say_written(str(fetch_one(name, None if output is None else Path(output))))


@command.command(short_help="List the data sets.")
def data() -> None:
    """Say which data sets there are, and whether they are at hand."""
    from isograd.lab import images

    for name in (*images.BUNDLED, *images.FOLDERS):
        told = "at hand" if images.available(name) else images.absent(name).partition("; ")[2]
        click.echo(f"{name:14} {told}")
