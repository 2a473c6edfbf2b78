"""The choice: of those that do as well as the best, the least invasive against the first cause."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from isograd.remedies import FAMILIES
from isograd.repairs.comparing import SMALLEST

if TYPE_CHECKING:
    from isograd.repairs.racing import Runner
    from isograd.repairs.treatments import Treatment

ENOUGH = 0.8
"""Part of the best candidate's gain that counts as just as good: after a few steps, gains of
networks that end alike differ by as much."""
COMPLETE = 0.5
"""The same for a change that completes another: it takes away an error, or a learning rate beyond
the limit of stability, that the other alone leaves. A calm network may learn slowly at first."""
EQUAL = 0.05
"""Part of the best gain within which two initializations were not seen to differ, and the order of
the plan decides: after a race one and the same gains 6 percent more or less from another seed,
after its first rung 15 (medians over 18 changes of three networks). Changes that draw nothing are
told apart by less, since they begin with the same weights."""
NOISE = 0.005
"""Part of a score that nobody gained: 256 samples tell chance by 0.2 percent."""
MODEST = 0.6
"""The same for changes of values and settings beside changes of the architecture: what these gain
less stays the network that the user designed; what they gain more is rarely made up for later."""
DATA = 0.25
"""The same for what is done to the data alone, if data are the first cause, beside changes of the
architecture that leave them as they are: a norm behind raw inputs speeds up the first steps, and
a network on standardized ones overtakes it."""


def ranked(runners: Sequence["Runner"], starts: Sequence[float]) -> list["Runner"]:
    """Runners, the one to keep first.

    Where a loss that is wrong is the first cause, and an error, changes that leave it as it is come
    last: they may learn faster at first, on top of what stays wrong. So do, where an optimizer that
    does not hold the parameters is that cause, changes that do not hand them over, and, where it is
    an activation behind the last layer, those that leave that where it is. Where the data are the
    first cause, changes of the architecture that leave them as they are come last if a change of
    the data alone gains DATA of what these do over the untrained network. Changes of values and
    settings come before changes of the architecture if the best of them gains MODEST of what the
    best of all gains over the untrained network, unless nobody has learned anything yet (is below a
    constant answer, where the untrained network was above). Otherwise, and among themselves, those
    that gain ENOUGH of what the best does come first; of them those that complete another, then
    those that address the first cause, of these those that were made for it, and of these the least
    invasive. Where they are equally invasive, by their scores; of initializations that gain about
    the same as the best, the first of the plan. Where nobody gained more than noise, scores say
    nothing yet, and all keep the plan's order.

    Args:
        runners: in the order in which they were planned.
        starts: scores from which gains count, such as of the untrained network; the first from
            which anybody gained.
    """
    start = gained(runners, starts)
    if start is None:
        return list(runners)

    blind = len(starts) > 1 and start == starts[1] > starts[0]
    gain = _gain_from(start, runners, blind=blind)

    def best(of: Sequence["Runner"]) -> float:
        return max(map(gain, of), default=0.0)

    last = list["Runner"]()
    for mends in (_of_loss, _covers, _opens):
        those = [r for r in runners if _first(r.treatment) and mends(r.treatment)]
        # Outputs that were all zero and are random now cost something at first.
        least = -math.inf if mends is _opens else 0.0
        if those and best(those) > least:
            last = [r for r in runners if not mends(r.treatment)]
            break
    groups = [_without(runners, last)]
    data = [r for r in groups[0] if of_data(r.treatment)]
    raw = [r for r in groups[0] if structural(r.treatment) and not _with_data(r.treatment)]
    # A change of the data has gained where the offset of raw targets is still being learned, too.
    untrained = max(filter(math.isfinite, starts[:2]), default=start)
    lower = [untrained - min((r.score for r in of), default=untrained) for of in (data, raw)]
    if data and lower[0] >= DATA * lower[1]:
        groups = [_without(groups[0], raw), raw]
    modest = [r for r in groups[0] if not structural(r.treatment)]
    if modest and not blind and best(modest) >= MODEST * best(groups[0]):
        groups[:1] = [modest, _without(groups[0], modest)]
    groups.append(last)
    return [r for group in groups for r in _ranked(group, gain, blind=blind)]


def gained(runners: Sequence["Runner"], starts: Sequence[float]) -> float | None:
    """The first of the starts that somebody is below by more than noise, if any."""
    lowest = min((r.score for r in runners), default=math.inf)
    return next((s for s in starts if lowest < s - NOISE * abs(s)), None)


def shown_after(runner: "Runner", start: float | None) -> int:
    """Steps after which a runner had gained SMALLEST of a start; 0 where it never had.

    Args:
        runner: with scores of a race.
        start: score of who has learned nothing.
    """
    if start is None:
        return 0
    enough = start - SMALLEST * abs(start)
    return min((steps for steps, score in runner.scores.items() if score < enough), default=0)


def structural(treatment: "Treatment") -> bool:
    """Whether it changes the architecture rather than values and settings."""
    return treatment.invasive >= FAMILIES.index("activation")


def akin(one: "Treatment", other: "Treatment") -> bool:
    """Whether one is of the other's family, against the same cause: it may do the same better.

    What was made for the cause has no kin that was made for another: where a higher rate helps,
    no other optimizer is asked for.
    """
    same = one.families == other.families and one.cause == other.cause
    return same and (other.aside or not one.aside)


def _with_data(treatment: "Treatment") -> bool:
    return "preprocessing" in treatment.families


def of_data(treatment: "Treatment") -> bool:
    """Whether it changes the data alone, which are the first cause."""
    first = treatment.cause == 0 and not treatment.aside
    return first and set(treatment.families) == {"preprocessing"}


def by_definition(treatment: "Treatment") -> bool:
    """Whether what it mends is the first cause, and wrong whatever it does to a short training.

    That is a loss that is an error, parameters that the optimizer does not hold, and a format of
    numbers in which updates round to nothing.
    """
    of_format = treatment.cause == 0 and _of_format(treatment)
    return of_format or (_first(treatment) and (_of_loss(treatment) or _covers(treatment)))


def mends_break(treatment: "Treatment") -> bool:
    """Whether it mends values or gradients that are no numbers, the first cause."""
    return _first(treatment) and any(p.remedy == "gradient-finite" for p in treatment.plans)


def _of_loss(treatment: "Treatment") -> bool:
    return "loss" in treatment.families


def _first(treatment: "Treatment") -> bool:
    """Whether it was made for the first cause, and that is an error."""
    return treatment.cause == 0 and not treatment.aside and treatment.pressing


def _covers(treatment: "Treatment") -> bool:
    """Whether it hands all parameters to the user's own optimizer."""
    return any(plan.remedy == "optimizer-coverage" for plan in treatment.plans)


