"""Weights in a format that is too coarse for their own updates."""

from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._examples import reading
from isograd.rules._formats import Format, format_of
from isograd.rules._numbers import fact, show
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule

_NARROW = {"float16": 11, "bfloat16": 8}
"""Binary digits of a number, the one before the point included."""

_KNOWN = {"SGD": False, "Adam": True, "AdamW": True}
"""Optimizers whose first step is known, and whether it has the learning rate as its size."""


@dataclass(frozen=True)
class WeightFormat(Rule):
    """The weights' own format is too coarse for the optimizer.

    Sees: in a model whose weights are float16 or bfloat16, the first update of every weight beside
        what the optimizer asked for (SGD: the learning rate times the gradient, Adam: the learning
        rate), and whether Adam's eps is a number in that format at all.

    Matters: bfloat16 keeps 8 binary digits, so that a step of less than a 512th of a weight
        rounds to nothing, and again at every later step: most weights stand still although the
        gradient is right. In float16 an eps of 1e-8 is zero, and where a gradient is below 2e-4,
        whose square is zero as well, Adam divides zero by zero: all weights are NaN after a step.

    Wrong when: the optimizer keeps weights of its own in float32, or rounds at random; then the
        measured update is too small only by chance.

    Do: keep the weights in float32 and compute in the narrow format: `torch.autocast` in place of
        `model.half()` or `model.bfloat16()`. In float16 scale the loss, too.
    """

    code: ClassVar[str] = "IG404"
    rank: ClassVar[int] = 52
    explains: ClassVar[tuple[str, ...]] = ("IG304", "IG308", "IG401", "IG604", "IG609")

    kept: float = 0.5
    """Part of the update that arrives, for the median of the weights, below which most of it is
    lost: units that are dead and get no gradient lower it to 0.7 or so."""

    low: float = 1e-5
    """Update over weight that is too small in any format, so that the format is not to blame."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges eps, then the first update."""
        seen = reading.seen
        form = format_of(seen)
        if form.name not in _NARROW:
            return NotApplicable(f"the weights are {form.name}")
        eps = fact(seen, "optimizer.eps")
        # Half of the smallest number and less is rounded to zero.
        if eps and seen.fact("optimizer.adaptive") and eps <= 2.0 ** (form.smallest_exponent - 1):
            return self._finding(
                Severity.ERROR,
                f"The optimizer's eps of {show(eps)} is zero in {form.name}, the format of the "
                "weights: where a squared gradient underflows, too, a step is zero divided by "
                "zero.",
                form,
                {"eps": eps},
            )
        shares = _arrived(seen, self.low)
        if not shares:
            return NotApplicable(
                "no first step of SGD or Adam (optimizer=) that was to move a weight"
            )
        share = median(shares)
        told = f"{show(100 * share)} % of the size of the first update arrive in {form.name}"
        if share >= self.kept:
            return Passed(told)
        return self._finding(
            Severity.WARNING,
            f"{told}, which keeps {_NARROW[form.name]} binary digits of a weight: the rest rounds "
            "to nothing.",
            form,
            {"arrived": share},
        )

    def _finding(
        self, severity: Severity, message: str, form: Format, evidence: dict[str, float]
    ) -> Finding:
        return Finding(
            self.code,
            severity,
            "precision",
            message,
            evidence={"format": form.name, **evidence},
            remedies=(
                "Keep the weights in float32, and compute in "
                f"torch.autocast(device, dtype=torch.{form.name}).",
            ),
            explains=self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """A hundredth of the update arrives."""
        return _example(1e-6)

    @staticmethod
    def well() -> Reading:
        """All of it does."""
        return _example(1e-4)


def _arrived(record: Record, low: float) -> list[float]:
    """Measured over expected size of the first update, of every weight that was to move."""
    rate, name = fact(record, "optimizer.lr"), record.fact("optimizer.name")
    if not rate or name not in _KNOWN or record.step:
        return []
    sizes, gradients = (dict(record.pairs(f"weight.{key}")) for key in ("rms", "grad_rms"))
    shares = []
    for index, ratio in record.pairs("weight.update_ratio"):
        asked = rate if _KNOWN[str(name)] else rate * gradients.get(index, 0.0)
        size = sizes.get(index, 0.0)
        if record.parameters[index].is_weight and asked > low * size > 0:
            shares.append(ratio * size / asked)
    return shares


def _example(ratio: float) -> Reading:
    facts = {"optimizer.name": "SGD", "optimizer.lr": 0.1, "model.dtype": "bfloat16"}
    series = {"weight.update_ratio": ratio, "weight.rms": 0.1, "weight.grad_rms": 1e-4}
    return reading(4, series=series, facts=facts)
