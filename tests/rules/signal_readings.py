"""Readings beyond `sick` and `well` for the rules about gradient, signal, weights and updates."""

from dataclasses import replace

from isograd.records import Reading, Record
from isograd.rules import RULES
from isograd.rules._examples import chain, with_history

__all__ = ["SIGNAL"]

FLAT = [2.303 + 0.004 * (-1) ** k for k in range(40)]


def sick(code: str, *, series: dict[str, float] | None = None, **facts: object) -> Reading:
    """The rule's own sick reading with other numbers."""
    seen = RULES[code].sick().seen
    columns = dict(seen.series)
    for key, value in (series or {}).items():
        rows = seen.parameters if key.startswith("weight.") else seen.sites
        columns[key] = (value,) * len(rows)
    named = {key.replace("__", "."): value for key, value in facts.items()}
    return Reading(replace(seen, series=columns, facts={**seen.facts, **named}))


def normalized_explosion() -> Reading:
    """Norms in place of the activations."""
    seen = sick("IG102").seen
    sites = tuple(replace(s, kind="batch_norm") if s.kind == "tanh" else s for s in seen.sites)
    return Reading(replace(seen, sites=sites))


def worse(code: str, key: str, factor: float) -> Reading:
    """The sick reading with every layer's factor to the given power."""
    seen = RULES[code].sick().seen
    column = tuple(None if x is None else x**factor for x in seen.series[key])
    return Reading(replace(seen, series={**seen.series, key: column}))


def dying(*, before: float, after: float) -> Reading:
    """Units die in a rehearsal."""

    def look(share: float, step: int) -> Record:
        series = {"forward.dead": share, "forward.units": 47.0, "forward.correlation": 0.3}
        return chain(4, series=series, step=step)

    return with_history(look(before, 0), look(after, 30), losses=FLAT)


def dead(share: float, *, alike: float) -> Reading:
    """Dead units among samples of a given likeness."""
    return sick("IG205", series={"forward.dead": share, "forward.correlation": alike})


def thrown() -> Reading:
    """Steps that multiply the loss, which then falls."""
    seen = RULES["IG305"].sick().seen
    return with_history(seen, replace(seen, step=6), losses=[2.3, 9.0, 4.0, 3.0, 2.5, 2.2])


def forgotten() -> Reading:
    """Outputs that become constant in a rehearsal."""
    first = chain(3, facts={"output.spread": 0.5, "output.rms": 1.0})
    last = chain(3, facts={"output.spread": 1e-7, "output.rms": 1.0}, step=30)
    return with_history(first, last, losses=FLAT)


def one_constant() -> Reading:
    """One hidden layer is constant, its neighbors are drawn."""
    series = {"weight.row_spread": [0.0, 1.0, 1.0], "weight.rms": 0.1}
    return Reading(chain(3, series=series))


def normalized_steps(ratio: float) -> Reading:
    """Updates of one size in front of norms."""
    seen = steps(ratio, adaptive=False).seen
    sites = tuple(replace(s, kind="batch_norm") if s.kind == "relu" else s for s in seen.sites)
    return Reading(replace(seen, sites=sites))


def steps(ratio: float, *, adaptive: bool, left: float = 1.0) -> Reading:
    """Updates of one size, in a chain whose first layer keeps a share of the gradient."""
    depth = 5
    backward = [left ** ((depth - 1 - i) / (depth - 1)) for i in range(depth)]
    series = {
        "weight.update_ratio": ratio,
        "weight.rms": 0.1,
        "backward.rms": backward,
        "backward.count": 100.0,
    }
    facts = {"optimizer.lr": 0.1, "optimizer.adaptive": adaptive}
    return Reading(chain(depth, series=series, facts=facts))


def optimizer(**facts: object) -> Reading:
    """Settings of an optimizer."""
    named = {f"optimizer.{key}": value for key, value in facts.items()}
    series = {"weight.grad_rms": 1e-4, "weight.rms": 0.05}
    return Reading(chain(3, series=series, facts={"optimizer.name": "Adam", **named}))


def penalized() -> Reading:
    """A penalty that is three times the gradient, of a network that does not learn."""
    seen = optimizer(lr=1e-3, adaptive=True, weight_decay=0.3, penalty=True).seen
    facts = {**seen.facts, "loss.chance": 1.0}
    seen = replace(seen, series={**seen.series, "weight.grad_rms": (5e-3,) * 3}, facts=facts)
    return with_history(seen, replace(seen, step=40), losses=[1.0, 1.01] * 20)


def moved_together(*, now: float) -> Reading:
    """Outputs that differ by 3e-8 at first, and are all near 0.05 later."""
    seen = chain(3, facts={"output.spread": 3e-8, "output.rms": 3e-8, "loss.chance": 0.693})
    facts = {**seen.facts, "output.spread": now, "output.rms": 0.05}
    later = replace(seen, facts=facts, step=40)
    return with_history(seen, later, losses=[0.693, 0.694] * 20)


SIGNAL: dict[str, tuple[Reading, ...]] = {
    "IG101": (worse("IG101", "backward.rms", 2.0), sick("IG101", optimizer__adaptive=True)),
    "IG102": (normalized_explosion(), worse("IG102", "backward.rms", 3.0)),
    "IG201": (worse("IG201", "forward.spread", 3.0),),
    "IG203": (
        forgotten(),
        moved_together(now=3e-8),
        moved_together(now=3e-10),
        sick("IG203", optimizer__adaptive=True),
        sick("IG203", optimizer__adaptive=True, output__spread=1e-6),
    ),
    "IG204": (
        sick("IG204", series={"weight.gain": 1.6}, batch__rms=80.0),
        sick("IG204", series={"weight.gain": 1.6}, batch__rms=1.0),
    ),
    "IG205": (
        dead(0.97, alike=0.3),
        dead(0.6, alike=0.99999),
        dying(before=0.05, after=0.8),
        dying(before=0.05, after=0.3),
    ),
    "IG207": (sick("IG207", series={"forward.correlation": 0.9999999}),),
    "IG301": (one_constant(),),
    "IG303": (worse("IG303", "forward.rms", 2.0),),
    "IG304": (
        steps(0.3, adaptive=True),
        steps(0.9, adaptive=True),
        normalized_steps(0.3),
        steps(3e-5, adaptive=False),
        steps(3e-5, adaptive=False, left=1e-2),
        steps(3e-6, adaptive=False),
    ),
    "IG305": (sick("IG305", series={"weight.update_ratio": 1e-3}), thrown()),
    "IG306": (
        optimizer(lr=1e-3, eps=1e-2, adaptive=True),
        optimizer(lr=1e-3, eps=1e-8, adaptive=True, weight_decay=500.0),
        optimizer(lr=1e-3, eps=1e-8, adaptive=True, weight_decay=50.0, penalty=True),
        optimizer(lr=1e-3, eps=1e-8, adaptive=True, weight_decay=0.1),
        penalized(),
    ),
}
