"""The terminal: how wide it is, and which colors and characters it can show."""

from typing import Any

from isograd.findings import Diagnosis
from isograd.reporting.as_text import tell

WIDEST = 120
"""Lines of prose beyond this are hard to read."""

_PLAIN = str.maketrans("█▉▊▋▌▍▎▏▒▁▂▃▄▅▆▇×·–…◂─✗✓²→", "#####|||%_.-=+*%x--~<-x+2>")
"""What stands for the characters of plots where the terminal has ASCII alone."""


def write(diagnosis: Diagnosis, **console_options: Any) -> None:
    """Prints the text form to a `rich.console.Console` made with these options."""
    from rich.console import Console
    from rich.text import Text

    console = Console(**console_options)
    width = min(console.width, WIDEST)
    color = console.is_terminal and not console.no_color
    text = tell(diagnosis, width=width, color=color)
    if "utf" not in console.encoding.lower():
        encoding = console.encoding
        text = text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    console.print(Text.from_ansi(text), soft_wrap=True, highlight=False)
