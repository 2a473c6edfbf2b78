"""Runs the commands of docs/theory.md again and draws its figures.

python docs/make_theory.py
"""

import io
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from isograd.cli import _theory_figures, main
from isograd.reporting import theory_figures
from isograd.theory import activation, critical

PAGE = Path(__file__).with_name("theory.md")
IMAGES = Path(__file__).with_name("images") / "theory"
BLOCK = re.compile(r"```console\n\$ isograd ([^\n]*)\n(.*?)```", re.DOTALL)
_BIAS_VAR = 0.05


def run(words: str) -> str:
    """What a command prints."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        try:
            main(words.split())
        except SystemExit as ended:
            if ended.code:
                raise RuntimeError(f"isograd {words}: {out.getvalue()}") from ended
    return out.getvalue()


def page(text: str) -> str:
    """The page with what its commands print now."""
    return BLOCK.sub(lambda m: f"```console\n$ isograd {m[1]}\n{run(m[1])}```", text)


def correlations(path: str) -> None:
    """Three phases of tanh, side by side."""
    middle = critical("tanh", bias_var=_BIAS_VAR).weight_var
    assert middle is not None
    settings = [(weight_var, _BIAS_VAR) for weight_var in (1.0, middle, 3.5)]
    theory_figures.save(_theory_figures.correlations(activation("tanh"), settings), path)


def command(words: str) -> Callable[[str], None]:
    """A figure that a command draws."""

    def draw(path: str) -> None:
        run(f"{words} --figure {path}")

    return draw


FIGURES = {
    "correlations.png": correlations,
    "phases-tanh.png": command("theory diagram tanh"),
    "critical-gelu.png": command("theory critical gelu"),
    "gains-tanh.png": command("theory gains tanh"),
    "transform-tanh.png": command("theory transform tanh --depth 50"),
    "spectrum-tanh.png": command("theory spectrum tanh --depth 20 --bias-var 1e-5"),
}

if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
    for name, draw in FIGURES.items():
        draw(str(IMAGES / name))
