"""All weights of a unit move in the same direction, because its inputs share one sign."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._examples import reading
from isograd.rules._numbers import show
from isograd.rules._profile import names, needs
from isograd.rules._rule import Outcome, Passed, Rule


@dataclass(frozen=True)
class ZigzagGradient(Rule):
    """The weights of a unit can only move together.

    Sees: for hidden weight layers, how one-sided their inputs are (mean over rms of what feeds
        them) and how far the signs of each unit's weight gradients agree over the batch.

    Matters: when all inputs of a unit are positive, its weight gradients for one sample all share
        one sign. Steps then reach only two of the many directions, and the path zig-zags; over a
        batch the same thing shows as a badly conditioned problem, whose one steep direction is the
        mean of the inputs.

    Wrong when: a batch averages most of it away, and a shallow network learns all the same: this
        is information, never more; where signal or gradient die, IG101 and IG201 say so. Outputs
        of ReLU are half zeros and do not count; neither do images in 0..1, which are IG601's.

    Do: replace sigmoid or softplus by a centered activation (tanh, GELU, ELU), or put a
        normalization between it and the next layer.
    """

    code: ClassVar[str] = "IG104"
    rank: ClassVar[int] = 66

    one_sided: float = 0.9
    """Mean over rms of the inputs; ReLU of a Gaussian has 0.56, sigmoid 0.92."""
    agreeing: float = 0.8
    """Mean over units of |sum of signs| / entries: with independent signs it is 0.08 for a
    hundred entries."""
    layers: int = 2
    """One such layer may be a design (a gate, an attention weight)."""
    share: float = 0.5
    """Part of the hidden weight layers concerned from which it is a trait of the network."""

    def judge(self, reading: Reading) -> Outcome:
        """Counts hidden weight layers with one-sided inputs and agreeing gradients."""
        seen = reading.seen
        lacking = needs(seen, "weight.grad_sign", "forward.mean", "forward.rms")
        if lacking:
            return lacking
        hidden = [i for i in seen.weight_sites() if seen.sites[i].depth > 1]
        found = [i for i in hidden if self._concerned(seen, i)]
        if len(found) < max(self.layers, self.share * len(hidden)):
            return Passed(
                f"{len(found)} of {len(hidden)} hidden weight layers have one-sided inputs"
            )
        worst = max(_one_sided(seen, i) for i in found)
        return Finding(
            self.code,
            Severity.INFO,
            "gradient-sign",
            f"{len(found)} of {len(hidden)} hidden weight layers get inputs of one sign (mean over "
            f"rms up to {show(worst)}): all weights of a unit move the same way.",
            names(seen, found),
            {"mean_over_rms": worst, "layers": len(found)},
            (
                f"Put a normalization (BatchNorm, LayerNorm) before {seen.sites[found[0]].name}"
                " and its like, or use a centered activation (tanh, GELU, ELU) there.",
            ),
        )

    def _concerned(self, record: Record, site: int) -> bool:
        signs = [record.value("weight.grad_sign", p) or 0.0 for p in record.sites[site].parameters]
        agreeing = max(signs, default=0.0) > self.agreeing
        return agreeing and _one_sided(record, site) > self.one_sided

    @staticmethod
    def sick() -> Reading:
        """Four layers fed by sigmoids."""
        return _example(mean=0.5)

    @staticmethod
    def well() -> Reading:
        """The same, centered."""
        return _example(mean=0.02)


def _one_sided(record: Record, site: int) -> float:
    """Mean over rms of what feeds the site, whichever sign; 0 where unknown."""
    sides = [0.0]
    for source in record.sites[site].inputs:
        mean, rms = record.value("forward.mean", source), record.value("forward.rms", source)
        if mean is not None and rms:
            sides.append(abs(mean) / rms)
    return max(sides)


def _example(mean: float) -> Reading:
    return reading(
        4,
        activation="sigmoid",
        series={"forward.mean": mean, "forward.rms": 0.54, "weight.grad_sign": 0.95},
    )
