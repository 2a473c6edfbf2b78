"""Learning rates: whether steps are to blame, and which rate to go to; one answer for all rules."""

from isograd.records import Reading, Record
from isograd.rules._numbers import fact, first_update, show
from isograd.rules._remembering import remembered

USUAL, USUAL_ADAPTIVE = 1e-3, 1e-2
"""Update over weight to aim at: what networks that train well show in their first step, and with an
adaptive optimizer, whose first steps are its largest."""

SEARCHING = ("LBFGS",)
"""Optimizers that evaluate the loss several times in one step, and choose its length by that."""

HIGHER = 3.0
"""Times the usual rate of the run so far from which a rate has been raised; a warm-up that goes
evenly stays at twice its own median."""

LARGE = 0.05
"""Update over weight from which single steps may do harm: half of where rectifiers die. Adam at its
usual rate moves the weights of small networks by up to 0.03 per step, and they learn."""


@remembered
def rates(reading: Reading) -> list[float]:
    """The learning rate at every look that knows it."""
    found = [fact(look, "optimizer.lr") for look in (reading.seen, *reading.history)]
    return [rate for rate in found if rate is not None]


def before_raise(reading: Reading) -> float | None:
    """The learning rate that the run had, where the present one is a multiple of it."""
    found = rates(reading)
    usual = sorted(found)[(len(found) - 1) // 2] if found else 0.0
    earlier = [rate for rate in found if rate < found[-1] / HIGHER]
    if earlier and (usual < found[-1] / HIGHER or found[0] == max(earlier)):
        return max(earlier) if max(earlier) > 0 else None
    return None


def held(record: Record) -> float:
    """Times as high as now the highest rate is that a schedule has noted down: 1 without one."""
    now, planned = fact(record, "optimizer.lr"), fact(record, "optimizer.lr_planned")
    return max(planned / now, 1.0) if now and planned else 1.0


def steps_to_blame(reading: Reading, until: int | None = None) -> bool:
    """Whether steps may have been too large: unless they are known to have been small.

    Args:
        reading: the run.
        until: step at which the harm was there; steps after it follow from it.
    """
    if before_raise(reading) is not None:
        return True
    looks = (reading.seen, *reading.history)
    sizes = [
        size
        for look in looks
        if (until is None or look.step < until) and (size := first_update(look)) is not None
    ]
    return not sizes or max(sizes[-3:]) > LARGE


def lower(reading: Reading) -> str:
    """To lower the learning rate, and to what, as the beginning of a sentence."""
    seen = reading.seen
    rate = fact(reading.last, "optimizer.lr") or fact(seen, "optimizer.lr")
    if not rate:
        return "Lower the learning rate by a factor of ten"
    if seen.fact("optimizer.name") in SEARCHING:
        return (
            "Give LBFGS line_search_fn='strong_wolfe', so that no step makes the loss worse, or "
            f"lower its rate from {show(rate)} to {about(rate / 10)}"
        )
    before = before_raise(reading)
    if before is not None:
        return f"Take the learning rate back from {show(rate)} to {show(before)}, as it was"
    fits = _fitting(seen)
    target = rate / 10 if fits is None else min(rate / 10, fits)
    return f"Lower the learning rate from {show(rate)} to about {about(target)}"


def _fitting(seen: Record) -> float | None:
    """The rate at which the first step would have had the usual size."""
    rate, step = fact(seen, "optimizer.lr"), first_update(seen)
    if not rate or not step:
        return None
    return rate * (USUAL_ADAPTIVE if seen.fact("optimizer.adaptive") else USUAL) / step


def about(value: float) -> str:
    """The number with one significant digit."""
    return f"{value:.1g}"
