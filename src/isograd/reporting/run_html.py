"""The HTML form of a watched run: one self-contained page."""

import math

from isograd.reporting import _figures as figures
from isograd.reporting import _maps, as_html
from isograd.reporting import _summary as summary
from isograd.reporting import _watched as words
from isograd.reporting._cards import cards
from isograd.reporting._chart import Curve, chart, linear_scale, log_scale
from isograd.reporting._markup import Markup, join, tag
from isograd.reporting._numbers import short
from isograd.reporting._page import frame, section, some
from isograd.reporting._profile import axis
from isograd.reporting._watched import Watched

LETTER = 6.9
"""Pixels of one letter of a name beside a map."""

CLOSE = 0.025
"""Part of the axis within which two flags would cover each other."""


def tell(watched: Watched) -> str:
    """The page."""
    latest = watched.latest
    sections = [
        section("time", "Over time", _over_time(watched)),
        section("alarms", "Alarms", alarms(watched)),
        section("findings", "Findings", cards(latest)),
        section("profile", "Profile over depth, latest look", figures.profiles(latest), "pair"),
        section("magnitudes", "Magnitudes", figures.magnitudes(latest), "pair"),
        section("layers", "Layers, worst first", as_html.layer_parts(latest)),
        section("model", "Model", some(as_html.tree_part(latest))),
        section("rules", "Rules", as_html.rule_parts(latest)),
        section("facts", "Facts", as_html.fact_parts(latest)),
    ]
    return frame(f"isograd: {words.name(watched)}", _hero(watched), sections)


def _over_time(watched: Watched) -> list[Markup]:
    """The loss and the maps, one below the other on one axis."""
    found = _maps.maps(watched)
    parts = [*some(loss(watched)), *(_maps.figure(one, watched) for one in found)]
    left = f"--left:{max(46, 12 + round(LETTER * _maps.longest(found)))}px"
    return [tag("div", *parts, class_="times", style=left)]


def _hero(watched: Watched) -> Markup:
    level = words.level(watched)
    sign = tag("span", as_html.SIGNS[level], class_="sign", aria_hidden="true")
    info, seen = watched.session.info, watched.latest.reading.seen
    first = words.verdict(watched)
    begun = info.started.replace("T", " ").replace("+00:00", " UTC")
    tiles = [tag("div", tag("dt", name), tag("dd", text)) for name, text in words.tiles(watched)]
    return tag(
        "header",
        tag("h1", sign, f"{words.name(watched)}: {words.state(watched)}"),
        tag("p", first[:1].upper() + first[1:], class_="first"),
        tag(
            "p",
            f"{summary.subject(seen)} · begun {begun} on {watched.session.host}",
            class_="quiet",
        ),
        tag("dl", *tiles, class_="tiles"),
        class_=f"hero {level}",
    )


def loss(watched: Watched) -> Markup | None:
    """The curve of the loss, with a numbered flag where each alarm was raised."""
    steps, values = words.curve(watched)
    if not steps:
        return None
    first, last = words.span(watched)
    finite = [x for x in values if math.isfinite(x)]
    wide = bool(finite) and min(finite) > 0 and max(finite) > 10 * min(finite)
    places = [(step - first) / max(last - first, 1) for step in steps]
    plot = chart(
        [Curve("loss", "seen", values)],
        log_scale(axis(values)) if wide else linear_scale(values, short),
        _maps.labels(first, last),
        style="loss",
        name=f"Loss from {short(values[0])} at step {steps[0]:,} to {short(values[-1])} at step "
        f"{steps[-1]:,}; {len(watched.alarms)} alarms.",
        tips=[f"step {step:,} · loss {short(x)}" for step, x in zip(steps, values, strict=True)],
        marks=_flags(watched, steps, places),
        places=places,
    )
    caption = "Loss over steps; a number stands where that alarm was raised"
    about = f"{short(values[0])} → {short(values[-1])}"
    head = tag("div", tag("h3", "Loss"), tag("span", about, class_="quiet"), class_="title")
    return tag("figure", head, plot, tag("figcaption", caption), class_="timeline")


def _flags(watched: Watched, steps: list[int], places: list[float]) -> list[tuple[int, str]]:
    """A mark at each alarm's first step; the numbers of those close to another are one flag."""
    near = {
        number: min(range(len(steps)), key=lambda i: abs(steps[i] - alarm.first_step))
        for number, alarm in enumerate(watched.alarms, 1)
    }
    flags: list[tuple[int, list[int]]] = []
    marks: dict[int, str] = {}
    for number, place in sorted(near.items(), key=lambda pair: (pair[1], pair[0])):
        marks[place] = ""
        if flags and places[place] - places[flags[-1][0]] < CLOSE:
            flags[-1][1].append(number)
        else:
            flags.append((place, [number]))
    marks.update({place: ",".join(map(str, sorted(numbers))) for place, numbers in flags})
    return sorted(marks.items())


def alarms(watched: Watched) -> list[Markup]:
    """A table of all alarms, in the order in which they were raised."""
    if not watched.alarms:
        return []
    body = []
    for number, alarm in enumerate(watched.alarms, 1):
        finding = alarm.finding
        over = alarm.state == "withdrawn"
        severity = "over" if over else finding.severity.value
        body.append(
            tag(
                "tr",
                tag("td", tag("span", str(number), class_="flag")),
                tag("td", tag("span", severity, class_=f"severity {severity}")),
                tag("th", f"{finding.code} {finding.cause}", scope="row"),
                tag("td", words.alarm_words(alarm)),
                tag("td", tag("code", summary.where(finding.sites, 2)) if finding.sites else None),
                tag("td", finding.message),
            )
        )
    heads = [
        tag("th", word, scope="col")
        for word in ("", "state", "alarm", "seen at", "where", "at its worst")
    ]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body), class_="alarms")
    return [join(tag("div", table, class_="scroll"))]
