"""The first operation with a non-finite value, as a record tells of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from isograd.records import Record
from isograd.rules._numbers import fact, finite, show

SHOWN = 3
"""Looks before the event of which a message tells."""


@dataclass(frozen=True)
class Event:
    """The first operation with a non-finite value, in one look."""

    record: Record
    way: str
    op: str
    site: str
    """The nearest site at or before it."""
    module: str
    peak: float | None
    """Largest finite magnitude that goes in, backward that of any gradient; `None` if unknown."""
    dirty: int
    """Entries of its inputs that were not finite already."""
    inputs: tuple[Mapping[str, Any], ...]
    count: int
    step: int
    in_loss: bool = False
    rank: int | None = None
    """The process that saw it first, where there are several."""
    before: tuple[tuple[int, float], ...] = ()
    """Step and largest magnitude that went in, at the looks before."""

    @property
    def opens(self) -> bool:
        """Whether nothing of the model comes before it."""
        sites = self.record.sites
        return bool(sites) and self.site == sites[0].name

    @property
    def history(self) -> str:
        """What went in at the looks before, in words; empty where nobody looked."""
        told = ", ".join(f"{show(size)} (step {step})" for step, size in self.before[-SHOWN:])
        return f"; the largest that went in before: {told}" if told else ""

    @property
    def where(self) -> str:
        """Operation and place."""
        if self.module:
            return f"`{self.op}` in {self.module}"
        return f"`{self.op}` in the {'loss' if self.in_loss else 'model itself'}"


def event_of(record: Record) -> Event | None:
    """The event to report: the forward one, unless it stayed without effect on the loss."""
    forward = _recorded(record, "forward") or _from_series(record)
    backward = _recorded(record, "backward")
    if forward is not None and backward is not None and fact(record, "loss.value") is not None:
        return backward
    return forward or backward


def _recorded(record: Record, way: str) -> Event | None:
    event = record.fact(f"event.{way}")
    if not isinstance(event, Mapping):
        return None
    given = event.get("inputs")
    inputs = tuple(i for i in given if isinstance(i, Mapping)) if isinstance(given, list) else ()
    edges = [abs(n) for i in inputs for k in ("min", "max") if (n := finite(i.get(k))) is not None]
    if way == "backward":
        edges.append(largest(record, "backward") or 0.0)
    return Event(
        record,
        way,
        str(event.get("op") or "an operation").strip("_"),
        _name(record, event.get("site")),
        str(event.get("module") or ""),
        max(edges, default=None),
        int(sum(finite(i.get("nonfinite")) or 0 for i in inputs)),
        inputs,
        int(finite(event.get("count")) or 0),
        int(finite(event.get("step")) or record.step),
        event.get("phase") == "loss",
        rank if isinstance(rank := event.get("rank"), int) else None,
        tuple(_before(event.get("before"))),
    )


def _before(given: Any) -> Iterator[tuple[int, float]]:
    for pair in given if isinstance(given, (list, tuple)) else ():
        if isinstance(pair, (list, tuple)) and len(pair) == 2:
            step, size = finite(pair[0]), finite(pair[1])
            if step is not None and size is not None:
                yield int(step), size


def _name(record: Record, site: Any) -> str:
    if isinstance(site, int) and 0 <= site < len(record.sites):
        return record.sites[site].name
    return site if isinstance(site, str) else ""


def _from_series(record: Record) -> Event | None:
    """The event as far as the columns tell it, for a record without one."""
    for index, count in record.pairs("forward.nonfinite"):
        if count > 0:
            site = record.sites[index]
            inputs = tuple(
                {"min": record.value("forward.min", i), "max": record.value("forward.max", i)}
                for i in site.inputs
                if 0 <= i < index
            )
            edges = [abs(n) for i in inputs for v in i.values() if (n := finite(v)) is not None]
            peak = max(edges, default=None)
            return Event(
                record,
                "forward",
                site.kind,
                site.name,
                site.name,
                peak,
                0,
                inputs,
                int(count),
                record.step,
            )
    return None


def largest(record: Record, way: str) -> float | None:
    numbers = [abs(v) for end in ("min", "max") for _, v in record.pairs(f"{way}.{end}")]
    return max(numbers, default=None)


def describe(given: Mapping[str, Any]) -> str:
    low, high = finite(given.get("min")), finite(given.get("max"))
    known = low is not None and high is not None
    span = f"values in [{low:.3g}, {high:.3g}]" if known else "values"
    extras = [
        f"{int(n)} {word}"
        for key, word in (("zeros", "zeros"), ("nonfinite", "non-finite"))
        if (n := finite(given.get(key)))
    ]
    return span + (f" with {', '.join(extras)}" if extras else "")
