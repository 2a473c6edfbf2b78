"""The first value that is not a number."""

import math
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._course import course
from isograd.rules._events import Event, describe, event_of, largest
from isograd.rules._examples import chain, with_history
from isograd.rules._formats import FULL, format_of
from isograd.rules._numbers import fact, middle, sizes
from isograd.rules._rates import lower
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OVER_DEPTH, OVER_TIME
from isograd.rules._watched import watched

_CURES = {
    "sqrt": "keep its argument above zero: sqrt(x + eps), since its derivative at 0 is infinite",
    "norm": "its derivative at 0 is undefined: use (x.pow(2).sum(...) + eps).sqrt()",
    "log": "keep its argument above zero (clamp, or x + eps), or use a loss that takes logits",
    "div": "add a small number to the denominator",
    "reciprocal": "add a small number to the denominator",
    "rsqrt": "add a small number under the root",
    "pow": "keep the base above zero where the exponent is below one",
    "exp": "subtract the largest entry before the exponential, or use logsumexp or log_softmax",
    "acos": "clamp its argument to [-1 + eps, 1 - eps], where its derivative is finite",
    "asin": "clamp its argument to [-1 + eps, 1 - eps], where its derivative is finite",
}


@dataclass(frozen=True)
class Nonfinite(Rule):
    """A value is NaN or infinite.

    Sees: the first operation, in order of execution, whose result (forward) or whose gradient
        (backward) holds a NaN or an infinity, with the range of the numbers that went in; in the
        batch as it is handed in, at the first look, and at every look of a rehearsal or of a
        watched run.

    Matters: one NaN reaches every weight at the next update and the model is lost. What to
        change depends on what went in. Ordinary numbers in and NaN out is a local fault: log(0),
        sqrt at 0, 0/0, or an infinite derivative in the branch that torch.where did not select,
        which the chain rule multiplies by zero. Huge numbers in is an overflow, whose reason lies
        upstream: weights that amplify, or updates that are too large.

    Wrong when: the infinity is meant, as in an attention mask; the rule stays silent as long as
        loss and weight gradients are finite, and about what a later look shows to have healed. An
        intermittent NaN needs the batch that causes it.

    Do: for a local fault, change the operation named, and mask its input rather than its output.
        For an overflow at the first look, change the initialization. For one that appears only
        after some steps, lower the learning rate or warm up. In float16 scale the loss, or
        compute the operation in float32.
    """

    code: ClassVar[str] = "IG401"
    rank: ClassVar[int] = 20
    explains: ClassVar[tuple[str, ...]] = (
        *OVER_DEPTH,
        "IG104",
        "IG304",
        "IG305",
        "IG402",
        "IG502",
        "IG603",
        "IG604",
        "IG609",
        "IG901",
        *OVER_TIME,
    )

    later: ClassVar[tuple[str, ...]] = (
        "IG104", "IG304", "IG305", "IG402", "IG502", "IG604", "IG609", "IG901",
        *OVER_TIME,
    )  # fmt: skip
    """What an event after some steps explains: nothing that was there at the first look."""

    huge: float = 0.5
    """Share of the format's range of exponents; numbers above largest ** 0.5 (1.8e19 in float32,
    256 in float16) overflow when two of them are multiplied, smaller ones do not."""
    blown_up: float = 1e3
    """Growth over the largest number of the first look; three decades are no ordinary drift, and
    only updates can have caused it."""
    again: int = 2
    """Looks in a row with an event, in a run with a GradScaler, that are no single batch."""
    swell: float = 3.0
    """Growth of the loss over its start before it breaks: a diverging loss passes this within a
    few steps, one that breaks for a local reason does not."""

    def judge(self, reading: Reading) -> Outcome:
        """Looks at the batch, then for the earliest event that did harm."""
        seen = reading.seen
        dirty = fact(seen, "batch.nonfinite") or 0
        if dirty > 0:
            return self._batch(seen, int(dirty))
        if _bad_weights(seen):
            return self._weights(seen)
        if watched(reading):
            return self._over_time(reading)
        looks = [r for r in (seen, *reading.history) if r.sites or r.facts]
        if not looks:
            return NotApplicable("the record holds no numbers; measure() makes one that does")
        for record in looks:
            event = event_of(record)
            if event is None:
                continue
            if _harmless(record, event):
                return self._latent(event) if event.way == "backward" else _contained(event)
            return self._found(event, reading)
        return Passed(f"{len(looks)} looks, 0 non-finite values")

    def _over_time(self, reading: Reading) -> Outcome:
        """Judges what has not healed: a batch that was left out does no harm."""
        count = 1 + len(reading.history)
        ill = _not_healed(reading)
        latent: Event | None = None
        for record in ill:
            event = event_of(record)
            if event is None:
                continue
            if _harmless(record, event):
                latent = event if event.way == "backward" else latent
                continue
            # The scaler leaves such steps out and goes down until none is left.
            scale, lost = fact(record, "watch.scale"), fact(record, "loss.value") is None
            curable = scale is not None and scale > 1 and (event.way == "backward" or not lost)
            if curable or (scale is not None and len(ill) < self.again):
                continue
            return self._found(event, reading)
        broken = next((record for record in ill if _bad_weights(record)), None)
        if broken is not None:
            return self._weights(broken)
        if latent is not None:
            return self._latent(latent)
        return Passed(f"{count} looks, 0 with a non-finite value that has done harm")

    def _weights(self, record: Record) -> Finding:
        weights = _bad_weights(record)
        when = f"after {record.step} steps" if record.step else "before the first step"
        lost = fact(record, "loss.value") is None
        still = "" if lost or not record.step else ", although the loss is finite"
        worst = max(weights, key=lambda name: weights[name])
        return Finding(
            self.code,
            Severity.ERROR,
            "local-nan",
            f"{int(weights[worst])} entries of the parameter {worst} are NaN or infinite "
            f"{when}{still} ({len(weights)} parameters in all).",
            sites=tuple(weights),
            evidence={"parameters": dict(weights)},
            remedies=(
                f"Initialize {worst} again, or load a checkpoint from before the values broke.",
            )
            if not record.step
            else (
                "Load a checkpoint from before the values broke.",
                "A gradient was not finite where the loss did not show it. Look for sqrt, norm, "
                "log, pow or a division at 0 behind torch.where or a mask, and mask their inputs.",
            ),
            explains=self.later if record.step else self.explains,
        )

    def _batch(self, seen: Record, dirty: int) -> Finding:
        size = math.prod(sizes(seen.fact("batch.shape")))
        of = f" of {size}" if size > 1 else ""
        return Finding(
            self.code,
            Severity.ERROR,
            "data-bug",
            f"{dirty}{of} entries of the batch are NaN or infinite.",
            evidence={"batch.nonfinite": dirty},
            remedies=(
                "Find where the batch gets them: missing values, 0/0 in a normalization, or a "
                "broken file. Fill or drop them before the model sees them.",
            ),
            explains=self.explains,
        )

    def _found(self, event: Event, reading: Reading) -> Finding:
        cause = self._cause(event, reading)
        follows = self.later if event.step else self.explains
        when = f"after {event.step} steps" if event.step else "at the first look"
        went_in = ", ".join(describe(i) for i in event.inputs) or "its inputs were not recorded"
        on = f" on rank {event.rank}" if event.rank is not None else ""
        amount = "the gradient that leaves it"
        if event.way == "forward":
            amount = f"{event.count or 'some'} entries of its result"
        return Finding(
            self.code,
            Severity.ERROR,
            cause,
            f"The first non-finite value appears {when}{on} in the {event.way} pass of "
            f"{event.where}: {amount}; what went in: {went_in}{event.history}.",
            sites=tuple(filter(None, (event.module or event.site,))),
            evidence={
                "op": event.op,
                "direction": event.way,
                "step": event.step,
                "inputs": [dict(i) for i in event.inputs],
                "largest_input": event.peak,
            },
            remedies=_remedies(cause, event, lower(reading)),
            explains=(*follows, "IG504") if cause == "recurrent-jacobian" else follows,
        )

    def _cause(self, event: Event, reading: Reading) -> str:
        step, peak, form = event.step, event.peak, format_of(reading.seen)
        if _of_batch(event):
            return "data-bug"
        if event.way == "forward" and event.dirty:
            # A weight is not finite already: an update before this look made it so.
            return (
                ("lr-too-high" if self._swelled(reading) else "local-nan") if step else "data-bug"
            )
        if event.way == "forward" and event.opens and not event.inputs:
            if not _bad_weights(event.record):
                return "data-bug"  # nothing came before it but the batch
            return "lr-too-high" if self._swelled(reading) else "local-nan"
        if not peak or math.log(peak) < self.huge * math.log(form.largest):
            usual = largest(reading.seen, "forward")
            blown = step and peak and usual and peak > self.blown_up * usual
            return "lr-too-high" if blown else "local-nan"
        if max(math.log(peak), math.log(form.largest)) < self.huge * math.log(FULL.largest):
            return "precision"
        return "lr-too-high" if step else _reason_of_overflow(event)

    def _swelled(self, reading: Reading) -> bool:
        """Whether the loss grew before it broke, as it does when updates are too large.

        A first update that leaves NaN behind a finite loss tells as much: with gradients of
        ordinary size no rate is that high.
        """
        path = course(reading)
        if path is None or not path.steps:
            return True
        if path.steps == 1:
            sizes = [largest(reading.seen, way) or 0.0 for way in ("forward", "backward")]
            grads = [rms for _, rms in reading.seen.pairs("weight.grad_rms")]
            top = max((*sizes, *grads))
            return not top or math.log(top) >= self.huge * math.log(FULL.largest)
        return max(path.losses) > self.swell * path.start

    def _latent(self, event: Event) -> Finding:
        return Finding(
            self.code,
            Severity.INFO,
            "local-nan",
            f"The gradient that leaves {event.where} is not finite; a later operation happens to "
            "drop it, so that it reaches 0 parameters.",
            sites=tuple(filter(None, (event.module or event.site,))),
            evidence={"op": event.op, "direction": "backward"},
            remedies=_remedies("local-nan", event, ""),
        )

    @staticmethod
    def sick() -> Reading:
        """Weights blow up in a rehearsal until a product overflows."""
        first = chain(3, series={"forward.max": 4.0, "forward.min": -5.0})
        event = {
            "op": "linear",
            "site": 2,
            "module": "layers.1",
            "inputs": [{"min": -1e25, "max": 2e25, "nonfinite": 0, "zeros": 3}],
            "count": 7,
            "step": 12,
        }
        later = chain(3, facts={"event.forward": event, "loss.value": math.nan}, step=12)
        return with_history(first, later, losses=[2.3, 9.1, math.nan])

    @staticmethod
    def well() -> Reading:
        """The same network, all values finite."""
        first = chain(3, series={"forward.max": 4.0, "forward.min": -5.0})
        later = chain(3, facts={"loss.value": 2.1}, step=12)
        return with_history(first, later, losses=[2.3, 2.2, 2.1])


