"""Units that die while a network trains."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._examples import over_steps
from isograd.rules._numbers import fact, show
from isograd.rules._profile import hidden_sites, names
from isograd.rules._rates import steps_to_blame
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._watched import NOW, Over, cures, latest, over, suffers
from isograd.sites import ACTIVATIONS


@dataclass(frozen=True)
class DyingUnits(Rule):
    """Units die during training.

    Sees: per hidden activation, the share of units that are off for every sample, at every look
        of a watched run: how far it has risen over the first looks, and whether the loss is worse
        than it was. What sparse activations make of a small batch is allowed for.

    Matters: a unit that is off for every sample gets no gradient and does not come back by itself.
        A step that is too large pushes many biases below all inputs at once; the layer is
        narrower from then on, and a wall once all of it is dead.

    Wrong when: units specialize: with few samples a unit that stands for something rare is off in
        most batches. As long as the loss is at its best only a layer that is nearly gone counts.

    Do: go back to before it began, with a lower learning rate or warm-up; clip the gradient norm;
        LeakyReLU, GELU or ELU units come back.
    """

    code: ClassVar[str] = "IG208"
    rank: ClassVar[int] = 62
    explains: ClassVar[tuple[str, ...]] = ("IG203", "IG207", "IG210", "IG308", "IG604", "IG610")

    looks: int = 4
    """Looks needed: the median of three, and something to compare it with."""
    died: float = 0.4
    """Rise of the share that no healthy training shows: a few percent die in three hundred steps,
    and with Adam up to a third over long."""
    most: float = 0.9
    """So few units left carry next to nothing of the signal."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the share of now with that of the first looks."""
        column = over(reading, "forward.dead", fewest=self.looks)
        if isinstance(column, NotApplicable):
            return column
        seen, hidden = reading.seen, hidden_sites(reading.seen)
        places = [i for i in hidden if seen.sites[i].kind in ACTIVATIONS]
        rises = {i: rise for i in places if (rise := self._rise(reading, column, i)) is not None}
        if not rises:
            return NotApplicable("no hidden layer has 1 activation whose units can die")
        worst = max(rises, key=lambda i: rises[i])
        now, then = column.now(worst) or 0.0, column.rows[worst][0] or 0.0
        if rises[worst] < self.died:
            return Passed(f"the share of dead units has risen by at most {show(rises[worst])}")
        gone = now > self.most
        ill = suffers(reading)
        severity = Severity.INFO if ill is False and not gone else Severity.WARNING
        if gone and ill:
            severity = Severity.ERROR
        over_limit = sorted((i for i in rises if rises[i] >= self.died), key=lambda i: -rises[i])
        when = _when(column, worst)
        steps = steps_to_blame(reading, when)
        return Finding(
            self.code,
            severity,
            "lr-too-high" if steps else "dead-units",
            f"{show(100 * now)} % of the units of {seen.sites[worst].name} are dead at step "
            f"{column.steps[-1]}; at step {column.steps[0]} it was {show(100 * then)} % "
            f"({len(over_limit)} of {len(rises)} layers have lost {show(100 * self.died)} % or "
            "more).",
            names(seen, over_limit),
            {"before": then, "after": now, "layers": len(over_limit)},
            (*(cures(reading) if steps else _else(when)), LEAKY),
            () if severity is Severity.INFO else self.explains,
        )

    @staticmethod
    def _rise(reading: Reading, column: Over, site: int) -> float | None:
        """How far the share has risen, without what a batch of sparse activations explains."""
        now, then = column.now(site), column.rows[site][0]
        if now is None or then is None:
            return None
        last = latest(reading, "forward.zero")
        zeros, samples = last.value("forward.zero", site), fact(last, "batch.size")
        lowest = min(v for v in column.rows[site][-NOW:] if v is not None)
        off = min(now, lowest if len(column.steps) < 2 * NOW else now)
        if zeros is None or not samples or not 0 <= zeros <= 1:
            return off - then
        return min(off - then, for_good(off, zeros, samples))

    @staticmethod
    def sick() -> Reading:
        """A step that was too large kills two thirds of every layer."""
        return _example(0.7)

    @staticmethod
    def well() -> Reading:
        """A tenth dies."""
        return _example(0.1)


LEAKY = "Use LeakyReLU or GELU, whose units keep a gradient when off."


def _else(when: int) -> tuple[str, ...]:
    """What to look at where no step was large enough to do this."""
    return (
        f"Look at what changed before step {when}: weights or biases that were loaded or written "
        "over, the scale of the inputs.",
        "Go back to a checkpoint from before.",
    )


def _when(column: Over, site: int) -> int:
    """The step of the look at which more than half of the rise was there."""
    row = column.rows[site]
    half = ((row[0] or 0.0) + (column.now(site) or 0.0)) / 2
    return next(
        step for step, share in zip(column.steps, row, strict=True) if (share or 0.0) >= half
    )


def for_good(off: float, zeros: float, samples: float) -> float:
    """Share of units that are dead, of a share that is off for every sample of a batch.

    A live unit that is on for a share p of the samples is off in a batch with (1 - p)^samples.
    With dead units D and q = 1 - p, zeros = D + (1 - D) q, and off = D + (1 - D) q^samples.
    """
    if zeros >= 1:
        return off  # nothing shows that any of them lives
    if zeros**samples >= off:
        return 0.0
    low, high = 0.0, off
    for _ in range(40):
        dead = (low + high) / 2
        q = min(max((zeros - dead) / (1 - dead), 0.0), 1.0) if dead < 1 else 0.0
        low, high = (dead, high) if dead + (1 - dead) * q**samples < off else (low, dead)
    return high


def _example(share: float) -> Reading:
    losses = [2.3 * 0.97**k for k in range(50)] + [2.3] * 50
    dead = [0.02] * 4 + [0.02 + share * k / 4 for k in (1, 2, 3, 4)] + [0.02 + share] * 2
    facts = {"optimizer.lr": 0.5, "batch.size": 128}
    return over_steps({"forward.dead": dead, "forward.zero": [0.6] * 10}, losses, facts=facts)
