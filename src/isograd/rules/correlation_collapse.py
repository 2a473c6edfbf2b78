"""Different samples become the same direction."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._causes import why_lost
from isograd.rules._examples import reading
from isograd.rules._numbers import show
from isograd.rules._profile import hidden_sites, idle_norms, names, needs, outcome, rescued, slope
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule


@dataclass(frozen=True)
class CorrelationCollapse(Rule):
    """Samples become indistinguishable with depth.

    Sees: the mean cosine between the outputs of two samples at the hidden weight layers, at the
        first and at the last.

    Matters: when all samples point the same way, the last layers see the same vector whatever the
        input was. The scale of signal and gradient can be perfect all the while: a deep plain
        ReLU network with He's initialization loses its angles first.

    Wrong when: the units share a large mean, as behind a sigmoid, which a cosine near one does not
        keep from learning: only what is closer to one than training can undo counts, and before
        that it is information. Samples that are alike in the batch are alike in the network.

    Do: add residual connections or make the network shallower; normalize over the batch, which
        takes the common part away; use an activation with less curvature (a leaky ReLU with a
        larger slope, tanh near zero).
    """

    code: ClassVar[str] = "IG207"
    rank: ClassVar[int] = 66

    alike: float = 0.999
    """Angles below 2.6 degrees. Three hidden sigmoid layers reach it and learn."""
    lost: float = 0.999999
    """Angles below 0.08 degrees: spread over rms of 1e-3, where six sigmoid layers stand still. In
    a rehearsal that stands still, `alike` is enough of a reason."""
    different: float = 0.95
    """Cosine at the first weight layer above which the samples were alike to begin with."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the cosine at the deepest hidden weight layers with the first."""
        seen = reading.seen
        hidden = hidden_sites(seen) & set(seen.weight_sites())
        cosines = [
            (i, c)
            for i, c in seen.pairs("forward.correlation")
            if i in hidden and (seen.sites[i].shape or (2,))[-1] > 1 and not _silent(seen, i)
        ]
        if len(cosines) < 2 or idle_norms(seen):
            return needs(seen, "forward.correlation") or NotApplicable(
                "fewer than two hidden weight layers"
            )
        first, (deepest, last) = cosines[0][1], max(cosines, key=lambda p: seen.sites[p[0]].depth)
        if last <= self.alike or first >= self.different:
            return Passed(f"mean cosine of two samples goes from {show(first)} to {last:.6g}")
        cause = why_lost(seen)
        result = outcome(reading)
        rising = slope([seen.sites[i].depth for i, _ in cosines], [c for _, c in cosines]) >= 0
        stands = result == "flat" and not rescued(reading, 1 - last)
        ill = rising and result != "trains" and (last > self.lost or stands)
        saved = bool(seen.fact("optimizer.adaptive")) and result != "flat"
        severity = Severity.WARNING if ill and not saved else Severity.INFO
        return Finding(
            self.code,
            severity,
            cause.name,
            f"The mean cosine between two samples goes from {show(first)} at the first weight layer"
            f" to {last:.8g} at {seen.sites[deepest].name}; {cause.because}.",
            names(seen, [deepest]),
            {"first": first, "last": last, **cause.evidence},
            cause.remedies,
        )

    @staticmethod
    def sick() -> Reading:
        """Ten layers at whose end all samples are one."""
        return _example([0.3, 0.8, 0.97, 0.999, 0.9999, 0.99999, 0.999999, 0.9999999, 0.9999999])

    @staticmethod
    def well() -> Reading:
        """The same layers with angles left."""
        return _example([0.3, 0.5, 0.6, 0.7, 0.76, 0.8, 0.83, 0.85, 0.87])


def _silent(record: Record, site: int) -> bool:
    """Whether its weights start at zero: on purpose, at the end of a residual branch."""
    weights = [p for p in record.sites[site].parameters if record.parameters[p].is_weight]
    return bool(weights) and all(record.value("weight.rms", p) == 0 for p in weights)


def _example(cosines: list[float]) -> Reading:
    series = {
        "forward.correlation": [*cosines, 0.9],
        "weight.gain": 0.577,
        "weight.gain_fit": 1.414,
        "weight.fan_in": 41.0,
        "weight.fan_out": 37.0,
    }
    return reading(len(cosines) + 1, series=series)
