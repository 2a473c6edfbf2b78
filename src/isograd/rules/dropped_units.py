"""Dropout that leaves next to nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record, Site
from isograd.rules._examples import chain
from isograd.rules._graph import least_on_a_path
from isograd.rules._numbers import finite, show, words
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.sites.paths import dropped_outputs


@dataclass(frozen=True)
class DroppedUnits(Rule):
    """Dropout leaves less signal than a layer can tell from the noise of the masks.

    Sees: the probabilities of the dropout modules that are in training mode, which of them follow
        one another without a skip connection around them, and which drop the outputs themselves.

    Matters: what is kept of x is multiplied by 1/(1-p), so that its energy becomes x^2/(1-p) on
        average: x^2 of signal, and p/(1-p) times as much noise, which is 1 at p = 0.5 and 19 at
        p = 0.95. Layers multiply it: of the energy behind several, the product of their 1-p is
        signal. A layer of n units can make n times the part out; below one, every step follows
        the noise of its mask. Behind the last layer no weight mixes what the masks let through: a
        squared error is least at 1-p times the targets, and the loss of classes has a floor.

    Wrong when: an input of many thousand redundant entries is thinned, as in a denoising
        autoencoder.

    Do: use 0.5 at most for hidden units, 0.1 to 0.2 in small networks, in many layers and for
        inputs, and none behind the last weight layer. If the probability of keeping was meant, hand
        in one minus it.
    """

    code: ClassVar[str] = "IG211"
    rank: ClassVar[int] = 40

    most: float = 0.9
    """Above this there is more than nine times as much noise as signal; recipes drop half."""
    least: float = 1.0
    """Units of the narrowest place times the part of the energy that is signal. Plain ReLU
    networks of 32 and 256 units with up to 8 dropouts of 0.5 to 0.9 get, in 400 steps of Adam, 65 %
    of the digits right and more above 2, 57 % and less below 1."""

    outputs: float = 0.1
    """Outputs are this part short of their targets: as much as the dropouts of recipes leave to
    the noise."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges every dropout by its probability, and those in a row by what they leave."""
        seen = reading.seen
        drops = _probabilities(seen)
        if not drops:
            return NotApplicable("no dropout module is in training mode")
        p = max(drops.values())
        if p > self.most:
            high = [name for name in drops if drops[name] == p]
            noise = "no signal at all"
            if p < 1:
                noise = f"{p / (1 - p):.0f} times as much noise as signal"
            told = f"dropout sets {p:.3g} of all entries to zero and lets through {noise}"
            return _finding(seen, high, told, {"dropout": p}, _lower(p))
        ends = [_module(seen.sites[i]) for i in dropped_outputs(seen)]
        p = max((drops.get(name, 0.0) for name in ends), default=0.0)
        if p > self.outputs:
            told = (
                f"dropout sets {p:.3g} of the outputs themselves to zero; no weight comes after "
                f"it, and a squared error is least at {1 - p:.3g} times the targets"
            )
            mend = f"Remove {ends[0]}, or move it in front of the last weight layer."
            return _finding(seen, ends, told, {"dropout": p}, mend)
        p = max(drops.values())
        shares = [drops.get(_module(site), 0.0) for site in seen.sites]
        places = [site for site, p in zip(seen.sites, shares, strict=True) if p]
        logs = [-math.log1p(-p) for p in shares]
        kept = math.exp(-least_on_a_path(seen, logs.__getitem__))
        units = min(map(_units, places), default=math.inf)
        summary = f"the dropouts on the way leave {show(kept)} of the energy to the signal"
        if kept * units >= self.least:
            return Passed(f"no dropout sets more than {p:.0%} to zero; {summary}")
        told = f"{summary}; {units:.0f} units cannot tell it from the noise of the masks"
        return _finding(
            seen,
            list(dict.fromkeys(map(_module, places))),
            told,
            {"dropout": p, "signal": kept, "units": units},
            _lower(p),
        )

    @staticmethod
    def sick() -> Reading:
        """Nineteen of twenty."""
        return _example(0.95)

    @staticmethod
    def well() -> Reading:
        """Half."""
        return _example(0.5)


def _probabilities(record: Record) -> dict[str, float]:
    """Probabilities of the dropouts by name."""
    given = record.fact("model.dropout")
    values = map(finite, given) if isinstance(given, (list, tuple)) else ()
    named = zip(words(record.fact("model.dropout_at")), values, strict=False)
    return {name: p for name, p in named if p}


def _module(site: Site) -> str:
    """Its name, without the number of the call."""
    return site.name.partition("#")[0]


def _units(site: Site) -> int:
    """Entries of one sample that are dropped one by one, or channels where these are."""
    one_by_one = site.label in ("Dropout", "AlphaDropout")
    return math.prod(site.shape[1:]) if one_by_one else math.prod(site.shape[1:2])


def _lower(p: float) -> str:
    kept = f"{1 - p:.3g}"
    return f"Set the probability to 0.5 or less; if the share that is kept was meant, to {kept}."


def _finding(
    record: Record, names: Sequence[str], told: str, evidence: Mapping[str, float], mend: str
) -> Finding:
    return Finding(
        DroppedUnits.code,
        Severity.WARNING,
        "dropout-too-high",
        f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''}: {told}.",
        sites=tuple(site.name for site in record.sites if _module(site) in names),
        evidence=evidence,
        remedies=(mend,),
    )


def _example(p: float) -> Reading:
    return Reading(chain(2, facts={"model.dropout": [p], "model.dropout_at": ["drop"]}))
