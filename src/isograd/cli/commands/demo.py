"""`isograd demo`: a network that does not train and one that does, side by side."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import click

from isograd.cli import _batches, _output
from isograd.cli._progress import progress

if TYPE_CHECKING:
    from torch import nn

DEPTH, WIDTH, STEPS, SEED = 20, 64, 30, 0
REPORT = "isograd-report.html"
ILL, WELL = "20 sigmoid layers", "20 residual layers"


EXAMPLE = """\
\b
Example:
  isograd demo
"""


@click.command(short_help="Check a network that does not train, and one that does.", epilog=EXAMPLE)
@click.option(
    "--output", metavar="FILE", default=REPORT, show_default=True, help="Where the page goes."
)
def command(output: str) -> None:
    """Check a 20-layer sigmoid network on scikit-learn's digits, then a healthy one.

    Writes the first diagnosis as a page, too. Needs the extra `demo`.
    """
    _output.check_file(output)
    data = _batches.source("digits", batch_size=WIDTH, seed=SEED)()
    for build, title in ((sick, ILL), (well, WELL)):
        _show(build, title, data, output if build is sick else None)


def sick() -> "nn.Module":
    """Twenty plain sigmoid layers as torch initializes them: the gradient dies on its way."""
    from torch import nn

    layers: list[nn.Module] = []
    for _ in range(DEPTH - 1):
        layers += [nn.Linear(WIDTH, WIDTH), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


def well() -> "nn.Module":
    """As deep, but trainable: each layer adds to what came before, from a normalized look at it."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(WIDTH)
            self.linear = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            added: torch.Tensor = self.linear(torch.relu(self.norm(x)))
            return x + added

    blocks = [Block() for _ in range(DEPTH - 2)]
    head = [nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)]
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), *blocks, *head)


def _show(
    build: Callable[[], "nn.Module"], title: str, data: _batches.Data, page: str | None
) -> None:
    import torch

    from isograd.checking import check

    torch.manual_seed(SEED)
    with progress(f"{title}, step") as tell:
        diagnosis = check(
            build(),
            data.batch,
            optimizer=partial(torch.optim.Adam, lr=1e-3),
            data=data.batches,
            steps=STEPS,
            seed=SEED,
            progress=tell,
        )
    click.echo(f"== {title} on digits, {STEPS} steps of Adam ==\n")
    _output.write(diagnosis, "text", None)
    click.echo()
    if page is not None:
        _output.write(diagnosis, "html", page)
