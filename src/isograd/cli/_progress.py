"""Progress: a spinner on a terminal, for what takes more than a second."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DELAY = 1.0
"""Seconds of silence; a spinner that flashes by is noise."""


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows what is being done, on standard error, if that is a terminal.

    Args:
        what: such as "measuring".

    Yields:
        A function to tell how far it is: (done, of how many).
    """
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console

    status = Console(stderr=True).status(f"{what} …")
    timer = threading.Timer(DELAY, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda done, total: status.update(f"{what} … {done} of {total}")
    finally:
        timer.cancel()
        timer.join()  # it may be starting the spinner just now
        status.stop()


def _silent(_done: int, _total: int) -> None:
    """Tells nobody: there is no terminal."""
