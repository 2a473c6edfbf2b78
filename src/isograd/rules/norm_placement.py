"""Where the norms stand."""

import math
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record, Site
from isograd.rules._course import course
from isograd.rules._graph import NORMS, least_on_a_path, readers
from isograd.rules._numbers import dependence, middle, show
from isograd.rules._profile import effective_updates, outcome
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OF_TRAINING, OVER_DEPTH
from isograd.rules._watched import latest_with
from isograd.sites.chance import uninformed


@dataclass(frozen=True)
class NormPlacement(Rule):
    """Norms on the main path of a deep network.

    Sees: how many norms stand on the way that no skip connection avoids. A norm that is the only
        reader of a residual addition (post-norm) is one, and so is a batch norm in a stack
        without skips. In a rehearsal: whether the outputs stop depending on the inputs,
        and whether the loss falls.

    Matters: a norm on the main path divides the skip by the size of what was added to it, so that
        the gradient no longer has an unscaled way to the input. Post-norm transformers of 12
        layers train, those of 24 collapse to a constant output within some ten steps at
        the same learning rate. A batch norm with ReLU multiplies the gradient by up to 1.21 on
        the way back (sqrt(pi/(pi-1))), 1e8 over a hundred layers.

    Wrong when: a long warm-up or an initialization made for it (DeepNorm, Admin) holds a deep
        post-norm network together; BERT-large is trained that way.

    Do: put the norms into the branches (norm_first=True), with one more before the head; else
        warm up for some thousand steps. Give a deep plain stack residual connections.
    """

    code: ClassVar[str] = "IG503"
    rank: ClassVar[int] = 40
    explains: ClassVar[tuple[str, ...]] = (*OVER_DEPTH, *OF_TRAINING)

    deep: int = 36
    """Post-norm sublayers, two per encoder layer: 24 train without care (BERT-base), 48 do not."""
    risky: int = 12
    """Post-norm sublayers from which a collapse in the rehearsal is put down to them, and a loss
    that stands still."""
    patience: int = 30
    """Steps of a rehearsal in which the loss of a stack that trains has begun to fall,"""
    moved: float = 0.3
    """if the steps together are this part of the weights: smaller ones just take longer."""
    level: float = 0.97
    """Loss in the second half, over that of a constant answer, that has not fallen."""
    constant: float = 1e-3
    """Spread of the outputs over the samples, relative to their rms, below which no loss can be
    learned from them; collapsed networks stand at the rounding error, 1e-6."""
    plain: int = 30
    """Batch norms in a row without a skip: at 64 units the gradient grows 270 fold over thirty,
    which still come to 1.3 on MNIST in 300 steps; forty (2,200 fold) stay at 2.0 at any rate."""
    growth: float = 1e3
    """Growth of the gradient toward the input, measured: three decades lie between the learning
    rates that the first and the last layer bear."""

    def judge(self, reading: Reading) -> Outcome:
        """Counts the norms, then looks for the damage."""
        seen = reading.seen
        norms = [i for i, site in enumerate(seen.sites) if site.kind in NORMS]
        if not norms:
            return NotApplicable("the network has no norm layers (measure() names them)")
        reading_sites = readers(seen)
        after_addition = _post_norms(seen, reading_sites)
        sublayers = int(least_on_a_path(seen, after_addition.__contains__))
        collapsed = self._collapsed(reading)
        stuck = self._stuck(reading)
        if sublayers > self.deep or (sublayers >= self.risky and (stuck or collapsed is not None)):
            told = self._told(collapsed, stuck)
            return self._post_norm(seen, sorted(after_addition), sublayers, collapsed, told)
        batch_norms = [i for i in norms if seen.sites[i].kind == "batch_norm"]
        stacked = int(least_on_a_path(seen, set(batch_norms).__contains__))
        grown = _growth(seen, batch_norms)
        if stacked > self.plain and (grown is None or grown > self.growth):
            return self._plain_stack(seen, batch_norms, stacked, grown)
        return Passed(
            f"{sublayers} post-norm sublayers and {stacked} batch norms in a row without a skip"
        )

    def _collapsed(self, reading: Reading) -> float | None:
        last = latest_with(reading, "output.spread")
        before, after = dependence(reading.seen), dependence(last)
        if not reading.history or before is None or after is None:
            return None
        return after if before > self.constant > after else None

    def _stuck(self, reading: Reading) -> int:
        """Steps of a rehearsal that moved the weights enough, and the loss not at all; or 0."""
        path, chance = course(reading), uninformed(reading.seen)
        if path is None or path.watched or path.steps < self.patience or not chance:
            return 0
        update = middle(effective_updates(reading.seen).values()) or 0.0
        still = path.level > self.level * chance and outcome(reading) != "trains"
        return path.steps if still and update * path.steps > self.moved else 0

    @staticmethod
    def _told(collapsed: float | None, stuck: int) -> str:
        if collapsed is not None:
            return (
                f" In training the outputs became constant: they vary by {show(collapsed)} of "
                "their rms over the samples."
            )
        return f" In {stuck} steps of training the loss has not fallen." if stuck else ""

    def _post_norm(
        self, seen: Record, sites: list[int], sublayers: int, collapsed: float | None, told: str
    ) -> Finding:
        return Finding(
            self.code,
            Severity.WARNING if collapsed is None else Severity.ERROR,
            "norm-placement",
            f"{sublayers} sublayers in a row normalize after the residual addition (post-norm), so "
            f"that no skip reaches the input unscaled.{told}",
            sites=tuple(seen.sites[i].name for i in sites),
            evidence={"sublayers": sublayers, "spread_after_rehearsal": collapsed},
            remedies=(
                "Normalize the input of each branch instead of the sum (norm_first=True), and add "
                "one norm before the head.",
                "If it must stay post-norm: warm the learning rate up over some thousand steps, or "
                "initialize for it (DeepNorm, Admin).",
            ),
            explains=self.explains,
        )

    def _plain_stack(
        self, seen: Record, norms: list[int], stacked: int, grown: float | None
    ) -> Finding:
        measured = "" if grown is None else f"; the gradient grows {show(grown)} fold over them"
        return Finding(
            self.code,
            Severity.WARNING,
            "norm-placement",
            f"{stacked} batch norms stand in a row without a residual connection{measured}.",
            sites=tuple(seen.sites[i].name for i in norms),
            evidence={"batch_norms": stacked, "gradient_growth": grown},
            remedies=(
                "Add a skip connection around every two or three layers, with the norm inside the "
                "branch.",
                "Or leave the norms out and initialize orthogonally at the critical gain.",
            ),
            explains=self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """24 post-norm encoder layers."""
        return Reading(post_norm(48))

    @staticmethod
    def well() -> Reading:
        """12 of them."""
        return Reading(post_norm(24))


def _post_norms(record: Record, reading_sites: list[list[int]]) -> set[int]:
    """Norms that alone read a residual addition."""
    found: set[int] = set()
    for index, site in enumerate(record.sites):
        following = set(reading_sites[index])
        if site.kind == "add" and len(following) == 1:
            (norm,) = following
            if record.sites[norm].kind in NORMS:
                found.add(norm)
    return found


def _growth(record: Record, norms: list[int]) -> float | None:
    """Rms of the gradient at the first of these sites over that at the last."""
    sizes = dict(record.pairs("backward.rms"))
    measured = [sizes[i] for i in norms if sizes.get(i, 0) > 0]
    if len(measured) < 2:
        return None
    return measured[0] / measured[-1] if measured[-1] > 0 else math.inf


def post_norm(sublayers: int, **facts: float) -> Record:
    """A record of residual sublayers with a norm after each addition."""
    sites = [Site("embed", "linear", "Linear", 1, (16, 31))]
    for k in range(sublayers):
        start = len(sites) - 1
        sites.append(Site(f"layers.{k}.fc", "linear", "Linear", k + 2, (16, 31), (start,)))
        sites.append(Site(f"layers.{k}:add", "add", "add", k + 2, (16, 31), (start, start + 1)))
        sites.append(
            Site(f"layers.{k}.norm", "layer_norm", "LayerNorm", k + 2, (16, 31), (start + 2,))
        )
    return Record(tuple(sites), facts=facts)