def _of_batch(event: Event) -> bool:
    """Whether the values that were not finite came with the batch."""
    return any(given.get("batch") and given.get("nonfinite") for given in event.inputs)


def _bad_weights(record: Record) -> dict[str, float]:
    """Parameters with entries that are not finite, and how many."""
    return {record.parameters[i].name: n for i, n in record.pairs("weight.nonfinite") if n}


def _not_healed(reading: Reading) -> list[Record]:
    """The looks since the last one at which loss and weights were finite and nothing happened."""
    ill: list[Record] = []
    for record in reversed((reading.seen, *reading.history)):
        quiet = event_of(record) is None and not _bad_weights(record)
        if quiet and (fact(record, "loss.value") is not None):
            break
        if not quiet:
            ill.append(record)
    return ill[::-1]


def _harmless(record: Record, event: Event) -> bool:
    """Whether loss and weight gradients are known to be finite all the same."""
    if fact(record, "loss.value") is None:
        return False
    counts = [n for _, n in record.pairs("weight.grad_nonfinite")]
    if event.way == "backward" and not counts:
        return False
    return not any(counts) and record.fact("rehearsal.stopped") is None


def _contained(event: Event) -> Passed:
    return Passed(
        f"{event.count or 'some'} non-finite values at {event.where}, as a mask makes them: "
        "0 reach the loss or a gradient"
    )


