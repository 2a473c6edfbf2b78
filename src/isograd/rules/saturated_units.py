"""Bounded activations that sit on their flat ends."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._causes import OVERSHOOT, hidden_layers
from isograd.rules._examples import reading
from isograd.rules._numbers import fact, show
from isograd.rules._profile import hidden_sites, learnt, names, needs, outcome, weighed
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.sites import BOUNDED


@dataclass(frozen=True)
class SaturatedUnits(Rule):
    """Units sit on the flat ends of a bounded activation.

    Sees: for every hidden sigmoid, tanh and the like, the share of entries at which the
        derivative of this activation is below 5 % of its largest value.

    Matters: what a saturated unit passes back is next to nothing, and moving it out of there is
        what the missing gradient would be needed for. Its output is a sign, so most of what the
        input said is gone as well.

    Wrong when: the activation is a gate that is meant to open or close; a gate inside a
        recurrent layer is not looked at, and the output layer is IG206's.

    Do: scale the weights down to the gain that fits the activation, normalize the input, or put
        a normalization in front of the activation.
    """

    code: ClassVar[str] = "IG204"
    rank: ClassVar[int] = 64
    explains: ClassVar[tuple[str, ...]] = ("IG203", "IG207", "IG603", "IG604")

    many: float = 0.6
    """Weights 2.5 times too large still learn with 40 % of the entries saturated, and training
    alone brings the first layer to 55 %; beyond, the median path through the layer is closed."""
    wide_input: float = 3.0
    """Rms of the input, in units of a normalized one, that alone saturates a first layer with
    the gain that fits."""

    def judge(self, reading: Reading) -> Outcome:
        """Looks for hidden bounded activations most of whose entries are saturated."""
        seen = reading.seen
        hidden = hidden_sites(seen)
        shares = {
            i: share
            for i, share in seen.pairs("forward.saturated")
            if i in hidden and seen.sites[i].kind in BOUNDED
        }
        if not shares:
            return needs(seen, "forward.saturated") or NotApplicable(
                "no hidden layer has an activation that is bounded on both sides"
            )
        over = sorted((i for i in shares if shares[i] > self.many), key=lambda i: -shares[i])
        if not over:
            return Passed(f"at most {show(max(shares.values()))} of a layer's entries saturate")
        cause, why, remedy = self._cause(seen, over)
        worst = over[0]
        return Finding(
            self.code,
            self._severity(reading, over),
            cause,
            f"{show(100 * shares[worst])} % of the entries of {seen.sites[worst].name} are "
            f"saturated ({len(over)} of {len(shares)} hidden layers have more than "
            f"{show(100 * self.many)} %): {why}.",
            names(seen, over),
            {"saturated": shares[worst], "layers": len(over)},
            (remedy, f"Or put a normalization in front of {seen.sites[worst].name}."),
            (*self.explains, "IG603") if cause == "init-too-large" else self.explains,
        )

    def _severity(self, reading: Reading, over: list[int]) -> Severity:
        """A loss that falls is no comfort as long as the layers stay shut: then the last learns."""
        last = reading.last
        open_now = all((last.value("forward.saturated", i) or 0.0) <= self.many for i in over)
        moved = reading.history and tuple(last.sites) == tuple(reading.seen.sites)
        result = outcome(reading)
        if result == "trains" and moved and not open_now and not learnt(reading.seen):
            return Severity.WARNING
        return weighed(Severity.WARNING, result)

    def _cause(self, record: Record, over: list[int]) -> tuple[str, str, str]:
        before = {s: layer for layer in hidden_layers(record) for s in record.consumers(layer.site)}
        ratios = {
            i: before[i].gain / fit
            for i in over
            if i in before and (fit := before[i].fit) is not None
        }
        large = {i: r for i, r in ratios.items() if r > OVERSHOOT}
        if large:
            site = max(large, key=lambda i: large[i])
            layer = before[site]
            weight = record.parameters[layer.parameter].name
            return (
                "init-too-large",
                f"the gain of {weight} is {show(layer.gain)} where {show(layer.fit or 1.0)} fits",
                f"Scale {weight} and its like down to gain {show(layer.fit or 1.0)}: std = "
                f"{show(layer.fit or 1.0)} / fan_in ** 0.5.",
            )
        rms = fact(record, "batch.rms")
        if rms is not None and rms > self.wide_input and record.sites[over[0]].depth == 1:
            return (
                "input-not-normalized",
                f"the inputs have an rms of {show(rms)}",
                "Standardize the inputs with the mean and standard deviation of the training set.",
            )
        kind = record.sites[over[0]].kind
        return (
            "saturating-activation",
            f"what enters {kind} is far out of its linear part",
            f"Replace {kind} in the hidden layers by ReLU, GELU or SiLU.",
        )

    @staticmethod
    def sick() -> Reading:
        """Tanh layers whose weights are six times too large."""
        return _example(0.83, 9.6)

    @staticmethod
    def well() -> Reading:
        """The same layers with the gain that fits."""
        return _example(0.04, 1.6)


def _example(saturated: float, gain: float) -> Reading:
    series = {"forward.saturated": saturated, "weight.gain": gain, "weight.gain_fit": 1.593}
    return reading(4, activation="tanh", series=series)
