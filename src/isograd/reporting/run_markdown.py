"""The Markdown form of a watched run: for a comment or a lab book."""

from isograd.reporting import _maps, as_markdown
from isograd.reporting import _summary as summary
from isograd.reporting import _watched as words
from isograd.reporting._textplot import sparkline
from isograd.reporting._watched import Watched
from isograd.reporting.as_markdown import MOST, SIGNS, WIDTH, fenced, folded, plain
from isograd.reporting.as_text import Pen
from isograd.reporting.run_text import SERIES, over_time


def tell(watched: Watched) -> str:
    """The state, the numbers, a table of alarms, and the rest folded away."""
    diagnosis = watched.latest
    pen = Pen(WIDTH, color=False)
    shown = [over_time(one, pen) for one in _maps.maps(watched) if one.key in SERIES]
    sign = SIGNS[words.level(watched)]
    curve = sparkline(watched.losses[1], WIDTH - 2)
    blocks = [
        f"### {sign} {plain(words.name(watched))}: {plain(words.state(watched))}",
        plain(words.verdict(watched)),
        plain(summary.subject(watched.latest.reading.seen)),
        _numbers(watched),
        fenced(f"loss\n{curve}") if curve else "",
        _alarms(watched),
        as_markdown.table(diagnosis),
        *(as_markdown.details(n, f) for n, f in enumerate(diagnosis.findings[:MOST], 1)),
        folded("Layers over time", fenced("\n\n".join(shown))),
    ]
    return "\n\n".join(block for block in blocks if block)


def _numbers(watched: Watched) -> str:
    names, texts = zip(*words.tiles(watched), strict=True)
    rows = [names, ["---"] * len(names), map(plain, texts)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _alarms(watched: Watched) -> str:
    if not watched.alarms:
        return ""
    lines = ["| alarm | state | seen at | where | at its worst |", "|---|---|---|---|---|"]
    for alarm in watched.alarms[:MOST]:
        finding = alarm.finding
        over = alarm.state == "withdrawn"
        cells = (
            f"{finding.code} {finding.cause}",
            "over" if over else finding.severity.value,
            words.alarm_words(alarm),
            summary.where(finding.sites, 2),
            finding.message,
        )
        lines.append(f"| {' | '.join(map(plain, cells))} |")
    return "\n".join(lines)
