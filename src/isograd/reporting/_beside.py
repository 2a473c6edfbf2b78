"""Predicted beside measured: numbers of the prediction by site, and how far it is off."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from isograd.findings import Diagnosis
from isograd.records import Number, Reading, Record
from isograd.reporting import _summary as summary
from isograd.reporting._numbers import abbreviate, printable, value

_WORDS = {"forward": "signal", "backward": "gradient"}


@dataclass(frozen=True)
class Agreement:
    """How far measured and predicted rms are apart over all sites that have both."""

    way: str
    typical: float
    """Median of |ln(measured / predicted)|."""
    worst: float
    """ln(measured / predicted) of the site that is furthest off."""
    name: str
    """Of that site."""


def expected(reading: Reading) -> Record | None:
    """The prediction to show beside what was measured, if there is one to rely on."""
    found = reading.expected
    if found is None or reading.seen.source == "predicted" or summary.unpredictable(found):
        return None
    return found


def column(reading: Reading, names: Sequence[str], key: str) -> list[Number]:
    """A column of the prediction by names of sites or, of `weight.*`, of parameters."""
    record = expected(reading)
    if record is None or key not in record.series:
        return [None] * len(names)
    every = (
        [p.name for p in record.parameters]
        if key[:6] == "weight"
        else [s.name for s in record.sites]
    )
    places = {name: index for index, name in enumerate(every)}
    found = [record.value(key, places[name]) if name in places else None for name in names]
    return [x if x is not None and math.isfinite(x) else None for x in found]


def joined(reading: Reading) -> Record:
    """What was seen, with columns of what was predicted: rms, and measured over predicted.

    `forward.predicted`, `forward.over_predicted`, the same backward, `weight.over_predicted` (of
    the weights' gradients); all but empty without a prediction.
    """
    seen = reading.seen
    sites = [site.name for site in seen.sites]
    parameters = [parameter.name for parameter in seen.parameters]
    series = dict(seen.series)
    for way in _WORDS:
        predicted = column(reading, sites, f"{way}.rms")
        series[f"{way}.predicted"] = tuple(predicted)
        series[f"{way}.over_predicted"] = _over(seen.series.get(f"{way}.rms"), predicted)
    gradients = column(reading, parameters, "weight.grad_rms")
    series["weight.over_predicted"] = _over(seen.series.get("weight.grad_rms"), gradients)
    return replace(seen, series=series)


def _over(measured: Sequence[Number] | None, predicted: Sequence[Number]) -> tuple[Number, ...]:
    if measured is None:
        return (None,) * len(predicted)
    return tuple(
        one / other if one is not None and other is not None and other > 0 else None
        for one, other in zip(measured, predicted, strict=True)
    )


def agreement(reading: Reading, way: str) -> Agreement | None:
    """How far the prediction of one way is off; `None` without numbers to compare."""
    names = [site.name for site in reading.seen.sites]
    predicted = column(reading, names, f"{way}.rms")
    apart = [
        (math.log(measured / other), names[index])
        for index, measured in reading.seen.pairs(f"{way}.rms")
        if measured > 0 and (other := predicted[index]) is not None and other > 0
    ]
    if not apart:
        return None
    worst, name = max(apart, key=lambda pair: abs(pair[0]))
    return Agreement(way, median(abs(log) for log, _ in apart), worst, name)


def figures(reading: Reading) -> dict[str, Any]:
    """For machines: by way, the median and the worst ratio of measured to predicted, and where."""
    found = [one for way in _WORDS if (one := agreement(reading, way)) is not None]
    return {
        _WORDS[one.way]: {
            "median": math.exp(min(one.typical, 700.0)),
            "worst": math.exp(min(max(one.worst, -700.0), 700.0)),
            "at": one.name,
        }
        for one in found
    }


def told(diagnosis: Diagnosis) -> str:
    """`measured/predicted: signal ±2 % (×0.91 at layers.3) · gradient …`; empty without one."""
    reading = diagnosis.reading
    if reading.expected is None or reading.seen.source == "predicted":
        return ""
    if summary.unpredictable(reading.expected):
        return "not predictable: two draws of the weights differ by factors"
    found = [one for way in _WORDS if (one := agreement(reading, way)) is not None]
    if not found:
        return ""
    parts = [
        f"{_WORDS[one.way]} {around(one.typical)} "
        f"({times(one.worst)} at {abbreviate(printable(one.name), 40)})"
        for one in found
    ]
    sampled = reading.expected.fact("prediction.sampled")
    if isinstance(sampled, (list, tuple)) and sampled:
        parts[-1] += f"; estimated by sampling: {value(sampled)}"
    return f"measured/predicted: {' · '.join(parts)}"


def around(log: float) -> str:
    """`±3 %` of the size of a logarithm, or `×÷2.1` where percents say little."""
    size = abs(log)
    if size >= math.log(2):
        return f"×÷{math.exp(min(size, 700.0)):.2g}"
    return f"±{100 * math.expm1(size):.0f} %" if size > 0.005 else "±<1 %"


def times(log: float) -> str:
    """Ratio of measured to predicted: `×1.03`, `×4.6e-03`."""
    factor = math.exp(min(max(log, -700.0), 700.0))
    return f"×{factor:.2f}" if 0.1 <= factor < 100 else f"×{factor:.1e}"
