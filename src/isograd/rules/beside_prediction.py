"""A measurement that leaves the band in which theory predicted it."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._beside import Deviation, beginnings, deviations, upstream
from isograd.rules._examples import chain
from isograd.rules._numbers import fact, show, words
from isograd.rules._profile import idle_norms, learnt
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.sites import ACTIVATIONS


@dataclass(frozen=True)
class BesidePrediction(Rule):
    """A layer does something else than its code and the size of its weights say.

    Sees: signal and gradient at every site, measured and predicted for weights that are
        independent draws with the same means and variances; the first site that leaves the
        predicted band by a jump while everything before it is inside; and weights whose units
        are nearly parallel.

    Matters: theory follows every operation of the forward. Where a measurement differs from it,
        something happens that the code does not show, such as a write through a view, a hook, a
        backward of one's own that is not the derivative, or weights that depend on each other, on
        the data or on another layer's.

    Wrong when: that is meant, as with a straight-through gradient, weights fitted to the data or
        loaded from a trained network, whose weights are no draws any more; a network that has
        learned is left out. Up to the factors below theory itself may be off.

    Do: look at the named site: gradcheck a backward of your own, look for hooks and in-place
        writes, and draw weights independently. Ignore the rule where the difference is meant.
    """

    code: ClassVar[str] = "IG701"
    rank: ClassVar[int] = 68

    bands: float = 4.0
    """Standard deviations of the prediction that are no news: one draw in 16,000 leaves them."""
    signal: float = 2.0
    """Factor of the signal. On 51 healthy networks the rules of the prediction were off by 1.7
    at most (attention over few tokens, averages over smooth maps)."""
    gradient: float = 3.0
    """Factor of the gradient. On the same networks it was off by 2.4 at most (the logits of
    attention, narrow batch norms)."""
    gross: float = 10.0
    """Factor that is a warning at a site without weights, which cannot be put down to them."""
    parallel: float = 0.3
    """Mean squared cosine between units from which a weight is of rank three or less in effect."""
    above: float = 5.0
    """Times the squared cosine of independent draws: small kernels are alike by chance."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the signal, then the gradient, then the weights."""
        seen, expected = reading.seen, reading.expected
        silent = self._silent(seen, expected)
        if silent is not None or expected is None:
            return silent or NotApplicable("nothing was predicted")
        compared = 0
        for way, factor in (("forward", self.signal), ("backward", self.gradient)):
            found = deviations(seen, expected, way)
            compared += len(found)
            outside = partial(self._outside, factor=factor)
            news = beginnings(seen, found, way, outside, math.log(factor) / 2)
            if news:
                return self._found(reading, news, way)
        alike = self._parallel(seen, expected)
        if alike:
            return self._structured(seen, expected, alike)
        if not compared:
            return NotApplicable("measurement and prediction have no number in common")
        return Passed(f"{compared} measured numbers lie where theory predicts them")

    def _silent(self, seen: Record, expected: Record | None) -> NotApplicable | None:
        if seen.source == "predicted":
            return NotApplicable("nothing was measured that a prediction could be compared with")
        if expected is None:
            return NotApplicable("nothing was predicted (check() does, or a note says why not)")
        if expected.fact("prediction.predictable") is False:
            condition = fact(expected, "prediction.condition")
            return NotApplicable(
                f"not predictable: a deviation of the signal grows {show(condition or math.inf)} "
                "times on its way, so that two draws of the weights differ by as much"
            )
        if learnt(seen):
            return NotApplicable("the network has learned: its weights are no draws any more")
        return idle_norms(seen)

    def _outside(self, one: Deviation, *, factor: float) -> bool:
        return abs(one.log) > max(self.bands * one.band, math.log(factor))

    def _found(self, reading: Reading, news: list[Deviation], way: str) -> Finding:
        seen, first = reading.seen, news[0]
        site = seen.sites[first.site]
        times = math.exp(min(abs(first.log), 700.0))
        what = "The output" if way == "forward" else "dLoss/d(output)"
        size = f"{show(times)} times {'what' if first.log > 0 else 'less than'} theory predicts"
        near = [seen.sites[i].name for i in upstream(seen, way)[first.site]]
        bare = _bare(seen, first.site, way)
        severity = Severity.WARNING if bare and times > self.gross else Severity.INFO
        shared = _share_values(reading.expected)
        return Finding(
            self.code,
            severity,
            "other-than-predicted",
            f"{what} of {site.name} has rms {show(first.measured)}, {size} "
            f"({show(first.predicted)}, known to {show(100 * first.band)} %), while "
            f"{_before(near, way)} as predicted.",
            tuple(seen.sites[one.site].name for one in news),
            {
                "measured": first.measured,
                "predicted": first.predicted,
                "factor": math.exp(min(max(first.log, -700.0), 700.0)),
                "band": first.band,
                "way": way,
            },
            _remedies(seen, first.site, way, bare=bare, shared=shared),
        )

    def _parallel(self, seen: Record, expected: Record) -> list[int]:
        places = {parameter.name: i for i, parameter in enumerate(expected.parameters)}
        found = []
        for index, cosine in seen.pairs("weight.row_cosine"):
            place = places.get(seen.parameters[index].name)
            usual = None if place is None else expected.value("weight.row_cosine", place)
            if usual and cosine > max(self.parallel, self.above * usual):
                found.append(index)
        return found

    def _structured(self, seen: Record, expected: Record, alike: list[int]) -> Finding:
        names = tuple(seen.parameters[i].name for i in alike)
        cosine = seen.value("weight.row_cosine", alike[0])
        usual = expected.value("weight.row_cosine", alike[0])
        assert cosine is not None
        return Finding(
            self.code,
            Severity.INFO,
            "other-than-predicted",
            f"The units of {names[0]} are nearly parallel, as in a weight of rank "
            f"{max(round(1 / cosine), 1)}: the mean squared cosine between two of them is "
            f"{show(cosine)}, where independent draws have {show(usual or 0.0)}.",
            names,
            {"row_cosine": cosine, "predicted": usual},
            (
                f"Draw every entry of {names[0]} by itself (nn.init.kaiming_normal_); or, if a low "
                "rank is meant, write it as a product of two thin layers.",
            ),
        )

    @staticmethod
    def sick() -> Reading:
        """A layer that hands on thirty times what its weights say."""
        return _example(30.0)

    @staticmethod
    def well() -> Reading:
        """The same layers without it."""
        return _example(1.0)


