"""What several rules read off a record: quantities over depth, and what a rehearsal came to."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from isograd.findings import Severity
from isograd.records import WEIGHT_KINDS, Reading, Record
from isograd.rules._course import course, noise
from isograd.rules._numbers import dependence, fact
from isograd.rules._remembering import remembered
from isograd.rules._rule import NotApplicable
from isograd.sites.chance import shrunk, uninformed

UNDERFLOW = math.log(1e-20)
"""ln of a fraction from which a further fall to exactly zero is underflow, not a blocked path."""

FLOOR = -103.0
"""ln of the smallest positive float32: where something that underflowed is counted."""

MOST_POINTS = 64
"""Depths used for a slope: pairs grow with the square, and 64 already fix a slope to 1 %."""

BAND_WIDTH = 3.0
"""Standard deviations of chance at finite width that do not yet count as news."""


@dataclass(frozen=True)
class Profile:
    """One quantity at every depth, as natural logarithms; needs at least two depths."""

    depths: tuple[int, ...]
    logs: tuple[float, ...]
    """The largest among parallel layers: a signal survives if it survives on one path."""
    sites: tuple[int, ...]
    band: float
    """Standard deviation of the whole change that chance at finite width explains."""
    rate: float
    """Median slope: change of ln per weight layer from the input to the output."""

    @property
    def span(self) -> int:
        """Weight layers between the first and the last."""
        return self.depths[-1] - self.depths[0]

    def change(self, *, toward_input: bool, falling: bool) -> float:
        """Logarithm of what the depth as a whole does on the way toward the input or the output.

        One odd layer at the output, such as a head that is small or zero on purpose, is not the
        depth's doing: either the typical layer agrees with the whole, or the change happens
        before that layer.
        """
        sign = -1.0 if toward_input else 1.0
        whole = sign * (self.logs[-1] - self.logs[0])
        if len(self.logs) < 3:
            return min(whole, 0.0) if falling else max(whole, 0.0)
        steady = sign * slope(self.depths[:-1], self.logs[:-1]) * self.span
        inner = sign * (self.logs[-2] - self.logs[0])
        if falling:
            return min(max(whole, steady), inner, 0.0)
        return max(min(whole, steady), inner, 0.0)


@remembered
def gradient(record: Record) -> Profile | None:
    """Norm of dLoss/d(output) of the weight layers: widths cancel, unlike in the rms."""

    def norm(site: int) -> float | None:
        rms, count = record.value("backward.rms", site), record.value("backward.count", site)
        return None if rms is None or count is None else rms * math.sqrt(max(count, 0.0))

    return _profile(record, norm, "backward.band", at_input=True)


@remembered
def signal(record: Record) -> Profile | None:
    """Part of the weight layers' outputs that depends on the input."""
    return _profile(record, lambda i: record.value("forward.spread", i), "forward.band")


@remembered
def scale(record: Record) -> Profile | None:
    """Rms of the weight layers' outputs."""
    return _profile(record, lambda i: record.value("forward.rms", i), "forward.band")


