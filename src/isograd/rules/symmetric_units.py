"""Units of a layer that are copies of each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import WEIGHT_KINDS, Reading, Record
from isograd.rules._examples import reading
from isograd.rules._numbers import show
from isograd.rules._profile import hidden_sites, needs
from isograd.rules._rule import Outcome, Passed, Rule
from isograd.rules._symptoms import OF_TRAINING, OVER_DEPTH
from isograd.sites.paths import closed_norms


@dataclass(frozen=True)
class SymmetricUnits(Rule):
    """The units of a layer are equal.

    Sees: how far the incoming weights of a layer's units differ from each other, relative to their
        size, and whether the next weight layer is constant as well; which norms multiply by zero.

    Matters: units with equal weights in and equal weights out give the same output and get the
        same gradient, so they stay equal for ever: the layer is one unit wide. With zero weights
        not even that is left, since gradient and signal are both multiplied by zero. So it is with
        norms whose weights are zero, where nothing goes around them: two in a row, or one before
        a rectifier, never move.

    Wrong when: one layer alone is zero, as the last layer of a network, of a residual branch or
        of an adapter on purpose is: its neighbors tell its units apart at the first step. Only
        two constant layers in a row, without a skip connection, are an error. The last norm of a
        residual branch is zero on purpose.

    Do: draw the weights at random (nn.init.kaiming_normal_, nn.init.xavier_normal_); only biases
        may start at zero, and weights of norms at one.
    """

    code: ClassVar[str] = "IG301"
    rank: ClassVar[int] = 30
    explains: ClassVar[tuple[str, ...]] = (*OVER_DEPTH, "IG104", "IG302", *OF_TRAINING, "IG701")

    equal: float = 1e-3
    """Differences between units over their size. Drawn weights have 1; noise that is meant to
    break the symmetry of equal weights must not be smaller than what one step adds."""

    def judge(self, reading: Reading) -> Outcome:
        """Looks for constant weights that meet."""
        seen = reading.seen
        closed = closed_norms(seen)
        if closed:
            return self._closed(seen, closed)
        lacking = needs(seen, "weight.row_spread")
        if lacking:
            return lacking
        constant = {
            i
            for i, spread in seen.pairs("weight.row_spread")
            if spread < self.equal and _has_units(seen, i)
        }
        flat = {i for i in range(len(seen.parameters)) if _one_flat_unit(seen, i)}
        if not constant:
            least = min((value for _, value in seen.pairs("weight.row_spread")), default=0.0)
            return Passed(
                f"the units of every layer differ, by at least {show(least)} of their size"
            )
        pairs = _meeting(seen, constant | flat)
        if pairs:
            return self._found(seen, sorted({p for pair in pairs for p in pair}), Severity.ERROR)
        looped = _looped(seen, constant)
        if looped:
            return self._found(seen, looped, Severity.ERROR)
        odd = [i for i in constant if (seen.value("weight.rms", i) or 0.0) > 0 and _inner(seen, i)]
        if odd:
            return self._found(seen, sorted(odd), Severity.WARNING)
        return Passed(
            f"{len(constant)} weights start constant, each alone between layers that were drawn"
        )

    def _found(self, record: Record, weights: Sequence[int], severity: Severity) -> Finding:
        names = tuple(record.parameters[i].name for i in weights)
        sizes = [record.value("weight.rms", i) or 0.0 for i in weights]
        zero = max(sizes) == 0
        what = "zero" if zero else f"constant (rms {show(max(sizes))})"
        then = (
            "signal and gradient are multiplied by zero"
            if zero
            else "all units of such a layer stay copies of one another"
        )
        total = sum(p.is_weight for p in record.parameters)
        return Finding(
            self.code,
            severity,
            "init-constant",
            f"{len(names)} of {total} weights start {what}: {', '.join(names[:3])}"
            f"{', …' if len(names) > 3 else ''}; {then}.",
            names,
            {"rms": sizes, "row_spread": [record.value("weight.row_spread", i) for i in weights]},
            (
                f"Draw {names[0]} and its like at random: nn.init.kaiming_normal_(weight) before "
                "ReLU, nn.init.xavier_normal_(weight) before tanh or sigmoid; biases may be zero.",
            ),
            self.explains,
        )

    def _closed(self, record: Record, weights: Sequence[int]) -> Finding:
        names = tuple(record.parameters[i].name for i in weights)
        return Finding(
            self.code,
            Severity.ERROR,
            "init-constant",
            f"{len(names)} norm{'s' * (len(names) > 1)} that nothing goes around multiply by zero "
            f"({', '.join(names[:3])}{', …' if len(names) > 3 else ''}): no signal and no gradient "
            "passes.",
            names,
            {"rms": [0.0] * len(names)},
            ("Start the weights of norms at one; zero is for the last norm of a residual branch.",),
            self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """All weights set to 0.01."""
        return _example(0.0)

    @staticmethod
    def well() -> Reading:
        """All weights drawn."""
        return _example(1.0)


def _looped(record: Record, constant: set[int]) -> list[int]:
    """Weights of recurrent layers of which every weight is constant: their units stay copies."""
    layers = [
        _weights_of(record, i) for i, site in enumerate(record.sites) if site.kind == "recurrent"
    ]
    return sorted({p for weights in layers if set(weights) <= constant for p in weights})


def _has_units(record: Record, index: int) -> bool:
    parameter = record.parameters[index]
    many = len(parameter.shape) > 1 and parameter.shape[0] > 1
    return parameter.is_weight and parameter.trainable and many


def _one_flat_unit(record: Record, index: int) -> bool:
    """Whether this is a layer of one unit that reads all of its inputs with one weight."""
    parameter = record.parameters[index]
    mean, rms = record.value("weight.mean", index), record.value("weight.rms", index)
    if not parameter.is_weight or parameter.shape[0] != 1 or mean is None or rms is None:
        return False
    # rms² is mean² plus the variance; the margin is what float32 adds to equal weights.
    return math.prod(parameter.shape) > 1 and abs(mean) >= (1 - 1e-6) * rms


def _weights_of(record: Record, site: int) -> list[int]:
    indices = record.sites[site].parameters
    return [
        p for p in indices if 0 <= p < len(record.parameters) and record.parameters[p].is_weight
    ]


def _inner(record: Record, index: int) -> bool:
    """Whether another weight layer reads what this one gives."""
    hidden = hidden_sites(record)
    return any(index in record.sites[site].parameters for site in hidden)


def _meeting(record: Record, constant: set[int]) -> list[tuple[int, int]]:
    """Pairs of constant weights, one of which reads the other's units with no skip between."""
    pairs = []
    for site in record.weight_sites():
        after = [p for p in _weights_of(record, site) if p in constant]
        if not after:
            continue
        waiting, done = list(record.sites[site].inputs), set[int]()
        while waiting:
            here = waiting.pop()
            if here in done or not 0 <= here < len(record.sites):
                continue
            done.add(here)
            kind = record.sites[here].kind
            if kind in WEIGHT_KINDS:
                pairs += [(p, after[0]) for p in _weights_of(record, here) if p in constant]
            elif kind != "add":
                waiting.extend(record.sites[here].inputs)
    return pairs


def _example(spread: float) -> Reading:
    return reading(3, series={"weight.row_spread": spread, "weight.rms": 0.01})
