"""The activation after the last layer."""

import math
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._course import course
from isograd.rules._examples import chain
from isograd.rules._numbers import fact, show, words
from isograd.rules._profile import outcome, weighed
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OVER_DEPTH
from isograd.sites.chance import uninformed

_RANGES = {
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "softplus": (0.0, math.inf),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
}
"""What an activation can give, by its definition."""

_SCALING = ("mul", "add", "div")
_RECTIFIERS = ("relu", "relu6")
_SHUT = ("tanh", "hardtanh", "softsign")


@dataclass(frozen=True)
class OutputActivation(Rule):
    """The output activation cannot give what the loss asks for.

    Sees: the activation whose result enters the loss, its range, and the range of the targets;
        a rectifier in front of cross_entropy; a sigmoid in front of a squared error on classes;
        logits that stay within [-1, 1], because tanh or a product of normalized vectors gave them.

    Matters: ReLU cannot give a negative number, so for negative targets the best it can do is 0,
        where its gradient is 0 too and nothing more is learned. A sigmoid or tanh that has to
        reach beyond its range saturates. Before cross_entropy a ReLU throws away every logit below
        zero with its gradient. With logits in [-1, 1] the cross-entropy of ten classes ends at 0.79
        in place of 0, however right the network is. Sigmoid with a squared error starts well, but
        never recovers from a confident mistake.

    Wrong when: targets beyond the range are rare outliers that should be clipped.

    Do: end a regression with a linear layer. Use softplus if the answer must be positive and the
        targets are. Scale tanh or sigmoid to the targets' range, and cosines by 10 to 30 (or by a
        parameter that starts there).
    """

    code: ClassVar[str] = "IG606"
    rank: ClassVar[int] = 5
    explains: ClassVar[tuple[str, ...]] = (*OVER_DEPTH, "IG603", "IG604")

    beyond: float = 0.01
    """Part of the targets' range that the activation cannot reach: more than one outlier."""
    blocked: float = 0.5
    """Share of the outputs that stand at a rectifier's zero, where no gradient passes; beyond
    one half the output is dying rather than restricted."""
    floor: float = 0.25
    """Least loss that logits in [-1, 1] come to, over that of chance: two classes have 0.18 and may
    be told apart all the same, ten 0.34."""
    steps: int = 30
    """Steps of a rehearsal after which a sigmoid under a squared error has recovered, if it does:
    behind a cross entropy nothing slows it."""

    flat: float = 0.2
    """Share of a sigmoid's outputs that start on its flat ends, under a squared error: those of
    usual weights have none, and half of these stand at the wrong end."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges the activation that enters the loss."""
        seen = reading.seen
        kind = seen.fact("loss.kind")
        place = seen.fact("loss.input_site")
        if not isinstance(kind, str) or not isinstance(place, int):
            return NotApplicable("no loss was measured (hand targets and a loss to measure())")
        if not 0 <= place < len(seen.sites):
            return NotApplicable("the site whose output enters the loss is not in the record")
        site = seen.sites[place]
        if kind in ("cross_entropy", "bce_logits") and (
            site.kind in _SHUT or seen.fact("output.cosines")
        ):
            return self._too_narrow(seen, kind, place)
        if site.kind not in _RANGES or not _enters_as_it_is(seen, place):
            return Passed(f"no activation of limited range among the last 1 of {len(seen.sites)}")
        if kind in ("cross_entropy", "bce_logits", "nll") and site.kind in _RECTIFIERS:
            return self._before_logits(reading, place)
        if kind not in ("mse", "l1"):
            return Passed(f"{site.kind} fits {kind}, 1 of 1 checks")
        missed = self._missed(seen, site.kind)
        if missed > self.beyond:
            return self._out_of_range(reading, place, missed)
        if seen.fact("target.kind") in ("class", "binary") and site.kind == "sigmoid":
            return self._squared(reading, place)
        return Passed(f"{site.kind} reaches all but {missed:.0%} of the targets' range")

    def _missed(self, seen: Record, activation: str) -> float:
        """Part of the targets' range that lies outside of the activation's."""
        low, high = fact(seen, "target.min"), fact(seen, "target.max")
        if low is None or high is None or seen.fact("target.kind") == "class":
            return 0.0  # class numbers are not what a regression loss compares with
        bottom, top = _RANGES[activation]
        if high <= low:
            return 1.0 if not bottom <= low <= top else 0.0
        inside = max(0.0, min(high, top) - max(low, bottom))
        return 1 - inside / (high - low)

    def _out_of_range(self, reading: Reading, place: int, missed: float) -> Finding:
        seen = reading.seen
        site = seen.sites[place]
        low, high = fact(seen, "target.min") or 0.0, fact(seen, "target.max") or 0.0
        zero = seen.value("forward.zero", place) or 0.0
        dying = site.kind in _RECTIFIERS and zero >= self.blocked
        return Finding(
            self.code,
            Severity.ERROR,
            "dead-output" if dying else "output-activation",
            f"The output goes through {site.kind} ({site.name}), but {missed:.0%} of the targets' "
            f"range [{show(low)}, {show(high)}] lies outside of what it can give"
            + (f"; {zero:.0%} of the outputs stand at 0, without gradient." if dying else "."),
            sites=(site.name,),
            evidence={"activation": site.kind, "missed": missed, "forward.zero": zero},
            remedies=(
                f"Remove {site.name}: end the network with the linear layer before it.",
                "Or map the targets into its range, and map back at prediction.",
            ),
            explains=self.explains,
        )

    def _before_logits(self, reading: Reading, place: int) -> Finding:
        site = reading.seen.sites[place]
        zero = reading.seen.value("forward.zero", place) or 0.0
        last = reading.last if tuple(reading.last.sites) == tuple(reading.seen.sites) else None
        lost = (last and last.value("forward.dead", place)) or 0.0
        severity = weighed(Severity.WARNING, outcome(reading))
        if lost and severity is Severity.INFO:
            severity = Severity.WARNING  # the other classes learn; these never will
        dying = zero >= self.blocked or lost > 0
        return Finding(
            self.code,
            severity,
            "dead-output" if dying else "output-activation",
            f"{site.name} ({site.kind}) stands between the last layer and "
            f"{reading.seen.fact('loss.kind')}: {zero:.0%} of the logits are 0 and pass no "
            f"gradient{f'; {lost:.0%} are 0 for every sample' if lost else ''}.",
            sites=(site.name,),
            evidence={"activation": site.kind, "forward.zero": zero, "forward.dead": lost},
            remedies=(f"Remove {site.name}: the loss takes logits of either sign.",),
            explains=self.explains,
        )

    def _too_narrow(self, seen: Record, kind: str, place: int) -> Outcome:
        """Logits between -1 and 1: at best the right one is 2 above all others."""
        low, high = fact(seen, "output.min"), fact(seen, "output.max")
        if low is None or high is None:
            return NotApplicable("the range of the logits is not in the record")
        classes = fact(seen, "target.classes") or 2.0
        least, chance = math.log1p((classes - 1) * math.exp(-2)), math.log(max(classes, 2))
        if kind == "bce_logits":
            least, chance = math.log1p(math.exp(-1)), math.log(2)
        site = seen.sites[place]
        gives = site.kind if site.kind in _SHUT else "a product of normalized vectors"
        if max(-low, high) > 1 + 1e-4 or least < self.floor * chance:
            return Passed(f"{gives} leaves {kind} a range to {show(least)}, chance {show(chance)}")
        return Finding(
            self.code,
            Severity.WARNING,
            "output-activation",
            f"The logits are those of {gives} ({site.name}), between -1 and 1: {kind} cannot fall "
            f"below {show(least)}, where chance is {show(chance)}.",
            sites=(site.name,),
            evidence={"least": least, "chance": chance, "output.min": low, "output.max": high},
            remedies=(
                "Multiply the logits by 10 to 30, or by a parameter that starts there."
                if site.kind not in _SHUT
                else f"Remove {site.name}: the loss takes logits of any size.",
            ),
            explains=("IG604",),
        )

    def _squared(self, reading: Reading, place: int) -> Finding:
        seen = reading.seen
        site, path, chance = seen.sites[place], course(reading), uninformed(seen)
        told = ""
        if path and chance and not path.watched and path.steps >= self.steps:
            slow = path.level >= chance
            told = f" In {path.steps} steps the loss has not come below chance." if slow else ""
        flat = seen.value("forward.saturated", place) or 0.0
        severity = Severity.WARNING if told else Severity.INFO
        if flat > self.flat and not told:
            told = f" {flat:.0%} of its outputs start there."
            severity = weighed(Severity.WARNING, outcome(reading))
        return Finding(
            self.code,
            severity,
            "output-activation",
            f"{site.name} (sigmoid) feeds a squared error on {seen.fact('target.kind')} targets: "
            f"where it is sure and wrong, its derivative is near 0 and it does not recover.{told}",
            sites=(site.name,),
            evidence={
                "activation": "sigmoid",
                "loss.input_ops": words(seen.fact("loss.input_ops")),
            },
            remedies=("Use binary_cross_entropy_with_logits on the layer before it.",),
        )

    @staticmethod
    def sick() -> Reading:
        """Negative targets behind a ReLU that stands at zero mostly."""
        return _regression(low=-3.0)

    @staticmethod
    def well() -> Reading:
        """The same with targets it can give."""
        return _regression(low=0.0)


def _enters_as_it_is(seen: Record, place: int) -> bool:
    """Whether nothing scales or shifts the activation's result on its way into the loss.

    Where the loss itself scales what it gets, the numbers of the output are not known; then the
    operation that follows tells it.
    """
    then = words(seen.fact("loss.input_ops"))[1:2]
    if fact(seen, "output.min") is None and then and then[0] in _SCALING:
        return False
    for end in ("min", "max"):
        there, here = seen.value(f"forward.{end}", place), fact(seen, f"output.{end}")
        if there is None or here is None:
            continue
        if not math.isclose(there, here, rel_tol=1e-3, abs_tol=1e-6):
            return False
    return True


def _regression(*, low: float) -> Reading:
    look = chain(
        4,
        series={"forward.zero": 0.6},
        facts={
            "loss.kind": "mse",
            "loss.input_site": 5,
            "target.kind": "real",
            "target.min": low,
            "target.max": 9.0,
        },
    )
    return Reading(look)
