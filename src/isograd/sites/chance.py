"""What a loss can be: of a constant answer, at the least, and summed over how many terms."""

import math
from typing import Any

from isograd.records import Record

_OF_LABELS = ("cross_entropy", "nll", "bce", "bce_logits")

SHRUNK = 0.1
"""Part of the least loss that its outputs can have below which a factor must make a loss small."""


EXACT = 0.01
"""Part of a number within which two that are equal but for rounding lie."""


def chance(record: Record) -> float | None:
    """The loss of an answer that knows nothing, of as many terms as the loss is summed over.

    None where it is not known, and for a loss that a factor makes small.
    """
    one = _fact(record, "loss.chance")
    return None if one is None or shrunk(record) else one * terms(record)


def uninformed(record: Record) -> float | None:
    """The loss of the best constant prediction: chance, or the entropy of unequal labels.

    For squared and absolute errors this is the spread of the targets. A loss that is summed over
    the batch is that many times as large; of one that a factor makes small nothing is known.
    """
    blind, entropy = chance(record), _fact(record, "target.entropy")
    of_labels = record.fact("loss.kind") in _OF_LABELS and not record.fact("loss.weighted")
    if not of_labels or entropy is None or shrunk(record):
        return blind
    known = entropy * terms(record)
    return known if blind is None else min(blind, known)


def least_loss(record: Record) -> float | None:
    """The least loss [of one term] that outputs between such ends, or of such a spread, can have.

    Cross entropy of C classes: log(1 + (C - 1) exp(min - max)), the right one at the upper end, the
    others at the lower. A share p of ones, from logits: p softplus(-max) + (1 - p) softplus(min).
    Squared error: (difference of the means)^2 + (difference of the deviations)^2, since no
    correlation is above 1. None where the loss is another one, or a number is not known.
    """
    kind = record.fact("loss.kind")
    if kind == "mse":
        return _least_square(record)
    low, high = _fact(record, "output.min"), _fact(record, "output.max")
    if low is None or high is None:
        return None
    if kind == "bce_logits":
        share = _fact(record, "target.mean")
        if share is None or not 0 <= share <= 1:
            return None
        return share * _softplus(-high) + (1 - share) * _softplus(low)
    classes = _fact(record, "target.classes")
    if kind != "cross_entropy" or classes is None:
        return None
    return math.log1p(max(classes - 1, 0.0) * math.exp(min(low - high, 0.0)))


def _least_square(record: Record) -> float | None:
    keys = ("output.mean", "output.rms", "target.mean", "target.std")
    mean, rms, middle, deviation = (_fact(record, key) for key in keys)
    if mean is None or rms is None or middle is None or deviation is None:
        return None
    spread = math.sqrt(max(rms**2 - mean**2, 0.0))
    least = (mean - middle) ** 2 + (spread - deviation) ** 2
    square = _square(record)
    # Where the errors are smaller the loss compares with something that it makes of the targets.
    return least if square is not None and square > (1 - EXACT) * least else None


def _square(record: Record) -> float | None:
    """Mean square of the errors of L = c sum (x - y)^2, whatever the c.

    The gradients 2 c (x - y) of n entries have a mean square of 4 c L / n, and the errors of
    L / (c n).
    """
    value, place = _fact(record, "loss.value"), record.fact("loss.input_site")
    if value is None or not isinstance(place, int) or not 0 <= place < len(record.sites):
        return None
    entries = float(math.prod(_sizes(record.fact("output.shape")) or (1,)))
    rms = record.value("backward.rms", place)
    return (2 * value / (rms * entries)) ** 2 if rms else None


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def shrunk(record: Record) -> bool:
    """Whether the loss is so far below the least it could be that a factor makes it small."""
    value, least = _fact(record, "loss.value"), least_loss(record)
    return value is not None and least is not None and 0 <= value < SHRUNK * least * terms(record)


def terms(record: Record) -> float:
    """Over how many samples, or entries of the output, the loss is summed; 1 of a mean."""
    elementwise = record.fact("loss.kind") in ("mse", "l1", "bce", "bce_logits")
    entries = float(math.prod(_sizes(record.fact("output.shape")) or (1,)))
    samples = _fact(record, "batch.size") or 1.0
    if not record.fact("loss.summed"):
        # Summed over the features of a sample, averaged over samples, as autoencoders have it.
        value, chance = _fact(record, "loss.value"), _fact(record, "loss.chance")
        features = entries / samples
        if not elementwise or features <= 1 or not value or not chance:
            return 1.0
        summed = record.fact("loss.summed_entries")
        summed = _sums_squares(record, value, features) if summed is None else summed
        if summed is not None:
            return features if summed else 1.0
        near = abs(math.log(abs(value) / chance / features)) < abs(math.log(abs(value) / chance))
        return features if near and abs(value) > chance else 1.0
    return entries if elementwise else samples


def _sums_squares(record: Record, value: float, features: float) -> bool | None:
    """Whether a squared error sums over the features of a sample, told by its gradient.

    Of L = c sum (x - y)^2 the gradient at x has the squares 4 c L in all. Times the samples, c is 1
    of such a sum, and 1 / features of a mean; None where it is neither, as where something stands
    between the site and the loss.
    """
    site = record.fact("loss.input_site")
    if record.fact("loss.kind") != "mse" or not isinstance(site, int):
        return None
    rms = record.value("backward.rms", site) if 0 <= site < len(record.sites) else None
    samples = _fact(record, "batch.size") or 1.0
    times = (rms or 0.0) ** 2 * features * samples**2 / (4 * value)
    fits = [summed for summed, c in ((True, 1.0), (False, 1 / features)) if _near(times, c)]
    return fits[0] if len(fits) == 1 else None


def _near(one: float, other: float) -> bool:
    return abs(one - other) < EXACT * other


def _fact(record: Record, key: str) -> float | None:
    """A fact of the record as a finite number."""
    value: Any = record.fact(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _sizes(value: Any) -> tuple[int, ...]:
    """A fact that is a shape, empty where it is anything else."""
    given = value if isinstance(value, (list, tuple)) else ()
    return tuple(given) if all(isinstance(n, int) for n in given) else ()