def _of_format(treatment: "Treatment") -> bool:
    return [plan.remedy for plan in treatment.plans] == ["optimizer-precision"]


def _opens(treatment: "Treatment") -> bool:
    """Whether it takes away what stands between the last layer and the loss."""
    return any(plan.remedy == "output-activation" for plan in treatment.plans)


def _without(runners: Sequence["Runner"], those: Sequence["Runner"]) -> list["Runner"]:
    return [r for r in runners if not any(r is one for one in those)]


def better_half(runners: Sequence["Runner"], starts: Sequence[float]) -> list["Runner"]:
    """The better half, with the best of each of the two kinds in any case."""
    order = ranked(runners, starts)
    kept = order[: -(-len(order) // 2)]
    for kind in (True, False):
        of_kind = [r for r in order if structural(r.treatment) is kind]
        if of_kind and not any(r is of_kind[0] for r in kept):
            kept = [*kept[:-1], of_kind[0]] if len(kept) > 1 else kept
    return kept


def _gain_from(
    start: float, runners: Sequence["Runner"], *, blind: bool
) -> Callable[["Runner"], float]:
    """What a runner gained from a start.

    Args:
        start: score of who has learned nothing.
        runners: all of them.
        blind: whether nobody is below a constant answer's score yet, and the untrained network's,
            the start, is above it. Then by the logarithm: from 2500, where chance is 2.3, those
            that come to 240 and to 2.7 have gained 90 and 99.9 percent, and are not alike.
    """
    if blind and min(r.score for r in runners) > 0 and math.isfinite(start):
        return lambda runner: -math.log(runner.score / start)  # of an infinite score: -inf
    return lambda runner: start - runner.score


def _ranked(
    runners: Sequence["Runner"], gain: Callable[["Runner"], float], *, blind: bool
) -> list["Runner"]:
    best = max(map(gain, runners), default=0.0)
    # Who has learned nothing gained by what all outputs have in common.
    complete = 0.0 if blind else COMPLETE

    def near(runner: "Runner") -> bool:
        part = complete if runner.treatment.completes else ENOUGH
        return gain(runner) >= part * best

    def key(runner: "Runner") -> tuple[int, ...]:
        what = runner.treatment
        return (not what.completes, what.cause, what.aside, what.invasive, len(what.plans))

    found: list[Runner] = []
    for _, alike in itertools.groupby(sorted(filter(near, runners), key=key), key):
        of_kind = list(alike)
        most = max(map(gain, of_kind))
        equal = [
            r for r in of_kind if gain(r) >= (1 - EQUAL * ("init" in r.treatment.families)) * most
        ]
        found += equal + sorted(_without(of_kind, equal), key=lambda r: r.score)
    return found + sorted(_without(runners, found), key=lambda r: r.score)
