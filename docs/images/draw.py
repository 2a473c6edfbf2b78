"""Draws docs/images/report.svg, the picture of the README: `make picture`."""

import io
import re
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from isograd.checking import check
from isograd.cli import _batches, _targets
from isograd.reporting import render

ROOT = Path(__file__).parents[2]
TARGET, DATA = "examples/networks.py:sigmoid", "digits"
WIDTH = 104
LINES = 42
"""What a reader takes in at a glance: the profile and the first finding."""


def main() -> None:
    """Checks a network that does not train and saves its terminal report as SVG."""
    torch.manual_seed(0)
    model, _ = _targets.model(_targets.locate(f"{ROOT}/{TARGET}"))
    diagnosis = check(model, _batches.source(DATA, batch_size=64, seed=0)().batch)
    lines = render(diagnosis, "text", width=WIDTH, color=True).splitlines()[:LINES]
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    console.print(Text.from_ansi("\n".join(lines)))
    picture = console.export_svg(title=f"isograd check {TARGET} --data {DATA}", unique_id="r")
    # The reader's own font: a picture should fetch nothing.
    picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    picture = picture.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")
    picture = re.sub(r"<!--.*?-->", "", picture)
    text = "\n".join(line.rstrip() for line in picture.splitlines() if line.strip())
    Path(__file__).with_name("report.svg").write_text(f"{text}\n")


if __name__ == "__main__":
    main()