def _profile(
    record: Record,
    quantity: Callable[[int], float | None],
    band: str,
    *,
    at_input: bool = False,
) -> Profile | None:
    if idle_norms(record):
        return None
    # A cell that is called again and again is one layer; what time does to it is for IG504.
    last = {s.name.split("#")[0]: i for i, s in enumerate(record.sites) if s.kind == "recurrent"}
    best: dict[int, tuple[float, int]] = {}
    zeros: dict[int, int] = {}
    for site, place in enumerate(record.sites):
        # The stream past a residual branch carries what the branch's own last layer does not.
        if place.kind not in WEIGHT_KINDS and place.kind != "add":
            continue
        if last.get(place.name.split("#")[0], site) != site:
            continue
        number, depth = quantity(site), place.depth
        if number is None or not math.isfinite(number) or number < 0:
            continue
        if number == 0:
            zeros[depth] = site
        elif depth not in best or number > best[depth][0]:
            best[depth] = (number, site)
    points = {depth: (math.log(number), site) for depth, (number, site) in best.items()}
    if points and zeros:
        logs = [log for log, _ in points.values()]
        if min(logs) - max(logs) < UNDERFLOW:
            points |= {d: (FLOOR, s) for d, s in zeros.items() if d not in points}
    if len(points) < 2:
        return None
    depths = tuple(sorted(points))
    logs = [points[d][0] for d in depths]
    sites = tuple(points[d][1] for d in depths)
    spread = record.value(band, sites[0] if at_input else sites[-1])
    return Profile(
        depths,
        tuple(logs),
        sites,
        spread if spread is not None and math.isfinite(spread) else 0.0,
        slope(depths, logs),
    )


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Median of the slopes of all pairs of points (Theil 1950): half the points may be odd."""
    step = max(1, math.ceil(len(xs) / MOST_POINTS))
    xs, ys = xs[::step], ys[::step]
    slopes = [
        (ys[j] - ys[i]) / (xs[j] - xs[i])
        for i in range(len(xs))
        for j in range(i + 1, len(xs))
        if xs[j] != xs[i]
    ]
    return median(slopes) if slopes else 0.0


Result = Literal["trains", "flat", "diverges"]

FEWEST_STEPS = 10
"""Fewer losses than this say nothing about a trend."""

CLEAR = 3.0
"""Standard errors that make a change of the mean loss clear."""

BELOW_CHANCE = 0.97
"""Fraction of the chance loss that only a prediction using the input stays below: learning the
label frequencies alone gains less than that on any batch that is roughly balanced."""

STILL = 0.01
"""Relative change of the loss that counts as none."""

PATIENCE = 30
"""Steps from which a loss that fell to chance and stays there is stuck."""

CONSTANT = 1e-3
"""Spread of the outputs over the samples over their rms, below which they are constant."""

LEARNT = 0.5
"""Fraction of the chance loss below which a network has learned already: no fresh one gets there
on a batch of ENOUGH samples."""

ENOUGH = 8
"""Samples from which a low loss is no luck."""

ESCAPED = 3.0
"""A mean loss this many times its start has run away, not just jumped."""


def learnt(record: Record) -> bool:
    """Whether the loss shows a network that is trained already.

    One that a factor makes small shows nothing.
    """
    value, chance = fact(record, "loss.value"), uninformed(record)
    many = (fact(record, "batch.size") or 0.0) >= ENOUGH
    if not many or value is None or not chance or shrunk(record):
        return False
    return 0 <= value < LEARNT * chance


@remembered
def outcome(reading: Reading) -> Result | None:
    """What the training came to; `None` without one, or where it is too short or unclear.

    A network that has learned before, and does not forget in the training, trains. Of a watched
    run whose loss has no known chance level none is flat: that of a GAN stands as it learns.
    """
    last, path = reading.last, course(reading)
    if last.fact("rehearsal.stopped") or (path is not None and path.broke_at is not None):
        return "diverges"
    losses = path.losses if path is not None else ()
    if len(losses) < FEWEST_STEPS:
        return "trains" if learnt(reading.seen) and learnt(last) else None
    part = max(3, len(losses) // 4)
    # Of a watched run a quarter is much more than its beginning.
    first = min(part, FEWEST_STEPS) if path is not None and path.watched else part
    head, tail = losses[:first], losses[-part:]
    start, end = fmean(head), fmean(tail)
    error = noise(losses) * math.sqrt(1 / first + 1 / part)
    chance = uninformed(reading.seen)
    if end > ESCAPED * max(abs(start), chance or 0.0):
        return "diverges"
    if learnt(reading.seen) and end < LEARNT * (chance or 0.0):
        return "trains"
    # A first step that throws the loss far up makes anything look like learning afterwards.
    start = min(start, losses[0])
    below = end < BELOW_CHANCE * (start if chance is None else min(start, chance))
    own = fact(last, "loss.value")
    if chance and own is not None and not (path and path.watched):
        # Other batches may be easier by chance than the one that this is the chance of.
        below = below and own < BELOW_CHANCE * chance
    seeing = dependence(last)
    if chance is not None and seeing is not None and seeing < CONSTANT:
        below = False  # an answer that does not depend on the input is chance, with luck
    if below and start - end > CLEAR * error:
        return "trains"
    late = fmean(losses[-2 * part : -part]) if len(losses) >= PATIENCE else start
    if not chance and path is not None and path.watched:
        return None
    if not below and abs(late - end) <= max(2 * error, STILL * abs(late)):
        return "flat"
    return None


def weighed(severity: Severity, result: Result | None) -> Severity:
    """A symptom's severity in the light of the rehearsal: what demonstrably learns is not ill."""
    if result == "trains":
        return Severity.INFO
    if result in ("flat", "diverges") and severity is Severity.WARNING:
        return Severity.ERROR
    return severity


