"""The HTML form of a repair: one self-contained page, or a fragment for notebooks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from isograd.reporting import _figures as figures
from isograd.reporting import _repaired as words
from isograd.reporting import _summary as summary
from isograd.reporting._cards import cards
from isograd.reporting._chart import Curve, chart, linear_scale, log_scale, spaced
from isograd.reporting._markup import Markup, join, tag
from isograd.reporting._numbers import counted, short
from isograd.reporting._page import asset, frame, section, some
from isograd.reporting._profile import axis

if TYPE_CHECKING:
    from isograd.records import Number
    from isograd.repairs.result import Repair, Trial


def tell(repair: Repair, *, whole: bool = True) -> str:
    """The page, or the fragment where `whole` is false."""
    change, proof = _change(repair), [*some(_curves(repair)), *some(_table(repair))]
    if not whole:
        return tag(
            "div", tag("style", asset("report.css")), _hero(repair), *change, *proof,
            class_="isograd",
        )  # fmt: skip
    after = [] if repair.after is None else figures.profiles(repair.after)
    sections = [
        section("change", "Change", change),
        section("proof", "Proof", proof),
        section("findings", "Findings before", cards(repair.before)),
        section("before", "Profile before", figures.profiles(repair.before), "pair"),
        section("after", "Profile after", after, "pair"),
        section("skipped", "Not kept", _skipped(repair)),
    ]
    return frame(f"isograd: {words.headline(repair)}", _hero(repair), sections)


def _hero(repair: Repair) -> Markup:
    sign = tag("span", words.sign(repair), class_="sign", aria_hidden="true")
    notes = [
        tag("li", f"After the change: {f.code} {f.cause}; yours to do: {advice}")
        for f in words.left(repair)
        for advice in f.remedies or ("see the finding.",)
    ]
    notes += [tag("li", note) for note in repair.notes]
    return tag(
        "header",
        tag("h1", sign, words.headline(repair)),
        tag("p", repair.reason, class_="first"),
        tag("p", summary.subject(repair.before.reading.seen), class_="quiet"),
        tag("p", words.cost(repair), class_="quiet"),
        tag("ul", *notes, class_="notes") if notes else None,
        class_=f"hero {words.level(repair)}",
    )


def _change(repair: Repair) -> list[Markup]:
    if not repair.code:
        return []
    effects = [tag("p", effect) for effect in repair.effects]
    return [*effects, tag("pre", tag("code", *_lines(repair.code)), class_="scroll", tabindex=0)]


def _lines(code: str) -> list[Markup]:
    # A line at a time: what is not printable is told apart, and a line break is not.
    return [Markup(f"{join(line)}\n") for line in code.splitlines()]


def _curves(repair: Repair) -> Markup | None:
    """Loss curves, the mean over the seeds with the spread between them."""
    if not repair.trials:
        return None
    before, after = (_mean(trial) for trial in repair.trials)
    curves = [
        Curve(repair.trials[1].treatment, "seen", *after),
        Curve(repair.trials[0].treatment, "later", *before),
    ]
    numbers = [x for curve in curves for x in curve.numbers]
    finite = [x for x in numbers if x is not None and 0 < x < math.inf]
    wide = len(finite) == len(numbers) and max(finite) > 10 * min(finite)
    plot = chart(
        curves,
        log_scale(axis(numbers)) if wide else linear_scale(numbers, short),
        spaced([f"{i}" for i in range(words.steps(repair))]),
        style="loss",
        name=f"Training loss by step; {words.judgement(repair)}.",
        tips=[
            f"step {i} · " + " · ".join(f"{short(c.numbers[i])} {c.label}" for c in curves)
            for i in range(min(len(c.numbers) for c in curves))
        ],
    )
    keys = [tag("span", curve.label, class_=f"key {curve.style}") for curve in curves]
    keys.append(tag("span", "twice the standard deviation over seeds", class_="key band"))
    return figures.figure(
        "Training loss, step by step",
        words.judgement(repair),
        plot,
        tag("div", *keys, class_="legend loss"),
        f"Mean over {counted(len(repair.trials[0].losses), 'seed')}, each by the loss it is "
        "trained on",
    )


def _mean(trial: Trial) -> tuple[list[Number], list[Number]]:
    """Mean over the seeds at every step, and its spread.

    The geometric mean and the standard deviation of the logarithm; plain means without a spread
    where a loss is not positive.
    """
    longest = max(map(len, trial.losses))
    at = [[c[i] if i < len(c) else math.nan for c in trial.losses] for i in range(longest)]
    if not all(x > 0 for row in at for x in row if math.isfinite(x)):
        return [statistics.fmean(row) for row in at], [None] * longest
    logs = [[math.log(x) if x < math.inf else math.nan for x in row] for row in at]
    return [math.exp(statistics.fmean(row)) for row in logs], [_deviation(row) for row in logs]


def _deviation(row: Sequence[float]) -> Number:
    finite = [x for x in row if math.isfinite(x)]
    return statistics.stdev(finite) if len(finite) == len(row) > 1 else None


def _table(repair: Repair) -> Markup | None:
    if not repair.trials:
        return None
    count = max(len(trial.scores) for trial in repair.trials)
    heads = ["network", "mean and spread", *(f"seed {i + 1}" for i in range(count))]
    rows = [
        tag(
            "tr",
            tag("th", trial.treatment, scope="row"),
            tag("td", words.seeds(trial)),
            *(tag("td", short(score)) for score in trial.scores),
        )
        for trial in repair.trials
    ]
    caption = f"{repair.measure} after {counted(words.steps(repair), 'step')}; lower is better"
    head = tag("thead", tag("tr", *(tag("th", word, scope="col") for word in heads)))
    body = tag("table", tag("caption", caption), head, tag("tbody", *rows))
    return tag("div", body, class_="scroll")


def _skipped(repair: Repair) -> list[Markup]:
    if not repair.skipped:
        return []
    rows = [
        tag("tr", tag("th", names, scope="row"), tag("td", why))
        for names, why in words.not_kept(repair).items()
    ]
    return [tag("div", tag("table", tag("tbody", *rows)), class_="scroll")]
