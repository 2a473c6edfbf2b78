"""The text form of a watched run."""

import math

from isograd.reporting import _maps
from isograd.reporting import _summary as summary
from isograd.reporting import _watched as words
from isograd.reporting._numbers import counted, scientific
from isograd.reporting._textplot import sparkline
from isograd.reporting._watched import Watched
from isograd.reporting.as_text import NARROWEST, WIDTH, Pen, finding_text, rule_text

ROWS = 16
"""Layers of a map, at most."""

SERIES = ("forward.rms", "backward.rms", "weight.update_ratio", "forward.dead")
"""The maps that are shown; the page has all."""

_HEIGHTS = "▁▂▃▄▅▆▇█"


def tell(watched: Watched, *, width: int | None = None, color: bool = False) -> str:
    """The whole report as text, without a line break at its end."""
    pen = Pen(max(width or WIDTH, NARROWEST), color)
    latest = watched.latest
    blocks = [
        _verdict(watched, pen),
        _loss(watched, pen),
        *(over_time(one, pen) for one in _maps.maps(watched) if one.key in SERIES),
        *(finding_text(number, f, pen) for number, f in enumerate(latest.findings, 1)),
        rule_text(latest, pen) if latest.verdicts else "",
    ]
    return "\n\n".join(block for block in blocks if block)


def _verdict(watched: Watched, pen: Pen) -> str:
    level = words.level(watched)
    sign = {"healthy": "✓", "warning": "!", "error": "✗"}[level]
    head = f"{sign} {words.name(watched)}: {words.state(watched)}"
    numbers = " · ".join(f"{name} {text}" for name, text in words.tiles(watched))
    verdict = words.verdict(watched)
    gap = " · " if len(head) + 3 + len(verdict) <= pen.width else "\n  "
    lines = [
        f"{pen(head, level)}{gap}{verdict}",
        pen.paragraph(summary.subject(watched.latest.reading.seen), indent=2),
        pen.paragraph(numbers, indent=2),
    ]
    for alarm in watched.alarms:
        over = alarm.state == "withdrawn"
        style = "dim" if over else alarm.finding.severity.value
        label = f"{'over' if over else 'ALARM'} {alarm.finding.code}:"
        text = f"{words.alarm_words(alarm)}: {alarm.finding.message}"
        lines.append(pen.paragraph(text, label=label, style=style, indent=2))
    return "\n".join(lines)


def _loss(watched: Watched, pen: Pen) -> str:
    steps, values = watched.losses
    if not steps:
        return ""
    line = sparkline(values, pen.width - 4)
    return f"{pen('Loss', 'bold')}  steps {steps[0]:,} to {steps[-1]:,}\n  {pen(line, 'forward')}"


def over_time(one: "_maps.Map", pen: Pen) -> str:
    """A map as characters: a row per layer, all on one scale, first and last number at the ends."""
    count = len(one.names)
    shown = sorted({round(i * (count - 1) / (min(ROWS, count) - 1 or 1)) for i in range(ROWS)})
    shown = [row for row in shown if row < count]
    labels = [_maps.shorter(one.names[row], one) for row in shown]
    name = max(map(len, labels))
    long = max(pen.width - 2 - name - 2 - 2 * 9, 10)
    picks = _picks(len(one.columns), long)
    about = f"steps {one.steps[0]:,} to {one.steps[-1]:,}"
    thinned = f", {len(shown)} of {counted(count, 'layer')}" if len(shown) < count else ""
    about = f"{one.about}; {about}{thinned}"
    if len(one.title) + 2 + len(about) <= pen.width:
        lines = [f"{pen(one.title, 'bold')}  {pen(about, 'dim')}"]
    else:
        lines = [pen(one.title, "bold"), pen.paragraph(about, label="", indent=2)]
    low, high = _ends(one)
    for row, label in zip(shown, labels, strict=True):
        numbers = [column[row] for column in one.columns]
        cells = "".join(_cell(one.shown[k][row], low, high, share=one.share) for k in picks)
        style = "backward" if one.key.startswith("backward") else "forward"
        lines.append(
            f"  {label.ljust(name)} {_number(numbers[0], one):>8} "
            f"{pen(cells, style)} {_number(numbers[-1], one)}"
        )
    return "\n".join(lines)


def _number(number: float | None, one: "_maps.Map") -> str:
    if one.share and number is not None and math.isfinite(number):
        return f"{100 * number:.0f} %"
    return scientific(number)


def _picks(count: int, most: int) -> list[int]:
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _ends(one: "_maps.Map") -> tuple[float, float]:
    if one.share:
        return 0.0, 1.0
    middle, reach = _maps.scale(one)
    return middle - reach, middle + reach


def _cell(number: float | None, low: float, high: float, *, share: bool) -> str:
    if number is None:
        return " "
    if not math.isfinite(number):
        return "×"
    if not share and number <= 0:
        return "_"
    place = ((number if share else math.log10(number)) - low) / (high - low)
    return _HEIGHTS[round(min(max(place, 0.0), 1.0) * (len(_HEIGHTS) - 1))]
