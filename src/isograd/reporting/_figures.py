"""The figures of a page: profiles over depth, the loss of the rehearsal, magnitudes."""

from collections.abc import Sequence

from isograd.findings import Diagnosis
from isograd.records import Number, Record
from isograd.reporting import _beside as beside
from isograd.reporting import _summary as summary
from isograd.reporting._chart import Curve, chart, linear_scale, log_scale, spaced
from isograd.reporting._heat import heat
from isograd.reporting._markup import Markup, join, tag
from isograd.reporting._numbers import counted, rate, scientific, short
from isograd.reporting._predicted import band
from isograd.reporting._profile import Row, axis, rows
from isograd.reporting._profile import rate as rate_of

_WAYS = {
    "forward": ("Signal, forward", "rms of every weight layer's output", "per layer"),
    "backward": ("Gradient, backward", "rms of dLoss/d(output)", "per layer, back from the loss"),
}


def profiles(diagnosis: Diagnosis) -> list[Markup]:
    """Forward and backward rms over depth; a way without numbers is left out."""
    full = rows(diagnosis)
    return [
        _profile(diagnosis, full, way)
        for way in _WAYS
        if any(getattr(row, way) is not None for row in full)
    ]


def _profile(diagnosis: Diagnosis, full: list[Row], way: str) -> Markup:
    title, what, unit = _WAYS[way]
    curves = _curves(diagnosis, full, way)
    shown = [x for c in curves for x in (*c.numbers, *c.edges(1), *c.edges(-1))]
    numbers = [x for x in curves[0].numbers if x is not None]
    plot = chart(
        curves,
        log_scale(axis(shown)),
        spaced([str(row.depth) for row in full]),
        style=way,
        name=f"{title}: from {scientific(numbers[0])} at the first of {len(full)} layers to "
        f"{scientific(numbers[-1])} at the last.",
        tips=[_tip(row, i, curves) for i, row in enumerate(full)],
        marks=_flags(full),
    )
    factor = rate_of(full, way)
    about = f"{rate(factor)} {unit}" if factor is not None else ""
    return figure(title, about, plot, _legend(curves, way), f"{what}, over depth (weight layers)")


def _flags(full: list[Row]) -> list[tuple[int, str]]:
    """A mark for every row that has one; each finding's number is said once."""
    told: set[int] = set()
    flags = []
    for place, row in enumerate(full):
        if row.marks:
            flags.append((place, ",".join(str(n) for n in row.marks if n not in told)))
            told.update(row.marks)
    return flags


def _curves(diagnosis: Diagnosis, full: list[Row], way: str) -> list[Curve]:
    """What was seen; what theory predicts; how it looks after the rehearsal.

    The band is that of the prediction; without one, that of chance around what was seen.
    """
    reading = diagnosis.reading
    key = f"{way}.rms"
    names = [row.name for row in full]
    predicted = [row.predicted.get(way) for row in full]
    beside_it = any(x is not None for x in predicted)
    seen = [getattr(row, way) for row in full]
    band = [reading.seen.value(f"{way}.band", row.index) for row in full]
    has_band = not beside_it and any(x is not None for x in band)
    curves = [Curve(reading.seen.source, "seen", seen, band if has_band else ())]
    if beside_it:
        around = beside.column(reading, names, f"{way}.band")
        curves.append(Curve("predicted by theory", "expected", predicted, around))
    if reading.history and reading.last.has(key):
        label = f"after {counted(reading.last.step, 'step')}"
        curves.append(Curve(label, "later", _same(reading.last, full, key)))
    return curves


def _same(record: Record, full: list[Row], key: str) -> list[Number]:
    """A column of another record, matched by the sites' names."""
    places = {site.name: index for index, site in enumerate(record.sites)}
    return [record.value(key, places[row.name]) if row.name in places else None for row in full]


def _tip(row: Row, place: int, curves: Sequence[Curve]) -> str:
    numbers = [f"{scientific(c.numbers[place])} {c.label}{_width(c, place)}" for c in curves]
    return f"{row.name} · depth {row.depth} · {' · '.join(numbers)}"


def _width(curve: Curve, place: int) -> str:
    """The band at a point, `±5%`; empty without one."""
    deviation = curve.band[place] if curve.band else None
    return "" if deviation is None else f" {band(deviation)}"


def _legend(curves: Sequence[Curve], way: str) -> Markup:
    keys = [tag("span", curve.label, class_=f"key {curve.style}") for curve in curves]
    if any(curve.band for curve in curves):
        keys.append(tag("span", "where 95 % of random draws would lie", class_="key band"))
    return tag("div", *keys, class_=f"legend {way}")


def figure(title: str, about: str, plot: Markup, legend: Markup | None, caption: str) -> Markup:
    """A plot with its title and legend."""
    head = tag("div", tag("h3", title), tag("span", about, class_="quiet"), class_="title")
    return tag("figure", head, plot, legend, tag("figcaption", caption))


def rehearsal(diagnosis: Diagnosis) -> Markup | None:
    """The loss at every step; `None` without a rehearsal or a watched run."""
    losses, steps = summary.losses(diagnosis), summary.loss_steps(diagnosis)
    if not losses:
        return None
    copied = summary.course_title(diagnosis) == "Rehearsal"
    positive = [x for x in losses if x is not None and 0 < x < float("inf")]
    wide = len(positive) == len(losses) and max(positive) > 10 * min(positive)
    scale = log_scale(axis(losses)) if wide else linear_scale(losses, short)
    plot = chart(
        [Curve("loss", "seen", losses)],
        scale,
        spaced([f"{step:,}" for step in steps]),
        style="loss",
        name=f"Loss during the {'rehearsal' if copied else 'run'}, {summary.rehearsal(diagnosis)}.",
        tips=[f"step {s:,} · loss {short(x)}" for s, x in zip(steps, losses, strict=True)],
    )
    caption = "Loss of the steps, of a long run some of the older ones"
    if copied:
        caption = "Loss at every step of a copy; your model was not touched"
    return figure("Loss, step by step", summary.rehearsal(diagnosis), plot, None, caption)


def magnitudes(diagnosis: Diagnosis) -> list[Markup]:
    """Heat maps of the exponents, forward and backward."""
    found = []
    for way, title in (("forward", "Signal"), ("backward", "Gradient")):
        plot = heat(diagnosis.reading.seen, way)
        if plot is not None:
            caption = join(
                "Powers of two across, layers down in order of execution; the bars show what a "
                "number format can hold"
            )
            found.append(figure(f"{title} magnitudes", "", plot, None, caption))
    return found
