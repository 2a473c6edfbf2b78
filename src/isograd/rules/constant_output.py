"""The network answers the same whatever it is asked."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._causes import why_lost
from isograd.rules._examples import reading
from isograd.rules._numbers import dependence, fact, show
from isograd.rules._profile import ROUNDING, hidden_sites, idle_norms, outcome
from isograd.rules._rates import lower
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._watched import latest_with


@dataclass(frozen=True)
class ConstantOutput(Rule):
    """The outputs do not depend on the inputs.

    Sees: the spread of the tensor that enters the loss over the samples of the batch, relative to
        its rms, at the first look and at the last one of a rehearsal or of a watched run.

    Matters: such a network can learn the mean target or the frequencies of the labels, and
        nothing else; the loss then stands on a plateau that has a name (ln of the number of
        classes, the variance of the targets).

    Wrong when: the last layer starts at zero on purpose, which the first step ends: then it is
        information. With one sample there is nothing to compare.

    Do: find where the signal is lost: dead units, a collapse over depth, or a step that was too
        large, as the other findings say.
    """

    code: ClassVar[str] = "IG203"
    rank: ClassVar[int] = 65
    explains: ClassVar[tuple[str, ...]] = ("IG207", "IG604")

    constant: float = 1e-4
    """Spread over rms of the outputs. Networks that learn start above 1e-3 (three sigmoid layers
    2e-2); those that hold still start below 1e-5."""
    lost: float = 0.1
    """Part of the spread over samples, in the outputs' own units, that is left where a step threw
    the network off. Where more is left of a spread below `constant` (of a logit, or of the targets'
    deviation), the outputs never differed by anything that counts."""
    rounding: float = ROUNDING
    """Spread over rms down to which an adaptive optimizer still finds the differences."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges the first look, then the last."""
        seen, last = reading.seen, latest_with(reading, "output.spread")
        before, after = dependence(seen), dependence(last)
        idle = idle_norms(seen)
        if idle:
            return idle
        if before is None:
            return NotApplicable("needs the outputs of at least two samples")
        if before < self.constant:
            return self._at_start(reading, before, after)
        if after is not None and after < self.constant and outcome(reading) != "trains":
            was, now = (fact(record, "output.spread") or 0.0 for record in (seen, last))
            scale = fact(seen, "target.std") if seen.fact("target.kind") == "real" else 1.0
            if was < self.constant * (scale or 1.0) and now > self.lost * was:
                return self._always(reading, was, last.step)
            return Finding(
                self.code,
                Severity.ERROR,
                "lr-too-high",
                f"The outputs depended on the inputs at first (spread over rms {show(before)}); "
                f"after {last.step} steps they are the same for every sample ({show(after)}).",
                evidence={"before": before, "after": after, "step": last.step},
                remedies=(f"{lower(reading)}, or warm it up over the first steps.",),
                explains=self.explains,
            )
        return Passed(f"spread over samples is {show(before)} of the outputs' rms")

    def _always(self, reading: Reading, spread: float, step: int) -> Outcome:
        """Outputs that differ as much as ever, but have all moved away from zero together."""
        small = reading.seen.fact("optimizer.adaptive") and outcome(reading) != "flat"
        return Finding(
            self.code,
            Severity.INFO if small else Severity.ERROR,
            "init-too-small",
            f"The outputs differ by {show(spread)} over the samples, at the start and after {step} "
            "steps, in which all of them have moved together.",
            evidence={"spread": spread, "step": step},
            remedies=(
                "Start the weights, or embeddings, that are multiplied with one another larger: a "
                "product of two that are nearly zero has nearly no gradient at either.",
            ),
            explains=() if small else self.explains,
        )

    def _at_start(self, reading: Reading, share: float, after: float | None) -> Outcome:
        seen = reading.seen
        sizes = _head_sizes(seen)
        still = after is None or after < self.constant
        if sizes and max(sizes) == 0 and not (still and outcome(reading) == "flat"):
            return Passed("the last layer starts at zero, so the outputs do too")
        cause = why_lost(seen)
        severity = Severity.INFO if outcome(reading) == "trains" else Severity.ERROR
        if severity is Severity.ERROR and seen.fact("optimizer.adaptive") and share > self.rounding:
            severity = Severity.INFO
        return Finding(
            self.code,
            severity,
            cause.name,
            f"The outputs are almost the same for every sample: their spread is {show(share)} of "
            f"their rms; {cause.because}.",
            evidence={"spread_over_rms": share, **cause.evidence},
            remedies=cause.remedies,
            explains=self.explains if severity is Severity.ERROR else (),
        )

    @staticmethod
    def sick() -> Reading:
        """Logits that differ by a millionth."""
        return reading(4, series=_WEIGHTS, facts={"output.spread": 6e-8, "output.rms": 0.05})

    @staticmethod
    def well() -> Reading:
        """Logits that differ by half their size."""
        return reading(4, series=_WEIGHTS, facts={"output.spread": 0.03, "output.rms": 0.05})


_WEIGHTS = {
    "weight.rms": 0.09,
    "weight.gain": 0.577,
    "weight.gain_fit": 1.414,
    "weight.fan_in": 41.0,
    "weight.fan_out": 37.0,
}


def _head_sizes(record: Record) -> list[float]:
    """Rms of the weights behind which no other weight layer comes."""
    hidden = hidden_sites(record)
    return [
        rms
        for site in record.weight_sites()
        if site not in hidden
        for p in record.sites[site].parameters
        if record.parameters[p].is_weight and (rms := record.value("weight.rms", p)) is not None
    ]