def _share_values(expected: Record | None) -> bool:
    """Whether the prediction found weights that share their initial values."""
    found = None if expected is None else expected.fact("prediction.same_values")
    return isinstance(found, (list, tuple)) and any(words(group) for group in found)


def _bare(record: Record, index: int, way: str) -> bool:
    """Whether the step to this number is that of activations or unknown modules without weights."""
    sites = [index] if way == "forward" else list(upstream(record, way)[index])
    kinds = {*ACTIVATIONS, "module"}
    return bool(sites) and all(
        record.sites[i].kind in kinds and not record.sites[i].parameters for i in sites
    )


def _before(near: list[str], way: str) -> str:
    if not near:
        return "the input is" if way == "forward" else "the loss is"
    shown = " and ".join(near[:2]) + (" …" if len(near) > 2 else "")
    if way == "backward":
        return f"the gradient behind it, at {shown}, is"
    return f"what comes before it, {shown}, is"


def _remedies(record: Record, index: int, way: str, *, bare: bool, shared: bool) -> tuple[str, ...]:
    site = record.sites[index]
    if way == "backward":
        behind = [record.sites[i] for i in upstream(record, way)[index]]
        place = behind[0].name if behind else site.name
        found = [
            f"Run torch.autograd.gradcheck on {place} ({behind[0].label if behind else site.label})"
            f" and look for hooks (register_hook, register_full_backward_hook) between it and "
            f"{site.name}."
        ]
        weights = [p for s in behind for p in s.parameters]
    else:
        found = [
            f"Look at what {site.name} ({site.label}) does beside its forward: writes through a "
            "view of its input, hooks, state it keeps between calls, code outside of torch."
        ]
        weights = list(site.parameters)
    if not bare and weights:
        name = record.parameters[weights[0]].name
        found.append(
            f"Look at how {name} is filled: entries that were trained, fitted to the data or "
            + ("copied, as some are here," if shared else "copied")
            + " are no independent draws; if that is meant, nothing has to change."
        )
    return tuple(found)


def _example(factor: float, *, way: str = "forward", at: int = 6, band: float = 0.05) -> Reading:
    """Eight tanh layers; from site `at` on (even: weight layers) everything is scaled."""
    sizes, slopes = [0.6 * 0.97**i for i in range(8)], [1e-3 * 1.02**i for i in range(8)]
    columns = {"forward.rms": sizes, "backward.rms": slopes}
    expected = chain(
        8,
        activation="tanh",
        series={**columns, "forward.band": band, "backward.band": band},
        facts={"prediction.condition": 1.0, "prediction.predictable": True},
    )
    scaled = tuple(
        number * (factor if (i >= at if way == "forward" else i <= at) else 1.0)
        for i, number in expected.pairs(f"{way}.rms")
    )
    seen = replace(expected, series={**expected.series, f"{way}.rms": scaled})
    return Reading(seen, replace(expected, source="predicted"))


def _aligned(cosine: float) -> Reading:
    """A network one of whose weights has parallel units."""
    reading = _example(1.0)
    assert reading.expected is not None
    cosines = [0.025] * 8
    seen = {**reading.seen.series, "weight.row_cosine": (*cosines[:-1], cosine)}
    expected = {**reading.expected.series, "weight.row_cosine": tuple(cosines)}
    return Reading(replace(reading.seen, series=seen), replace(reading.expected, series=expected))
