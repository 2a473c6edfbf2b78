"""`isograd tail`: follows a watched run from another process."""

import sys
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from isograd.findings import Alarm
    from isograd.records import Record
    from isograd.sinks.console import Console
    from isograd.storage import News, Run, Session

EXAMPLE = """\
\b
Example:
  isograd tail runs/today.isograd
"""

PAUSE = 0.5
"""Seconds between two looks into the file."""

AT_ONCE = 50
"""Looks read at once: of a long run not all are in memory."""


@click.command(short_help="Follow a watched run while it goes on.", epilog=EXAMPLE)
@click.argument("run")
@click.option("--session", type=click.IntRange(min=1), metavar="N", help="Default: the latest.")
def command(run: str, session: int | None) -> None:
    """Follow RUN, a file that isograd.watch writes, until the run ends: loss, alarms, worst layers.

    On a terminal one table that changes; else a line per look. Ctrl-C ends it, not the run.
    """
    from isograd.sinks.console import Console
    from isograd.storage import open_run

    with open_run(run, session=session) as opened:
        console = Console(sys.stdout, every_look=True)
        now = opened.session
        console.open(now.info)
        try:
            now = _follow(opened, console)
        except KeyboardInterrupt:
            console.close(None, f"{opened.session.state}, no longer followed")
            raise
        console.close(opened.diagnosis(), now.state)


def _follow(run: "Run", console: "Console") -> "Session":
    from isograd.storage import Mark

    mark, teller = Mark(), _Teller(console)
    while True:
        session = run.session  # before the news: what a run writes last is not missed
        news = run.since(mark, AT_ONCE)
        teller.tell(news)
        quiet, mark = news.mark == mark, news.mark
        # Of a run on another machine nobody here knows whether it is alive: until it says so.
        if quiet and session.state not in ("running", "unknown"):
            return session
        if quiet:
            time.sleep(PAUSE)


class _Teller:
    """Tells news in the order of the steps: losses up to a look, the look, its alarms."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._losses: list[tuple[int, float]] = []
        self._alarms: list[Alarm] = []

    def tell(self, news: "News") -> None:
        """Tells what is new; what came after looks that are still to be read waits for them."""
        self._losses += news.losses
        self._alarms += news.alarms
        for record in news.records:
            self._upto(record.step, record)
        if len(news.records) < AT_ONCE:
            self._upto(sys.maxsize)

    def _upto(self, step: int, record: "Record | None" = None) -> None:
        losses = [pair for pair in self._losses if pair[0] <= step]
        alarms = [alarm for alarm in self._alarms if alarm.last_step <= step]
        del self._losses[: len(losses)]
        self._alarms = [alarm for alarm in self._alarms if alarm.last_step > step]
        if losses:
            self._console.losses(losses)
        if record is not None:
            self._console.record(record)
        if alarms:
            self._console.alarms(alarms)
