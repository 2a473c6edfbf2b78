"""Layers of so few rectifiers that all of them may be off at once."""

from dataclasses import dataclass, replace
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._examples import chain, with_history
from isograd.rules._numbers import dependence, show
from isograd.rules._profile import hidden_sites, names, outcome
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._watched import latest, latest_with
from isograd.sites import RECTIFIERS
from isograd.sites.paths import unavoidable


@dataclass(frozen=True)
class NarrowRectifier(Rule):
    """A layer has so few rectifiers that all are off for many inputs.

    Sees: the width of hidden fully connected layers that end in a rectifier and that no path goes
        around.

    Matters: of n units with centered inputs all are off for one input in 2^n: nothing of it reaches
        the output, and no gradient comes back. Steps that lower the output push the units
        that are still on toward there, and a layer that is off for every input never comes back.

    Wrong when: the inputs are positive and the weights drawn well, or the network learns, or learns
        slowly: unless a unit is off for every sample, or the outputs are constant, it is a remark.

    Do: a leaky ReLU, which always lets something through; or more units.

    Source: Lu, Shin, Su and Karniadakis 2020, Dying ReLU and initialization (a network is born dead
        with probability at least 1 - prod(1 - 2^-n)).
    """

    code: ClassVar[str] = "IG213"
    rank: ClassVar[int] = 64
    explains: ClassVar[tuple[str, ...]] = ()

    lost: float = 0.2
    """Share of inputs for which nothing passes: one or two units. Three lose an eighth."""
    constant: float = 1e-3
    """Spread of the outputs over the samples over their rms, below which they are constant."""

    def judge(self, reading: Reading) -> Outcome:
        """Looks for the narrowest layer; says no more than a remark unless the training fails."""
        seen = reading.seen
        widths = _widths(seen)
        if not widths:
            return NotApplicable("no hidden fully connected layer ends in a rectifier")
        narrow = [site for site, width in widths.items() if 0.5**width > self.lost]
        least = min(widths.values())
        share = 0.5**least
        if not narrow:
            return Passed(f"the narrowest layer of rectifiers has {least} units")
        end = outcome(reading)
        failed = end == "diverges" or (end == "flat" and self._shut(reading, narrow))
        return Finding(
            self.code,
            Severity.WARNING if failed else Severity.INFO,
            "narrow-layer",
            f"{names(seen, narrow)[0]} has {least} rectifier{'s' if least > 1 else ''}: for about "
            f"{show(100 * share)} % of all inputs all are off, and pass neither signal nor "
            "gradient.",
            names(seen, narrow),
            {"units": least, "lost": share},
            ("nn.LeakyReLU(0.2) in place of nn.ReLU(), or more units.",),
            self.explains,
        )

    def _shut(self, reading: Reading, narrow: list[int]) -> bool:
        """Whether inputs do not reach the output, by the latest look; else it may be slow alone."""
        dead = latest(reading, "forward.dead")
        depends = dependence(latest_with(reading, "output.spread"))
        shut = depends is not None and depends < self.constant
        return shut or any(dead.value("forward.dead", site) for site in narrow)

    @staticmethod
    def sick() -> Reading:
        """Two units, and a loss that does not fall."""
        return _example(2)

    @staticmethod
    def well() -> Reading:
        """Sixteen."""
        return _example(16)


def _widths(record: Record) -> dict[int, int]:
    """Units of the hidden rectifiers of vectors through which everything passes."""
    hidden, everywhere = hidden_sites(record), unavoidable(record)
    return {
        i: site.shape[1]
        for i, site in enumerate(record.sites)
        if site.kind in RECTIFIERS and i in hidden & everywhere and len(site.shape) == 2
    }


def _example(units: int) -> Reading:
    """A chain whose rectifiers have so many units, rehearsed without success."""
    facts = {"loss.kind": "cross_entropy", "loss.chance": 2.303, "output.rms": 1.0}
    record = chain(3, facts=facts)
    sites = [replace(s, shape=(16, units)) if s.kind == "relu" else s for s in record.sites]
    first = replace(record, sites=tuple(sites))
    last = replace(first, step=80, facts={**first.facts, "output.spread": 1e-6})
    return with_history(first, last, losses=[2.31 + 0.01 * (-1) ** k for k in range(80)])
