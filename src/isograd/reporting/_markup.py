"""HTML that is safe by construction: whatever is not markup already is escaped."""

import html

from isograd.reporting._numbers import printable


class Markup(str):
    """Text that is HTML already; made by `tag` and `join` only, or from a file of ours."""

    __slots__ = ()


Child = str | None
"""A `Markup`, or any other text, which is escaped; `None` is left out."""


def join(*children: Child) -> Markup:
    """The children one after the other, escaped where they are not markup."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else html.escape(printable(child))
            for child in children
            if child is not None
        )
    )


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """An element: `tag("td", "a<b", class_="n", data_row=3)`.

    An underscore in an attribute's name stands for a hyphen, one at its end for nothing. An
    attribute that is `None` or `False` is left out, `True` has no value.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        parts.append(word if value is True else f'{word}="{join(str(value))}"')
    opening = f"<{' '.join(parts)}>"
    if name in ("img", "input", "meta"):
        return Markup(opening)
    return Markup(f"{opening}{join(*children)}</{name}>")


def power(base: int, exponent: float) -> Markup:
    """2 to the -3, with a raised exponent and a real minus."""
    text = f"{exponent:g}".replace("-", "−")
    return join(str(base), tag("sup", text))
