"""Bounded activations that training drives onto their flat ends."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._examples import over_steps
from isograd.rules._numbers import show
from isograd.rules._profile import hidden_sites, names
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._watched import cures, over, suffers
from isograd.sites import BOUNDED


@dataclass(frozen=True)
class SaturationDrift(Rule):
    """Training drives units onto the flat ends of their activation.

    Sees: for every hidden sigmoid, tanh and the like, the share of entries at which its derivative
        is below 5 % of its largest value, at every look of a watched run.

    Matters: what a saturated unit passes back is next to nothing, so that the layers before it
        stop learning and the unit stays where it is. Steps that are too large get there within a
        few updates, and nothing in the loss says why it stands.

    Wrong when: the network has found an answer that is nearly binary; as long as the loss is at
        its best the finding is information.

    Do: lower the learning rate or warm it up; decay the weights of the layer before; put a
        normalization in front of the activation.
    """

    code: ClassVar[str] = "IG209"
    rank: ClassVar[int] = 63
    explains: ClassVar[tuple[str, ...]] = ("IG203", "IG207", "IG210", "IG308", "IG604")

    looks: int = 4
    """Looks needed: the median of three, and something to compare it with."""
    drift: float = 0.3
    """Rise of the share since the first looks; in healthy trainings it rises by a few percent."""
    many: float = 0.6
    """Share from which the typical path through the layer is closed; training alone brings a
    first layer to 55 %."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the share of now with that of the first look."""
        column = over(reading, "forward.saturated", fewest=self.looks)
        if isinstance(column, NotApplicable):
            return column
        seen = reading.seen
        shares = {
            i: (then, now)
            for i in hidden_sites(seen)
            if seen.sites[i].kind in BOUNDED
            and (now := column.now(i)) is not None
            and (then := column.rows[i][0]) is not None
        }
        if not shares:
            return NotApplicable("no hidden layer has 1 activation that is bounded on both sides")
        drifted = [
            i for i, (then, now) in shares.items() if now > self.many and now - then > self.drift
        ]
        if not drifted:
            most = max(now for _, now in shares.values())
            return Passed(f"at most {show(most)} of a layer's entries saturate")
        drifted.sort(key=lambda i: -shares[i][1])
        worst = drifted[0]
        then, now = shares[worst]
        severity = Severity.INFO if suffers(reading) is False else Severity.WARNING
        name = seen.sites[worst].name
        return Finding(
            self.code,
            severity,
            "lr-too-high",
            f"{show(100 * now)} % of the entries of {name} are saturated at step "
            f"{column.steps[-1]}; at step {column.steps[0]} it was {show(100 * then)} % "
            f"({len(drifted)} of {len(shares)} hidden layers have drifted).",
            names(seen, drifted),
            {"before": then, "after": now, "layers": len(drifted)},
            (*cures(reading), f"Put a normalization in front of {name}."),
            () if severity is Severity.INFO else self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Tanh layers that large steps have driven to their ends."""
        return _example(0.9)

    @staticmethod
    def well() -> Reading:
        """The same layers, a little more saturated than at the start."""
        return _example(0.2)


def _example(share: float) -> Reading:
    losses = [2.3 * 0.97**k for k in range(30)] + [2.3] * 70
    shares = [0.05] * 4 + [0.05 + (share - 0.05) * k / 3 for k in (1, 2, 3)] + [share] * 3
    facts = {"optimizer.lr": 0.5}
    return over_steps({"forward.saturated": shares}, losses, activation="tanh", facts=facts)
