"""The HTML form: one self-contained page, or a fragment for notebooks."""

import math

from isograd.findings import Diagnosis
from isograd.reporting import _beside as beside
from isograd.reporting import _figures as figures
from isograd.reporting import _layers as layers
from isograd.reporting import _predicted, _profile
from isograd.reporting import _summary as summary
from isograd.reporting._cards import cards
from isograd.reporting._markup import Markup, tag
from isograd.reporting._numbers import rate, short, value
from isograd.reporting._page import asset, frame, section, some

_STATES = {"finding": 0, "failed": 1, "passed": 2, "not-applicable": 3, "ignored": 4}
SIGNS = {"healthy": "✓", "warning": "!", "error": "✗"}


def tell(diagnosis: Diagnosis, *, whole: bool = True) -> str:
    """The page, or the fragment where `whole` is false."""
    diagnosis = summary.at_the_end(diagnosis)
    return _page(diagnosis) if whole else _fragment(diagnosis)


def _page(diagnosis: Diagnosis) -> Markup:
    sections = [
        section("findings", "Findings", cards(diagnosis)),
        section("profile", "Profile over depth", figures.profiles(diagnosis), "pair"),
        section("rehearsal", summary.course_title(diagnosis), some(figures.rehearsal(diagnosis))),
        section("magnitudes", "Magnitudes", figures.magnitudes(diagnosis), "pair"),
        section("layers", "Layers, worst first", layer_parts(diagnosis)),
        section("model", "Model", some(tree_part(diagnosis))),
        section("rules", "Rules", rule_parts(diagnosis)),
        section("facts", "Facts", fact_parts(diagnosis)),
    ]
    return frame(f"isograd: {summary.headline(diagnosis)}", _hero(diagnosis), sections)


def _fragment(diagnosis: Diagnosis) -> Markup:
    return tag(
        "div",
        tag("style", asset("report.css")),
        _hero(diagnosis),
        *cards(diagnosis),
        tag("div", *figures.profiles(diagnosis), class_="pair"),
        figures.rehearsal(diagnosis),
        class_="isograd",
    )


def _hero(diagnosis: Diagnosis) -> Markup:
    seen = diagnosis.reading.seen
    level = summary.level(diagnosis)
    sign = tag("span", SIGNS[level], class_="sign", aria_hidden="true")
    predicted = seen.source == "predicted"
    about = _predicted.about(seen) if predicted else {}
    notes = [tag("li", tag("b", label), f" {words}") for label, words in about.items()]
    notes += [tag("li", note) for note in (_predicted.notes(seen) if predicted else seen.notes)]
    first = summary.first(diagnosis) or summary.tally(diagnosis)
    return tag(
        "header",
        tag("h1", sign, summary.headline(diagnosis)),
        tag("p", first[:1].upper() + first[1:], class_="first") if first else None,
        tag("p", summary.subject(seen), class_="quiet"),
        tag("dl", *_tiles(diagnosis), class_="tiles"),
        tag("ul", *notes, class_="notes") if notes else None,
        class_=f"hero {level}",
    )


def _tiles(diagnosis: Diagnosis) -> list[Markup]:
    seen = diagnosis.reading.seen
    full = _profile.rows(diagnosis)
    chosen = " (chosen for you)" if seen.fact("loss.chosen") else ""
    tiles = [
        (f"loss{chosen}", seen.fact("loss.name")),
        ("value", seen.fact("loss.value")),
        ("chance level", seen.fact("loss.chance")),
    ]
    if seen.fact("loss.kind") == "probe":
        tiles = [("loss", "none, random probes")]  # their sum means nothing
    rates = [
        ("signal per layer", _profile.rate(full, "forward")),
        ("gradient per layer back", _profile.rate(full, "backward")),
    ]
    found = [(word, value(thing)) for word, thing in tiles if thing is not None]
    found += [(word, rate(factor)) for word, factor in rates if factor is not None]
    for way, word in (("forward", "signal"), ("backward", "gradient")):
        if (apart := beside.agreement(diagnosis.reading, way)) is not None:
            found.append((f"{word} off prediction", beside.around(apart.typical)))
    curve = summary.losses(diagnosis)
    if curve:
        found.append(
            (f"loss after {summary.loss_steps(diagnosis)[-1] + 1:,} steps", short(curve[-1]))
        )
    return [tag("div", tag("dt", word), tag("dd", text)) for word, text in found]


def layer_parts(diagnosis: Diagnosis) -> list[Markup]:
    """The table of layers and its filter."""
    if not diagnosis.reading.seen.sites:
        return []
    search = tag(
        "input", type="search", id="filter", placeholder="filter by name or kind", hidden=True,
        aria_label="Filter the layers by name or kind",
    )  # fmt: skip
    table = tag(
        "div", layers.table(diagnosis), class_="scroll", tabindex=0, role="region",
        aria_label="Layers and their numbers",
    )  # fmt: skip
    return [search, table]


def tree_part(diagnosis: Diagnosis) -> Markup | None:
    """The model as a tree."""
    return layers.tree(diagnosis) if diagnosis.reading.seen.sites else None


def rule_parts(diagnosis: Diagnosis) -> list[Markup]:
    """What each rule concluded."""
    if not diagnosis.verdicts:
        return []
    found = sorted(diagnosis.verdicts, key=lambda verdict: _STATES.get(verdict.state, math.inf))
    body = [
        tag(
            "tr",
            tag("th", verdict.code, scope="row"),
            tag(
                "td", tag("span", verdict.state.replace("-", " "), class_=f"state {verdict.state}")
            ),
            tag("td", summary.rule_text(verdict.code).title),
            tag("td", verdict.reason),
        )
        for verdict in found
    ]
    heads = [tag("th", word, scope="col") for word in ("rule", "verdict", "about", "reason")]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body), class_="verdicts")
    words = tag("summary", summary.tally(diagnosis))
    # In a clean bill of health the list of what was looked at is the news.
    return [tag("details", words, tag("div", table, class_="scroll"), open=diagnosis.healthy)]


def fact_parts(diagnosis: Diagnosis) -> list[Markup]:
    """The facts of the record."""
    groups: dict[str, list[Markup]] = {}
    for key, thing in sorted(diagnosis.reading.seen.facts.items()):
        group, _, word = str(key).partition(".")
        pair = tag("div", tag("dt", word or group), tag("dd", value(thing, limit=8)))
        groups.setdefault(group, []).append(pair)
    if not groups:
        return []
    blocks = [tag("div", tag("h3", group), tag("dl", *pairs)) for group, pairs in groups.items()]
    return [tag("details", tag("summary", "What was recorded about the model, the batch, the loss "
                "and the optimizer"), tag("div", *blocks, class_="facts"))]  # fmt: skip
