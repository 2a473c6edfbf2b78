"""Steps that are too large or too small for the weights they change."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._causes import Cause, hidden_layers, why_grows, why_lost
from isograd.rules._course import course, known_chance
from isograd.rules._examples import reading
from isograd.rules._numbers import fact, finite, show
from isograd.rules._numbers import middle as middle_of
from isograd.rules._profile import (
    effective_updates,
    gradient,
    needs,
    outcome,
    signal,
    weighed,
)
from isograd.rules._rates import SEARCHING, USUAL, held, lower
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OVER_TIME
from isograd.rules._watched import NOW, cooling, over, some, suffers, warming, watched


@dataclass(frozen=True)
class UpdateRatio(Rule):
    """The optimizer's steps do not fit the weights.

    Sees: the size of the optimizer's first update of every weight over the size of the weight,
        measured on a copy; for being too small with the 1/(1 - momentum) that it builds up to. In
        a watched run, the updates of every look, beside those of the looks before.

    Matters: this ratio is the speed of learning, whatever the loss, the batch and the optimizer
        are. About 1e-3 is usual. At a tenth and more per step the weights are replaced before the
        gradient is computed anew, and rectifiers die; at 1e-5 it takes a hundred thousand steps
        to change a weight by its own size.

    Wrong when: a weight started at zero, whose ratio means nothing; it is left out. Weights in
        front of a norm may take large steps, since the norm takes their size away again. Small
        steps during a warm-up, at the end of a schedule or in fine-tuning are meant: where a
        schedule has noted down a higher rate, that one is judged for being too low. A step of
        LBFGS is many, whose length it finds itself; it is not judged.

    Do: change the learning rate by the factor that is named. If only early layers stand still the
        gradient vanishes, and a larger learning rate is not the cure.
    """

    code: ClassVar[str] = "IG304"
    rank: ClassVar[int] = 61
    explains: ClassVar[tuple[str, ...]] = (
        "IG203", "IG204", "IG205", "IG207", "IG305", "IG401", "IG604", "IG609",
        *OVER_TIME,
    )  # fmt: skip

    high: float = 0.1
    """Ten steps replace the weight, for the median of the hidden weights. Rectifiers die from
    about here with plain SGD."""
    built_up: float = 1.0
    """The same once momentum has added up 1/(1 - momentum) such steps, if they agree: then every
    step replaces the weight. Networks that learn with momentum stay below a third."""
    high_adaptive: float = 0.5
    """An adaptive step does not grow with the gradient, so that it takes more to do harm; at
    this size two steps replace the weight."""
    thrown: float = 100.0
    """Times the loss of chance, after the first step, from which that step alone has done harm, and
    those that follow being smaller is no excuse."""
    normalized: float = 10.0
    """Times as much for a weight in front of a norm: it grows sideways under a large step, and the
    norm takes its size away again; beyond this not even its direction survives."""
    low: float = 1e-5
    """A hundred thousand steps for one weight's size."""
    low_where_lost: float = 1e-4
    """Where the depth loses signal or gradient, ten times more: networks that learn from such a
    start have at least this in every layer, those that stand still have less."""
    jump: float = 10.0
    """Times the updates of the looks before, in a watched run: schedules and noise stay below."""
    loses: float = 0.05
    """Share of signal or gradient left over depth below which the depth takes part in it."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges the median for being too high, the hidden layers for being too low."""
        seen = reading.seen
        lacking = needs(seen, "weight.update_ratio")
        if lacking:
            return lacking
        if seen.fact("optimizer.name") in SEARCHING:
            return NotApplicable(
                f"a step of {seen.fact('optimizer.name')} is many, as long as it finds fit"
            )
        if fact(seen, "optimizer.lr") == 0 and not watched(reading):
            return self._still()
        ratios = effective_updates(seen)
        if not ratios:
            return NotApplicable("no weight that moves from a value that is not zero")
        if watched(reading):
            return self._over_time(reading, ratios)
        steps = self._first_steps(seen, ratios)
        middle = median(steps.values()) if steps else 0.0
        high, built_up, momentum = self._limits(seen, excused=not self._threw(reading))
        built_up = built_up * (1 - momentum) if momentum < 1 else high
        if middle > min(high, built_up):
            return self._too_high(reading, steps, middle)
        left = _left(seen)
        low = self.low_where_lost if left < self.loses else self.low
        slow = [i for i, ratio in ratios.items() if ratio * held(seen) < low]
        if 2 * len(slow) <= len(ratios):
            return Passed(
                f"a typical weight moves by {show(median(ratios.values()))} of its size per step"
            )
        return self._too_low(reading, ratios, slow, left)

    def _still(self) -> Finding:
        return Finding(
            self.code,
            Severity.WARNING,
            "lr-too-low",
            "The learning rate is 0: no step moves a weight.",
            evidence={"lr": 0.0},
            remedies=("Set a learning rate, such as 1e-3 for Adam or 0.1 for SGD.",),
            explains=self.explains,
        )

    def _threw(self, reading: Reading) -> bool:
        """Whether the first step of a rehearsal threw the loss up."""
        path, chance = course(reading), known_chance(reading.seen)
        return bool(path and chance and max(path.losses[1:2], default=0.0) > self.thrown * chance)

    def _limits(self, record: Record, *, excused: bool = True) -> tuple[float, float, float]:
        """Largest update without momentum, with momentum built up, and the momentum."""
        adaptive = bool(record.fact("optimizer.adaptive"))
        high = self.high_adaptive if adaptive else self.high
        if excused:  # the steps that follow the first are smaller
            high *= max(fact(record, "optimizer.first_step") or 1.0, 1.0)
        momentum = 0.0 if adaptive else fact(record, "optimizer.momentum") or 0.0
        return high, self.built_up * high / self.high, momentum

    def _first_steps(self, record: Record, ratios: Mapping[int, float]) -> dict[int, float]:
        """What the first step alone does to the hidden weights.

        Momentum is left out: where steps are large it finds the gradient changed. A weight that is
        smaller than what fits is measured by what fits, since growing does it no harm. Of a single
        layer nothing is left: it may go to its optimum in one step, and no unit behind it dies.
        """
        if len(ratios) < 2:
            return {}
        steps = {}
        lenient = self._lenience(record)
        for index in _hidden(record, ratios):
            gain, fit = record.value("weight.gain", index), record.value("weight.gain_fit", index)
            size = min(1.0, gain / fit) if gain is not None and fit else 1.0
            size /= lenient.get(index, 1.0)
            steps[index] = (record.value("weight.update_ratio", index) or 0.0) * size
        return steps or dict(ratios)

    def _lenience(self, record: Record) -> dict[int, float]:
        """Weights in front of a norm, and how much more these bear."""
        return {x.parameter: self.normalized for x in hidden_layers(record) if x.normalized}

    def _over_time(self, reading: Reading, ratios: dict[int, float]) -> Outcome:
        """Judges the updates of now: too high, far above those before, or too low to learn."""
        seen = reading.seen
        high, built_up, momentum = self._limits(seen)
        column = over(reading, "weight.update_ratio", fewest=NOW)
        if isinstance(column, NotApplicable):
            steps = self._first_steps(seen, ratios)
            middle = median(steps.values()) if steps else 0.0
            if middle > min(high, built_up * max(1 - momentum, 0.0) or high):
                return self._too_high(reading, steps, middle)
            return Passed(f"the first step changes a typical weight by {show(middle)} of its size")
        chosen = some(len(column.steps))
        lenient = self._lenience(seen)
        rows = [
            [v if v is None else v / lenient.get(i, 1.0) for v in map(finite, column.rows[i])]
            for i in _hidden(seen, ratios)
        ]
        typical = [
            middle_of(v for v in look if v is not None) or 0.0
            for look in zip(*([row[k] for k in chosen] for row in rows), strict=True)
        ]
        now, before = median(typical[-NOW:]), median(typical[:-NOW] or typical)
        told = f"a typical weight moves by {show(now)} of its size per step"
        usual = f", where it was {show(before)}" if len(typical) > NOW else ""
        step, rate = column.steps[-1], fact(reading.last, "optimizer.lr")
        evidence = {"median": now, "before": before, "step": step, "lr": rate}
        worst = max(ratios, key=lambda i: column.now(i) or 0.0)
        jumped = len(typical) >= 2 * NOW and now > max(self.jump * before, self.high / 10)
        if now > (built_up if momentum else high) or jumped:
            return Finding(
                self.code,
                Severity.INFO if suffers(reading) is False else Severity.WARNING,
                "lr-too-high",
                f"At step {step} {told}{usual}.",
                (seen.parameters[worst].name,),
                evidence,
                (
                    f"{lower(reading)}.",
                    "Clip the gradient norm, if single batches do this.",
                ),
                self.explains if suffers(reading) else (),
            )
        # What has come to a standstill after steps of some size is not cured by larger ones.
        always = median(typical[:NOW]) < self.low / self.loses
        meant = warming(reading) or cooling(reading)
        if now < self.low and always and suffers(reading) and not meant:
            return Finding(
                self.code,
                Severity.WARNING,
                "lr-too-low",
                f"At step {step} {told}, and the loss has not left its start.",
                tuple(seen.parameters[i].name for i in ratios),
                evidence,
                (f"Raise the learning rate{_from_to(rate, now / USUAL)}, or use Adam at 1e-3.",),
                self.explains,
            )
        return Passed(f"{told}{usual}")

    def _too_high(self, reading: Reading, ratios: dict[int, float], middle: float) -> Outcome:
        seen = reading.seen
        worst = max(ratios, key=lambda i: ratios[i])
        result = outcome(reading)
        severity = weighed(Severity.WARNING, result)
        if self._threw(reading) and severity is Severity.INFO:
            severity = Severity.WARNING  # what learns afterwards is another network
        cause = _why_high(reading)
        explains = self.explains if cause.name == "lr-too-high" else (*self.explains, "IG603")
        return Finding(
            self.code,
            severity,
            cause.name,
            f"One step changes a typical weight by {show(middle)} of its size, and "
            f"{seen.parameters[worst].name} by {show(ratios[worst])}; {cause.because}.",
            (seen.parameters[worst].name,),
            {"median": middle, "largest": ratios[worst], **cause.evidence},
            cause.remedies,
            () if severity is Severity.INFO else explains,
        )

    def _too_low(
        self, reading: Reading, ratios: dict[int, float], slow: list[int], left: float
    ) -> Finding:
        seen = reading.seen
        middle = median(ratios[i] for i in slow)
        even = len(slow) == len(ratios)
        # What the depth loses, an adaptive optimizer and the layers at the far end do not feel.
        felt = max(ratios.values()) >= self.low and not seen.fact("optimizer.adaptive")
        lost = left < self.loses and felt
        factor = USUAL / middle if middle > 0 else math.inf
        cause = why_lost(seen) if lost else _slow(seen, factor)
        severity = weighed(Severity.WARNING, outcome(reading))
        worst = min(slow, key=lambda i: ratios[i])
        return Finding(
            self.code,
            severity,
            cause.name,
            f"{'All' if even else len(slow)} of {len(ratios)} weights move by {show(middle)} of "
            f"their size per step or so, {seen.parameters[worst].name} by {show(ratios[worst])}; "
            f"{cause.because}.",
            tuple(seen.parameters[i].name for i in sorted(slow, key=lambda i: ratios[i])),
            {"median": middle, "slow": len(slow), "left_over_depth": left, **cause.evidence},
            cause.remedies,
            () if severity is Severity.INFO else self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """A learning rate at which every step replaces a third of the weights."""
        return _example(0.3)

    @staticmethod
    def well() -> Reading:
        """The usual thousandth."""
        return _example(1e-3)


def _hidden(record: Record, ratios: Mapping[int, float]) -> list[int]:
    """The weights of hidden layers among those that move; all where none is known to be."""
    hidden = {layer.parameter for layer in hidden_layers(record)}
    return [i for i in ratios if i in hidden] or list(ratios)


def _from_to(rate: float | None, factor: float) -> str:
    """To which learning rate, where the updates are so many times the usual ones."""
    if factor <= 0:
        return ""
    if not rate:
        return f" by a factor {show(max(factor, 1 / factor))}"
    return f" from {show(rate)} to about {show(rate / factor)}"


def _left(record: Record) -> float:
    """Share of signal or gradient that survives the depth, whichever is less."""
    changes = [0.0]
    for profile, back in ((gradient(record), True), (signal(record), False)):
        if profile is not None:
            changes.append(profile.change(toward_input=back, falling=True))
    return math.exp(min(changes))


def _why_high(reading: Reading) -> Cause:
    """The learning rate, unless the weights themselves amplify what it is multiplied with."""
    record = reading.seen
    layers = [x for x in hidden_layers(record) if x.fit and not x.normalized]
    excess = sum(math.log(max(x.gain, 1e-30) / (x.fit or 1.0)) for x in layers)
    if layers and excess > math.log(AMPLIFIED):
        return why_grows(record)
    rate = fact(record, "optimizer.lr")
    return Cause(
        "lr-too-high",
        f"the learning rate{f' of {show(rate)}' if rate else ''} is too large for them",
        (f"{lower(reading)}.", "Or warm it up over the first hundred steps."),
        {"lr": rate},
    )


AMPLIFIED = 10.0
"""Product of gains beyond what fits from which it is the weights that make the step large."""


def _slow(record: Record, factor: float) -> Cause:
    highest, rate = fact(record, "optimizer.lr"), fact(record, "optimizer.lr_least")
    groups = (
        f", the least of its groups (the highest is {show(highest)})," if rate and highest else ""
    )
    rate = rate or highest
    told = f" to about {show(rate * factor)}" if rate else f" by a factor {show(factor)}"
    told = told if math.isfinite(factor) else ""
    return Cause(
        "lr-too-low",
        f"signal and gradient survive the depth, so it is the learning rate"
        f"{f' of {show(rate)}' if rate else ''}{groups} that is small",
        (f"Raise the learning rate{told}, or use Adam at 1e-3.",),
        {"lr": rate},
    )


def _example(ratio: float) -> Reading:
    facts = {"optimizer.lr": 0.1, "optimizer.momentum": 0.0, "optimizer.adaptive": False}
    return reading(4, series={"weight.update_ratio": ratio, "weight.rms": 0.1}, facts=facts)
