"""Weights drawn for another activation than the one they have."""

import math
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._causes import Layer, hidden_layers, why_grows, why_lost
from isograd.rules._examples import reading
from isograd.rules._numbers import show
from isograd.rules._profile import gradient, idle_norms, needs, outcome, scale, signal, weighed
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OVER_DEPTH


@dataclass(frozen=True)
class GainMismatch(Rule):
    """The initialization does not fit the activation.

    Sees: the gain of every hidden weight, rms * sqrt(fan_in), against the gain that keeps the rms
        through the activation that follows; multiplied over the layers that no norm and no skip
        connection separates, and checked against what signal and gradient really do.

    Matters: a gain that is off by 30 % per layer is a factor 190 over twenty layers. torch's own
        default, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), has 0.577 whatever follows; ReLU needs 1.414.

    Wrong when: the network is shallow or normalized, where a wrong gain costs next to nothing:
        then it is information. Tanh shrinks until it is linear and then fits a gain of one; what
        is measured decides, not the product alone.

    Do: initialize with the gain that is named.
    """

    code: ClassVar[str] = "IG302"
    rank: ClassVar[int] = 30
    explains: ClassVar[tuple[str, ...]] = (*OVER_DEPTH, "IG304", "IG305", "IG603", "IG604")

    product: float = 1e3
    """Excess or lack over the whole depth: three decades are the limit of IG101 and IG202."""
    confirmed: float = 5e-3
    """What signal or gradient must have lost in truth (or its inverse gained). Networks that
    learn at their first attempt with plain SGD have kept more."""
    worth_telling: float = 10.0
    """Excess or lack over the whole depth that is not worth a word: one decade costs little, and
    norms and skip connections make up for the rest. Growth that a rehearsal confirms by diverging
    need not have reached more."""

    def judge(self, reading: Reading) -> Outcome:
        """Multiplies the mismatches and compares them with the profiles."""
        seen = reading.seen
        lacking = needs(seen, "weight.gain", "weight.gain_fit") or idle_norms(seen)
        if lacking:
            return lacking
        layers = [x for x in hidden_layers(seen) if x.fit and x.gain > 0]
        if not layers:
            return NotApplicable("no hidden weight layer with a known gain")
        ratios = [math.log(x.gain / (x.fit or 1.0)) for x in layers]
        plain = [x for x in layers if not x.normalized and not x.bypassed]
        total = sum(math.log(x.gain / (x.fit or 1.0)) for x in plain)
        typical = sorted(ratios)[len(ratios) // 2]
        if abs(total) <= math.log(self.worth_telling):
            return Passed(
                f"the typical hidden weight has {show(math.exp(typical))} times the gain that "
                f"fits, a factor {show(math.exp(total))} over {len(plain)} plain layers"
            )
        lost, grown = _measured(seen)
        down = total < -math.log(self.product) and lost < self.confirmed
        result = outcome(reading)
        enough = self.worth_telling if result == "diverges" else 1 / self.confirmed
        up = total > math.log(self.product) and grown > enough
        # An adaptive optimizer makes up for lost scale; IG201 says when there is nothing left.
        ill = up or (down and not seen.fact("optimizer.adaptive"))
        severity = weighed(Severity.WARNING, result) if ill else Severity.INFO
        cause = why_lost(seen) if total < 0 else why_grows(seen)
        told = f"over {len(plain)} layers that is a factor {show(math.exp(min(total, 700.0)))}"
        return Finding(
            self.code,
            severity,
            cause.name if severity is not Severity.INFO else "gain-mismatch",
            f"{_what(layers, typical)}; {told}"
            + (f"; {cause.because}." if severity is not Severity.INFO else "."),
            tuple(seen.parameters[x.parameter].name for x in layers),
            {"ratio": math.exp(typical), "product": math.exp(min(total, 700.0)), "left": lost},
            cause.remedies,
            _explained(severity, self.explains, up=up),
        )

    @staticmethod
    def sick() -> Reading:
        """Fifteen ReLU layers at torch's default initialization."""
        return _example(0.577, 0.408)

    @staticmethod
    def well() -> Reading:
        """The same layers with He's."""
        return _example(1.414, 1.0)


def _explained(severity: Severity, explains: tuple[str, ...], *, up: bool) -> tuple[str, ...]:
    """What follows: nothing from information, and an overflow only from growth."""
    if severity is Severity.INFO:
        return ()
    return (*explains, "IG401", "IG609") if up else explains


def _what(layers: list[Layer], typical: float) -> str:
    middle = sorted(layers, key=lambda x: x.gain / (x.fit or 1.0))[len(layers) // 2]
    kind = middle.activation or "the linear layer that follows"
    return (
        f"The typical hidden weight has gain {show(middle.gain)} where {kind} needs "
        f"{show(middle.fit or 1.0)} (x{show(math.exp(typical))})"
    )


def _measured(record: Record) -> tuple[float, float]:
    """The smallest share that is left of signal or gradient, and the largest growth."""
    lost, grown = 0.0, 0.0
    for profile, back in (
        (gradient(record), True),
        (signal(record), False),
        (scale(record), False),
    ):
        if profile is not None:
            lost = min(lost, profile.change(toward_input=back, falling=True))
            grown = max(grown, profile.change(toward_input=back, falling=False))
    return math.exp(lost), math.exp(min(grown, 700.0))


def _example(gain: float, factor: float) -> Reading:
    depth = 15
    return reading(
        depth,
        series={
            "weight.gain": gain,
            "weight.gain_fit": 1.414,
            "weight.gain_slope": 1.414,
            "weight.fan_in": 41.0,
            "weight.fan_out": 37.0,
            "forward.spread": [0.5 * factor**i for i in range(depth)],
            "forward.rms": [0.6 * factor**i for i in range(depth)],
        },
    )
