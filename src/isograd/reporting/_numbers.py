"""Numbers and names as a reader wants them; anything a record may hold has a form here."""

import math
import re
from collections.abc import Mapping
from typing import Any

MISSING = "–"
"""Stands where nothing was measured."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def scientific(number: float | None) -> str:
    """A rms or ratio over many decades: `1.2e-12`, `0`, `nan`, `inf`; a dash for `None`."""
    if number is None:
        return MISSING
    if number == 0 or not math.isfinite(number):
        return f"{number:.0f}".replace("-0", "0")
    return f"{number:.1e}"


def short(number: float | None) -> str:
    """A number for running text: `2.303`, `12,345`, `1.2e-12`."""
    if number is None:
        return MISSING
    if isinstance(number, bool):
        return "yes" if number else "no"
    if not math.isfinite(number):
        return f"{number}"
    if number == int(number) and abs(number) < 1e15:
        return f"{int(number):,}"
    if not 1e-3 <= abs(number) < 1e6:
        return f"{number:.3g}"
    return f"{number:,.4g}" if abs(number) < 1e4 else f"{number:,.0f}"


def value(thing: Any, limit: int = 3) -> str:
    """A fact or a piece of evidence in few words; of a list the first `limit` entries."""
    if thing is None or isinstance(thing, (bool, int, float)):
        return short(thing)
    if isinstance(thing, Mapping):
        parts = [f"{printable(str(k))} {value(v, limit)}" for k, v in thing.items()]
        joined = ", ".join(parts[: 2 * limit])
        return joined + (f" and {len(parts) - 2 * limit:,} more" if len(parts) > 2 * limit else "")
    if isinstance(thing, (list, tuple)):
        parts = [value(item, limit) for item in thing[:limit]]
        if len(thing) <= limit + 1:
            parts = [value(item, limit) for item in thing]
            return f"({', '.join(parts)})" if _is_shape(thing) else ", ".join(parts) or "none"
        return f"{', '.join(parts)} and {len(thing) - limit:,} more"
    return shorten(printable(str(thing)), 120)


def _is_shape(thing: list[Any] | tuple[Any, ...]) -> bool:
    return bool(thing) and isinstance(thing, tuple) and all(type(item) is int for item in thing)


def rate(factor: float | None) -> str:
    """A factor per layer: `×0.92`, `×1.0e-03`."""
    if factor is None:
        return MISSING
    return f"×{factor:.2f}" if 0.01 <= factor < 100 else f"×{factor:.0e}"


def counted(number: int, noun: str) -> str:
    """`1 error`, `2 errors`, `1,200 layers`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def printable(text: str) -> str:
    """The text without characters that could steer a terminal or turn its direction."""
    return _CONTROL.sub(lambda found: repr(found.group())[1:-1], text)


def clip(text: str, width: int) -> str:
    """The printable text in at most `width` characters, its end left out."""
    text = printable(text)
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def shorten(text: str, width: int) -> str:
    """The text in at most `width` characters, its middle left out: `encoder.…3.fc`."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3  # the end of a site's name tells more than its beginning
    return text[: max(width - 1 - tail, 0)] + "…" + (text[-tail:] if tail > 0 else "")


def abbreviate(name: str, width: int) -> str:
    """A site's name in at most `width` characters: `t.h.0.attn.c_proj`; then like `shorten`.

    Its outer modules become their first letters, one by one, so that a layer's number stays.
    """
    parts = name.split(".")
    for place, part in enumerate(parts[:-1]):
        if len(".".join(parts)) <= width:
            break
        if not part.isdigit():
            parts[place] = part[:1]
    return shorten(".".join(parts), width)
