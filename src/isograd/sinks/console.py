"""The sink `console`: a live table on the terminal; where there is none, a line now and then."""

import math
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from isograd.findings import Alarm, Diagnosis, Severity
from isograd.records import Record, RunInfo
from isograd.sinks import _view as view
from isograd.sinks._sink import Sink

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

LAYERS = 8
"""Rows of the table."""

REFRESH_SECONDS = 0.25
"""Between two drawings of the table; drawing takes some milliseconds of the training's time."""

QUIET_SECONDS = 30.0
"""Between two lines where there is no terminal; alarms are told at once."""

MOST_LOSSES = 4096
"""Beyond it every second one goes: the curve is as wide as a terminal."""

_COLUMNS = (
    ("forward.rms", "forward rms"),
    ("backward.rms", "backward rms"),
    ("weight.update_ratio", "update / weight"),
    ("forward.dead", "dead"),
    ("forward.saturated", "flat"),
)
_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_HEIGHTS = "▁▂▃▄▅▆▇█"


class Console(Sink):
    """Shows the loss, the alarms that stand and the layers worst off, as they change.

    Args:
        file: where; standard error where left out, so that what a program prints stays its own.
        every_look: whether each look gets a line where there is no terminal, and losses none; else
            one every half minute.
    """

    code = "console"

    def __init__(self, file: TextIO | None = None, *, every_look: bool = False) -> None:
        self._file = file
        self._every_look = every_look
        self._standing: view.Alarms = {}
        self._losses: list[tuple[int, float]] = []
        self._record: Record | None = None
        self._live: Live | None = None
        self._last = -math.inf
        self._said = ""

    def open(self, info: RunInfo) -> None:
        """Begins the table, or tells the first line."""
        from rich.console import Console as Terminal
        from rich.live import Live

        self._name = _clean(info.name)
        # Its width is the terminal's; a log has lines of any length.
        file = self._file or sys.stderr
        self._terminal = Terminal(file=file, highlight=False, soft_wrap=not file.isatty())
        if not self._terminal.is_terminal:
            self._say(f"isograd watches {info.name}")
            return
        self._live = Live(
            console=self._terminal,
            auto_refresh=False,  # a thread of its own would outlive a training that dies
            redirect_stdout=sys.stdout.isatty(),  # a pipe's content stays out of the terminal
        )
        self._live.start()

    def record(self, record: Record) -> None:
        """Shows a look."""
        self._record = record
        self._refresh(now=self._every_look and self._live is None)

    def losses(self, pairs: Sequence[tuple[int, float]]) -> None:
        """Shows the latest loss."""
        self._losses += pairs
        if len(self._losses) > MOST_LOSSES:
            self._losses = [*self._losses[:-1:2], self._losses[-1]]
        if self._live is not None or not self._every_look:
            self._refresh()

    def alarms(self, changes: Sequence[Alarm]) -> None:
        """Tells alarms at once."""
        from rich.text import Text

        known = {key: alarm.state for key, alarm in self._standing.items()}
        view.update(self._standing, changes)
        for alarm in changes:
            if known.get(view.key(alarm)) != alarm.state:
                known[view.key(alarm)] = alarm.state
                self._terminal.print(Text(_told(alarm), style=_style(alarm)))

    def close(self, diagnosis: Diagnosis | None, outcome: str) -> None:
        """Leaves the table as it stands last, and tells how the run ended."""
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            self._live.stop()
        elif (self._record or self._losses) and (line := self._line()) != self._said:
            self._say(line)
        findings = () if diagnosis is None else diagnosis.findings
        causes = ", ".join(f"{finding.code} {finding.cause}" for finding in findings)
        self._say(f"{self._name}: {outcome}" + (f"; {causes}" if causes else ""))

    def _refresh(self, *, now: bool = False) -> None:
        wait = QUIET_SECONDS if self._live is None else REFRESH_SECONDS
        if not now and time.monotonic() < self._last + wait:
            return
        self._last = time.monotonic()
        if self._live is None:
            self._say(self._line())
        else:
            self._live.update(self._table(), refresh=True)

    def _say(self, line: str) -> None:
        self._said = line
        self._terminal.print(line, markup=False)

    def _head(self) -> str:
        parts = []
        steps = [step for step, _ in self._losses[-1:]]
        steps += [self._record.step] if self._record else []
        if steps:
            parts.append(f"step {max(steps):,}")
        if self._losses:
            parts.append(f"loss {self._losses[-1][1]:.4g}")
        lr = self._record.fact("optimizer.lr") if self._record else None
        if isinstance(lr, (int, float)):
            parts.append(f"lr {lr:.3g}")
        if self._standing:
            parts.append("alarms " + ", ".join(sorted({code for code, *_ in self._standing})))
        return " · ".join(parts)

    def _line(self) -> str:
        """One line of a log: the head, and the layer worst off."""
        line = f"{self._name}: {self._head()}"
        for index in self._worst(1):
            assert self._record is not None
            pairs = [
                f"{head} {_number(key, number)}"
                for key, head in _COLUMNS
                if (number := _entry(self._record, key, index)) is not None
            ]
            line += f" · {_clean(self._record.sites[index].name)}: {', '.join(pairs)}"
        return line

    def _worst(self, most: int) -> list[int]:
        if self._record is None:
            return []
        return view.worst(self._record, view.named(self._standing.values()), most)

    def _table(self) -> "Group":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        width = self._terminal.width
        head = Text(f"{self._name}  ", style="bold").append(self._head(), style="default")
        curve = Text(_curve([loss for _, loss in self._losses], width), style="cyan")
        lines = [
            Text(_told(alarm), style=_style(alarm), no_wrap=True, overflow="ellipsis")
            for alarm in self._standing.values()
        ]
        if self._record is None:
            return Group(head, curve, *lines)
        rows = self._worst(LAYERS)
        shown = [
            (key, title)
            for key, title in _COLUMNS
            if any(_entry(self._record, key, index) is not None for index in rows)
        ]
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("layers, worst first", no_wrap=True, max_width=max(width // 3, 12))
        for _, title in shown:
            table.add_column(title, justify="right")
        for index in rows:
            numbers = [(key, _entry(self._record, key, index)) for key, _ in shown]
            cells = [
                Text(_number(key, x), style="" if x is None or math.isfinite(x) else "bold red")
                for key, x in numbers
            ]
            table.add_row(Text(_clean(self._record.sites[index].name)), *cells)
        return Group(head, curve, *lines, table)


def _entry(record: Record, key: str, index: int) -> float | None:
    """Of a site, of its weight, or of the activation that reads the site."""
    if key in view.WEIGHTS:
        parameters = record.sites[index].parameters
        weights = [p for p in parameters if record.parameters[p].is_weight]
        return view.value(record, key, weights[0]) if weights else None
    own = view.value(record, key, index)
    if own is None and key in view.SHARES:
        after = [record.value(key, reader) for reader in record.consumers(index)]
        return max((x for x in after if x is not None), default=None)
    return own


def _number(key: str, number: float | None) -> str:
    if number is None:
        return "–"
    if key in view.SHARES and math.isfinite(number):
        return f"{100 * number:.0f} %"
    return f"{number:.1e}"


def _told(alarm: Alarm) -> str:
    finding = alarm.finding
    if alarm.state == "withdrawn":
        return f"{finding.code} {finding.cause}: over after step {alarm.last_step:,}"
    return _clean(f"{finding.code} {finding.cause}, step {alarm.first_step:,}: {finding.message}")


def _clean(text: str) -> str:
    """Without characters that could steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _style(alarm: Alarm) -> str:
    return "green" if alarm.state == "withdrawn" else _STYLES[alarm.finding.severity]


def _curve(losses: Sequence[float], width: int) -> str:
    """The losses as bars, on a log scale where they are positive; a cross is no number."""
    step = max(math.ceil(len(losses) / max(width, 1)), 1)
    taken = losses[::-1][::step][::-1]
    finite = [x for x in taken if math.isfinite(x)]
    if not finite:
        return "×" * len(taken)
    scale = math.log if min(finite) > 0 else float
    low, high = scale(min(finite)), scale(max(finite))
    top = (len(_HEIGHTS) - 1) / ((high - low) or 1.0)
    return "".join(
        _HEIGHTS[round((scale(x) - low) * top)] if math.isfinite(x) else "×" for x in taken
    )
