"""Small readings for the rules' examples: a plain chain of layers with chosen numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from isograd.records import Number, Parameter, Reading, Record, Site

WIDTHS = (48, 31, 37, 29, 43, 41, 47, 53)
"""No two alike, so that a swap of fan-in and fan-out shows."""


def chain(
    depth: int,
    *,
    activation: str | None = "relu",
    series: Mapping[str, Sequence[Number] | float] | None = None,
    facts: Mapping[str, Any] | None = None,
    kind: str = "linear",
    step: int = 0,
) -> Record:
    """A record of `depth` weight layers, each followed by `activation` except the last.

    Args:
        depth: number of weight layers, the last of which feeds the loss.
        activation: kind of the activation sites; `None` for none.
        series: columns. A sequence has one entry per weight layer, and is written to the weight
            layer's site (`forward.*`, `backward.*`) or parameter (`weight.*`); an activation
            site repeats the entry of the weight layer before it. A float stands everywhere.
        facts: facts of the record.
        kind: kind of the weight layers.
        step: the record's step.
    """
    sites: list[Site] = []
    parameters: list[Parameter] = []
    layer_of: list[int] = []
    for layer in range(depth):
        width, fan_in = WIDTHS[(layer + 1) % len(WIDTHS)], WIDTHS[layer % len(WIDTHS)]
        before = (len(sites) - 1,) if sites else ()
        sites.append(
            Site(f"layers.{layer}", kind, kind.title(), layer + 1, (16, width), before, (layer,))
        )
        layer_of.append(layer)
        parameters.append(Parameter(f"layers.{layer}.weight", (width, fan_in), kind))
        if activation is not None and layer < depth - 1:
            here = len(sites) - 1
            sites.append(
                Site(f"acts.{layer}", activation, activation, layer + 1, (16, width), (here,))
            )
            layer_of.append(layer)
    columns: dict[str, tuple[Number, ...]] = {}
    for key, given in (series or {}).items():
        rows = range(depth) if key.startswith("weight.") else layer_of
        columns[key] = tuple(given if isinstance(given, (int, float)) else given[i] for i in rows)
    base: dict[str, Any] = {"batch.size": 16, "loss.input_site": len(sites) - 1}
    return Record(
        tuple(sites), tuple(parameters), columns, facts={**base, **(facts or {})}, step=step
    )


def reading(depth: int = 3, **options: Any) -> Reading:
    """A Reading whose `seen` is `chain(depth, **options)`."""
    return Reading(chain(depth, **options))


def run(*looks: Record, losses: Sequence[Number], **facts: Any) -> Reading:
    """A watched run: the losses of all its steps are put where `Reading.history` keeps them."""
    told = {"watch.losses": [list(range(len(losses))), list(losses)], **facts}
    last = replace(looks[-1], facts={**looks[-1].facts, **told})
    return Reading(looks[0], history=(*looks[1:-1], last)) if len(looks) > 1 else Reading(last)


def over_steps(
    columns: Mapping[str, Sequence[Sequence[Number] | float]],
    losses: Sequence[Number],
    *,
    depth: int = 4,
    every: int = 10,
    facts: Mapping[str, Any] | None = None,
    **options: Any,
) -> Reading:
    """A watched run of a chain, one look for each entry of the columns.

    Args:
        columns: a key, and what `chain` takes for it at each look.
        losses: losses of all its steps.
        depth: weight layers.
        every: steps between two looks.
        facts: facts of every look.
        **options: of `chain`.
    """
    count = max(len(column) for column in columns.values())
    looks = [
        chain(
            depth,
            series={key: column[k] for key, column in columns.items()},
            facts=facts,
            step=every * k,
            **options,
        )
        for k in range(count)
    ]
    return run(*looks, losses=losses)


def with_history(first: Record, *later: Record, losses: Sequence[float]) -> Reading:
    """A Reading with a rehearsal; the losses are put where `Reading.history` keeps them."""
    last = replace(later[-1], facts={**later[-1].facts, "rehearsal.losses": list(losses)})
    return Reading(first, history=(*later[:-1], last))
