"""The scale of the inputs."""

import math
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import WEIGHT_KINDS, Reading, Record
from isograd.rules._examples import chain
from isograd.rules._graph import NORMS, readers
from isograd.rules._numbers import fact, show, sizes
from isograd.rules._profile import outcome, weighed
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OF_TRAINING, OVER_DEPTH, OVER_TIME

_UNITS = 8
"""Units from which a layer's rms tells that of its input; a single unit's may be small by luck."""


@dataclass(frozen=True)
class Inputs(Rule):
    """The inputs are not normalized.

    Sees: rms, offset (|mean| over standard deviation) and range of the first floating-point
        input, and how far apart the scales of its columns are. The rms counts where it enters: if
        the model scales its input itself, the first layer shows it. A norm right behind
        the first weight layer makes the scale harmless.

    Matters: the curvature of the loss along the first layer's weights grows with the square of
        the input, so that raw pixels (rms 85) need a learning rate 7000 times lower than
        standardized ones; a step of usual size saturates or kills the first layer. An offset,
        or columns of different scale, stretch the valley the optimizer walks in: it
        jumps between the steep walls and creeps along the floor.

    Wrong when: the scale carries meaning and the first layer is initialized for it, or the batch
        is not what you train on.

    Do: subtract the mean and divide by the standard deviation of each column (table) or channel
        (image), computed on the training data; divide pixels by 255.
    """

    code: ClassVar[str] = "IG601"
    rank: ClassVar[int] = 2
    explains: ClassVar[tuple[str, ...]] = (*OVER_DEPTH, *OF_TRAINING, *OVER_TIME, "IG104")

    large: float = 10.0
    """Input rms: the learning rate that is stable falls by the square, here a factor 100."""
    huge: float = 30.0
    """Input rms from which no usual learning rate is stable: a factor 1000."""
    small: float = 0.01
    """Input rms: the biases then outweigh the signal by a hundred, and the first layer hardly
    moves."""
    offset: float = 10.0
    """|mean| over standard deviation: the second-moment matrix is then conditioned 100 times
    the number of columns worse. Pixels in 0..1 have 0.5 to 2."""
    uneven: float = 1e4
    """Largest over smallest standard deviation of a column. Rare pixels reach 1e3 in a batch and
    do no harm; a table does so only with raw units."""
    alike: float = 10.0
    """The same ratio below which columns are alike, so that their own offsets can be judged; a
    column that hardly ever moves has a large offset for no bad reason."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges scale, offset and columns; the worst one is the finding."""
        seen = reading.seen
        if seen.fact("batch.size") == 0:
            return self._empty()
        rms, std = fact(seen, "batch.rms"), fact(seen, "batch.std")
        if rms is None or std is None:
            ids = seen.fact("batch.kind") == "ids"
            return NotApplicable(
                "the inputs are ids, which have no scale"
                if ids
                else "the record holds no numbers about the batch (measure() adds them)"
            )
        entries = math.prod(sizes(seen.fact("batch.shape")) or (2,))
        if std == 0 and entries > 1:
            return self._constant(seen)
        complaint = self._complaint(seen, rms, std)
        if complaint is None:
            return Passed(f"input rms {show(rms)}, mean {show(fact(seen, 'batch.mean') or 0.0)}")
        return self._finding(reading, rms, *complaint)

    def _complaint(self, seen: Record, rms: float, std: float) -> tuple[Severity, str] | None:
        entering = _entering(seen, rms)
        mean = abs(fact(seen, "batch.mean") or 0.0)
        ratio = fact(seen, "batch.feature_std_ratio")
        columns = fact(seen, "batch.feature_offset")
        offset = mean / std if std > 0 else 0.0
        if ratio is not None and columns is not None and ratio < self.alike:
            offset = max(offset, columns)
        low, high = fact(seen, "batch.min"), fact(seen, "batch.max")
        known = low is not None and high is not None
        span = f" (range {low:.3g} to {high:.3g})" if known else ""
        apart = f"; its columns' scales differ {show(ratio)} fold" if ratio and ratio > 100 else ""
        if entering > self.large:
            severity = Severity.ERROR if entering > self.huge else Severity.WARNING
            return severity, f"The input has rms {show(rms)}{span}{apart}, where 1 is expected."
        if entering < rms / 2:
            return None  # the model moves and scales its input itself
        if offset > self.offset:
            return Severity.WARNING, (
                f"The input's mean is {show(offset)} standard deviations from zero{span}."
            )
        if rms < self.small:
            return Severity.WARNING, f"The input has rms {show(rms)}{span}, where 1 is expected."
        if ratio is not None and ratio > self.uneven:
            return Severity.WARNING, (
                f"The scales of the input's columns differ {show(ratio)} fold{span}."
            )
        return None

    def _finding(self, reading: Reading, rms: float, severity: Severity, message: str) -> Finding:
        seen = reading.seen
        normed = _norm_follows(seen)
        if normed:
            message += f" {normed} right behind the first layer takes it up."
        keys = ("mean", "std", "min", "max", "feature_std_ratio", "feature_offset", "condition")
        pixels = bool(seen.fact("batch.integer_like")) and (fact(seen, "batch.max") or 0) <= 255
        return Finding(
            self.code,
            Severity.INFO if normed else weighed(severity, outcome(reading)),
            "input-not-normalized",
            message,
            evidence={"batch.rms": rms, **{f"batch.{k}": seen.fact(f"batch.{k}") for k in keys}},
            remedies=(
                *(("Divide the pixels by 255 first.",) if pixels else ()),
                "Standardize the inputs: (x - mean) / std per column or channel, with mean and std "
                "of the training data, at training and at prediction alike.",
                "Or put a batch norm in front of the first layer.",
            ),
            explains=self.explains,
        )

    def _empty(self) -> Finding:
        return Finding(
            self.code,
            Severity.ERROR,
            "data-bug",
            "The batch holds 0 samples: there is nothing to measure.",
            evidence={"batch.size": 0},
            remedies=("Hand in a batch with samples; look at what filters or splits the data.",),
            explains=(*self.explains, "IG901"),
        )

    def _constant(self, seen: Record) -> Finding:
        value = fact(seen, "batch.mean") or 0.0
        return Finding(
            self.code,
            Severity.ERROR,
            "data-bug",
            f"Every entry of the input is {show(value)}: the batch carries no information.",
            evidence={"batch.mean": value, "batch.std": 0.0},
            remedies=("Look at one sample after loading and after every transformation of it.",),
            explains=self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Raw pixels."""
        return _batch(33.3, 78.6, 0.0, 255.0)

    @staticmethod
    def well() -> Reading:
        """The same pixels, standardized."""
        return _batch(0.0, 1.0, -0.42, 2.8)


def _batch(mean: float, std: float, low: float, high: float) -> Reading:
    numbers = {"mean": mean, "std": std, "rms": math.hypot(mean, std), "min": low, "max": high}
    columns = {"feature_std_ratio": 5.0, "feature_offset": 0.4, "integer_like": low == 0.0}
    facts = {f"batch.{k}": v for k, v in {**numbers, **columns}.items()}
    return Reading(chain(3, facts={**facts, "batch.shape": [16, 48]}))


TABLE = "embedding"


def _entering(seen: Record, rms: float) -> float:
    """Rms at the first weight layer, told from its output, where the model scales its input."""
    bare: list[bool] = []  # whether no weights and no norm were passed yet
    first = None
    for index, site in enumerate(seen.sites):
        before = all(bare[k] for k in site.inputs if 0 <= k < index)
        bare.append(before and site.kind not in (*WEIGHT_KINDS, *NORMS))
        if before and site.kind in WEIGHT_KINDS and first is None:
            first = index
    if first is None:
        return rms
    if seen.sites[first].kind == "recurrent":
        return min(rms, _read(seen, first) or rms)
    gains = [
        gain
        for parameter in seen.sites[first].parameters
        if 0 <= parameter < len(seen.parameters)
        and (gain := seen.value("weight.gain", parameter)) is not None
        and math.isfinite(gain)
        and gain > 0
        and seen.parameters[parameter].shape[0] >= _UNITS
    ]
    after = seen.value("forward.rms", first)
    if not gains or after is None or not math.isfinite(after):
        return rms
    return min(rms, after / max(gains))


def _read(seen: Record, site: int) -> float | None:
    """Rms of what a recurrent layer reads, told by gradients, since its outputs are bounded.

    That of a weight is a sum of errors times inputs, that of its bias the sum of the errors. None
    where these are not known, or all 0, as behind inputs that shut every gate.
    """
    weights, biases = list[float](), list[float]()
    for parameter in seen.sites[site].parameters:
        size = seen.value("weight.grad_rms", parameter)
        if size is not None and math.isfinite(size):
            (weights if len(seen.parameters[parameter].shape) > 1 else biases).append(size)
    return weights[0] / biases[0] if weights and biases and biases[0] > 0 else None


def _norm_follows(seen: Record) -> str | None:
    """Name of the norm that alone reads the first layers' outputs, or the inputs."""
    first = [i for i, site in enumerate(seen.sites) if not site.inputs]
    following = readers(seen)
    name = None
    for index in first:
        site = seen.sites[index]
        if site.kind == TABLE:
            continue  # which reads ids
        if site.kind in NORMS:
            name = site.name
            continue
        norms = [seen.sites[r] for r in following[index]]
        if site.kind not in WEIGHT_KINDS or not norms or any(n.kind not in NORMS for n in norms):
            return None
        name = norms[0].name
    return name