def effective_updates(record: Record) -> dict[int, float]:
    """Update over weight of every weight tensor, once momentum has built up.

    Momentum adds up to 1/(1 - momentum) such updates; adaptive methods average instead. Left out
    are weights that are zero, weights whose gradient is, as before a layer that starts at zero, and
    frozen ones.
    """
    momentum = fact(record, "optimizer.momentum") or 0.0
    adaptive = bool(record.fact("optimizer.adaptive"))
    boost = 1 / (1 - momentum) if 0 <= momentum < 1 and not adaptive else 1.0
    return {
        index: ratio * boost
        for index, ratio in record.pairs("weight.update_ratio")
        if record.parameters[index].is_weight
        and record.parameters[index].trainable
        and record.value("weight.rms", index) != 0
        and record.value("weight.grad_rms", index) != 0
    }


ROUNDING = 3e-6
"""Spread over rms at which differences between samples have fewer than five bits left in float32,
whose steps are 1.2e-7: not even an adaptive optimizer finds them."""

MOVES = 1e-4
"""Update over weight from which a layer learns within ordinary training."""


def contrast(record: Record) -> float | None:
    """Spread over rms at the last weight layer whose output depends on the input at all."""
    for site in reversed(record.weight_sites()):
        spread, rms = record.value("forward.spread", site), record.value("forward.rms", site)
        if spread and rms:
            return spread / rms
    return None


def rescued(reading: Reading, left: float) -> bool:
    """Whether the optimizer makes up for a loss of scale over depth.

    An adaptive one does, as long as samples can be told apart and the gradient stands above the
    eps that is added to its size; not where a rehearsal stands still although its steps were
    enough to turn the weights over.

    Args:
        reading: the first look, and the rehearsal if there was one.
        left: share of the signal or gradient that is left.
    """
    record = reading.seen
    if not record.fact("optimizer.adaptive"):
        return False
    apart = contrast(record)
    if apart is not None and apart < ROUNDING:
        return False
    moves = list(effective_updates(record).values())
    path = course(reading)
    enough = path is not None and bool(moves) and median(moves) * path.steps > TURNED_OVER
    if enough and outcome(reading) == "flat":
        return False
    return median(moves) > MOVES if moves else left > RESCUED


TURNED_OVER = 1.0
"""Sum of updates over the weights from which every weight had time to become another: six sigmoid
layers with Adam stand still up to 0.7, and learn from 1 on."""


RESCUED = 1e-6
"""Share of the gradient that an adaptive optimizer brings back where its steps were not measured:
below it the entries come near the eps = 1e-8 of Adam."""


def names(record: Record, sites: Sequence[int]) -> tuple[str, ...]:
    """The sites' names."""
    return tuple(record.sites[i].name for i in sites)


def idle_norms(record: Record) -> NotApplicable | None:
    """Why nothing can be said about depth where batch norms normalize by their initial numbers."""
    seen = fact(record, "norm.tracked")
    if record.fact("model.training") is not False or seen is None or seen > 0:
        return None
    return NotApplicable(
        "the batch norms are in eval mode with statistics of 0 batches, so that they do not "
        "normalize as in training (call model.train() first)"
    )


def needs(record: Record, *keys: str) -> NotApplicable | None:
    """Why a rule cannot look where one of the columns is missing."""
    if any(key.startswith(("forward.", "backward.")) and record.has(key) for key in keys):
        idle = idle_norms(record)
        if idle:
            return idle
    for key in keys:
        if not record.has(key):
            kind = key.partition(".")[0]
            how = {
                "backward": "measure with targets and a loss",
                "weight": "measure a model with weight layers",
                "forward": "measure a model with such layers",
            }[kind if kind in ("backward", "weight") else "forward"]
            if key == "weight.update_ratio":
                how = "give the optimizer"
            return NotApplicable(f"the record holds no {key} ({how} to add it)")
    return None


@remembered
def hidden_sites(record: Record) -> frozenset[int]:
    """Sites from which a weight layer lies ahead: everything but the network's output end."""
    hidden: set[int] = set()
    for index in range(len(record.sites) - 1, -1, -1):
        site = record.sites[index]
        if index in hidden or site.kind in WEIGHT_KINDS:
            hidden.update(source for source in site.inputs if 0 <= source < index)
    return frozenset(hidden)
