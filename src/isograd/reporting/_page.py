"""The frame of every page: its head, its menu, its sections and the files it carries."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

from isograd.reporting import _summary as summary
from isograd.reporting._markup import Child, Markup, join, tag

Section = tuple[str, str, Markup | None]
"""Anchor, title, and what is in it; without that it is left out."""


@cache
def asset(name: str) -> Markup:
    """A file that is carried along."""
    return Markup(files("isograd.reporting").joinpath("assets", name).read_text("utf-8"))


def frame(title: str, hero: Markup, sections: Sequence[Section]) -> Markup:
    """The whole page."""
    present = [(name, title, body) for name, title, body in sections if body]
    links = [tag("a", title.split(",")[0], href=f"#{name}") for name, title, _ in present]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", asset("report.css")),
    )
    body = tag(
        "body",
        tag("a", "Skip to the findings", href="#main", class_="skip"),
        tag("nav", tag("b", "isograd"), *links, _toggle(), aria_label="Sections"),
        hero,
        tag("main", *(body for _, _, body in present), id="main"),
        tag("footer", f"isograd {summary.version()}: is the gradient equal at every depth?"),
        tag("script", asset("report.js")),
        class_="isograd page",
    )
    return join(Markup("<!DOCTYPE html>\n"), tag("html", head, body, lang="en"))


def some(part: Markup | None) -> list[Markup]:
    """A part that may be missing, as parts of a section."""
    return [] if part is None else [part]


def section(name: str, title: str, parts: Iterable[Child], style: str | None = None) -> Section:
    """(anchor, title, markup); without parts there is no markup."""
    parts = list(parts)
    if not parts:
        return name, title, None
    body = tag("div", *parts, class_=style) if style else join(*parts)
    return name, title, tag("section", tag("h2", title), body, id=name)


def _toggle() -> Markup:
    return tag("button", "◐", type="button", id="theme", aria_label="Switch light and dark")
