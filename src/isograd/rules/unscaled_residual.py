"""Residual branches that add up until the stream explodes."""

import math
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record, Site
from isograd.rules._causes import UNSCALED
from isograd.rules._numbers import show
from isograd.rules._profile import idle_norms, outcome, slope, weighed
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OF_TRAINING, OVER_DEPTH


@dataclass(frozen=True)
class UnscaledResidual(Rule):
    """Residual branches are neither scaled nor normalized.

    Sees: the rms of the stream at every residual addition, as growth per addition, and how large
        the added branch is beside the stream.

    Matters: a branch as large as the stream doubles its variance at every block: 2^50 after fifty.
        The skip connections keep the gradient from vanishing and make it explode instead, by the
        same factor.

    Wrong when: branches start from a normalized input, so that the stream grows with the square
        root of the depth; fifty blocks are then a factor seven, far below the threshold.

    Do: start the last layer of every branch at zero, or multiply the branch by 1/sqrt(number of
        blocks), or normalize its input.
    """

    code: ClassVar[str] = "IG303"
    rank: ClassVar[int] = 40
    explains: ClassVar[tuple[str, ...]] = (*OVER_DEPTH, "IG302", *OF_TRAINING)

    fewest: int = 4
    """Additions needed to tell geometric growth from a single large branch."""
    per_block: float = 1.1
    """Growth that no normalized branch shows after the first few blocks: sqrt((l + 1) / l) is
    below it from the fifth; doubling the variance is 1.41."""
    large: float = 30.0
    """Growth of the stream that a thousandfold loss follows from; ten unscaled blocks reach it."""
    hopeless: float = 1e3
    """Growth after which the first step is not finite: twenty unscaled blocks."""

    def judge(self, reading: Reading) -> Outcome:
        """Fits the growth of the stream over the additions."""
        seen = reading.seen
        idle = idle_norms(seen)
        if idle:
            return idle
        adds = _stream(seen)
        if len(adds) < self.fewest:
            return NotApplicable(f"{len(adds)} residual additions with a measured rms")
        logs = [log for _, log in adds]
        second = logs[len(logs) // 2 :]
        rate = math.exp(min(slope(range(len(logs)), logs), 700.0))
        late = math.exp(min(slope(range(len(second)), second), 700.0)) if len(second) > 1 else rate
        growth = math.exp(min(max(logs[-1] - logs[0], 0.0), 700.0))
        summary = (
            f"the stream grows x{show(rate)} per addition, {show(growth)} times over {len(adds)}"
        )
        if growth < self.large or min(rate, late) < self.per_block:
            return Passed(summary)
        ratios = [r for i, _ in adds if (r := seen.value("forward.branch_ratio", i)) is not None]
        told = f", its branches {show(sorted(ratios)[len(ratios) // 2])} of it" if ratios else ""
        severity = Severity.ERROR if growth > self.hopeless else Severity.WARNING
        severity = weighed(severity, outcome(reading))
        return Finding(
            self.code,
            severity,
            "unscaled-residual",
            f"{summary[0].upper()}{summary[1:]} additions{told}.",
            tuple(seen.sites[i].name for i, _ in reversed(adds))[:3],
            {"per_block": rate, "growth": growth, "additions": len(adds)},
            UNSCALED,
            () if severity is Severity.INFO else self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Twenty blocks that double the variance each."""
        return _example(math.sqrt(2))

    @staticmethod
    def well() -> Reading:
        """Twenty blocks scaled by 1/sqrt(20)."""
        return _example(math.exp(1 / 40))


def _stream(record: Record) -> list[tuple[int, float]]:
    return [
        (i, math.log(rms))
        for i, rms in record.pairs("forward.rms")
        if record.sites[i].kind == "add" and rms > 0
    ]


def _example(factor: float) -> Reading:
    sites: list[Site] = [Site("stem", "linear", "Linear", 1, (16, 37), (), ())]
    rms = [1.0]
    for block in range(20):
        stream = len(sites) - 1
        sites.append(Site(f"blocks.{block}.fc", "linear", "Linear", block + 2, (16, 37), (stream,)))
        sites.append(
            Site(f"blocks.{block}:add", "add", "add", block + 2, (16, 37), (stream, stream + 1))
        )
        rms += [rms[-1], rms[-1] * factor]
    ratio = tuple(math.sqrt(factor**2 - 1) if s.kind == "add" else None for s in sites)
    series = {"forward.rms": tuple(rms), "forward.branch_ratio": ratio}
    return Reading(Record(tuple(sites), series=series))
