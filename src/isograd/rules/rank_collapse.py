"""Representations that lose their directions while a network trains."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._examples import over_steps
from isograd.rules._numbers import fact, show, sizes
from isograd.rules._profile import hidden_sites, names
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._watched import cures, over, suffers


@dataclass(frozen=True)
class RankCollapse(Rule):
    """Representations collapse onto few directions.

    Sees: at every weight layer and norm, in how many directions the samples differ (the effective
        rank of their centered Gram matrix), at every look of a watched run; beside it, how many
        the answer needs: one fewer than there are classes, or outputs.

    Matters: what has been projected away cannot be told apart later on. Self-supervised losses
        have collapse as a trivial optimum, and attention without skips or a step that is
        too large end there; the loss itself may look fine, or stand.

    Wrong when: the task needs no more: a network with two classes ends with one direction, which
        is allowed for. A network that has few samples to tell apart has few directions.

    Do: lower the learning rate; for self-supervised losses check what prevents collapse
        (stop-gradient, predictor, variance term, negatives); keep skip connections and norms.
    """

    code: ClassVar[str] = "IG210"
    rank: ClassVar[int] = 64
    explains: ClassVar[tuple[str, ...]] = ("IG203", "IG207", "IG604")

    looks: int = 4
    """Looks needed: the median of three, and something to compare it with."""
    fewest: float = 1.5
    """Directions that count as one: a second one with a third of the first one's weight."""
    started: float = 4.0
    """Directions at the start from which there was something to lose."""
    share: float = 0.25
    """Part of the directions that the answer needs, below which it cannot be told."""
    width: int = 8
    """Units of a layer that is no bottleneck."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the directions of now with those of the start, and with what is needed."""
        column = over(reading, "forward.rank", fewest=self.looks)
        if isinstance(column, NotApplicable):
            return column
        seen = reading.seen
        needed = self._needed(reading)
        ranks = {
            i: (then, now)
            for i in range(len(seen.sites))
            if (seen.value("forward.units", i) or self.width) >= self.width
            and (then := column.then(i)) is not None
            and (now := column.now(i)) is not None
            and then >= self.started
        }
        if not ranks or needed < self.started:
            return NotApplicable(
                f"no layer of {self.width} units starts with {show(self.started)} directions, or "
                "the answer needs fewer"
            )
        limit = max(self.fewest, self.share * min(needed, min(then for then, _ in ranks.values())))
        lost = [i for i, (_, now) in ranks.items() if now < limit]
        if not lost:
            least = min(now for _, now in ranks.values())
            return Passed(f"the samples differ in at least {show(least)} directions")
        worst = min(lost, key=lambda i: ranks[i][1])
        then, now = ranks[worst]
        unsupervised = seen.fact("target.kind") is None
        severity = Severity.WARNING
        # Without targets the loss may be at its best because of the collapse.
        if suffers(reading) is False and not (unsupervised and self._all_lost(reading, lost)):
            severity = Severity.INFO
        return Finding(
            self.code,
            severity,
            "lr-too-high" if not unsupervised else "loss-mismatch",
            f"The samples differ in {show(now)} directions at {seen.sites[worst].name} at step "
            f"{column.steps[-1]}, where it was {show(then)} at the start ({len(lost)} of "
            f"{len(ranks)} layers).",
            names(seen, lost),
            {"before": then, "after": now, "needed": needed, "layers": len(lost)},
            (
                "Check what keeps the loss from its trivial optimum: stop-gradient, predictor, "
                "variance term or negatives.",
                *cures(reading),
            )
            if unsupervised
            else cures(reading),
            () if severity is Severity.INFO else self.explains,
        )

    def _needed(self, reading: Reading) -> float:
        """Directions that a right answer has; as many as the outputs where nothing is known."""
        seen = reading.seen
        classes, shape = fact(seen, "target.classes"), sizes(seen.fact("output.shape"))
        if classes is not None:
            return min(classes, fact(seen, "target.distinct") or classes) - 1
        return float(shape[-1]) if shape else self.started

    @staticmethod
    def _all_lost(reading: Reading, lost: list[int]) -> bool:
        """Whether the output has collapsed too: it is what is used later on."""
        hidden = hidden_sites(reading.seen)
        return any(i not in hidden for i in lost)

    @staticmethod
    def sick() -> Reading:
        """Twelve directions become one."""
        return _example(1.1)

    @staticmethod
    def well() -> Reading:
        """Twelve directions become eight: one for each difference between nine classes."""
        return _example(8.0)


def _example(rank: float) -> Reading:
    losses = [2.3 * 0.97**k for k in range(30)] + [2.3] * 70
    ranks = [12.0] * 4 + [12 + (rank - 12) * k / 3 for k in (1, 2, 3)] + [rank] * 3
    facts = {"target.classes": 10, "target.kind": "class"}
    return over_steps({"forward.rank": ranks, "forward.units": [31.0] * 10}, losses, facts=facts)