def _reason_of_overflow(event: Event) -> str:
    record = event.record
    site = next((s for s in record.sites if s.name == event.site), None)
    called_again = site is not None and "#" in site.name and ":" not in site.name  # a module
    if site is not None and (site.kind == "recurrent" or called_again):
        return "recurrent-jacobian"
    fits = dict(record.pairs("weight.gain_fit"))
    excess = middle(g / fits[i] for i, g in record.pairs("weight.gain") if fits.get(i))
    if excess is not None and excess > 1:
        return "init-too-large"
    return "unscaled-residual" if record.has("forward.branch_ratio") else "exploding-activation"


def _remedies(cause: str, event: Event, lowered: str) -> tuple[str, ...]:
    where = event.where
    if cause == "local-nan" and event.dirty:
        return (
            "The loss was ordinary, but a gradient was not finite and made the weights so. Look "
            "for sqrt, norm, log, pow or a division at 0, and keep their arguments above it.",
            "torch.autograd.set_detect_anomaly(True) names the operation at the step it happens.",
        )
    if cause == "local-nan":
        cure = next((c for op, c in _CURES.items() if event.op.startswith(op)), None)
        mask = (
            "If torch.where selects afterwards, mask the input as well: "
            "f(torch.where(ok, x, 1)) instead of torch.where(ok, f(x), 0)."
        )
        first = (
            f"In {where}, {cure}." if cure else f"Keep the inputs of {where} where it is smooth."
        )
        return (first, mask)
    return {
        "precision": (
            f"Compute {where} in float32 (leave it out of autocast), or train in bfloat16.",
            "With float16, scale the loss dynamically (torch.amp.GradScaler).",
        ),
        "lr-too-high": (
            f"{lowered}, or warm it up over the first steps.",
            "Clip the gradient norm, so that one bad batch cannot do this.",
        ),
        "data-bug": (
            "The batch itself is not finite: look at the samples of that step, and at how they are "
            "made (missing values, 0/0 in a normalization, a broken file).",
            "Leave such a batch out before the step, and go back to a checkpoint from before.",
        )
        if _of_batch(event)
        else (
            f"A parameter, buffer or second input of {where} is not finite before anything is "
            "computed: check the checkpoint that was loaded and all inputs.",
        ),
        "recurrent-jacobian": (
            "Scale the recurrent weights down (orthogonal with gain 1), or use an LSTM or GRU; "
            "clipping the gradient does not help a forward overflow.",
        ),
    }.get(
        cause,
        (
            f"Scale the weights of the layers before {where} down to the gain that keeps the rms "
            "(weight.gain_fit), or normalize between the layers.",
        ),
    )
