"""A loss scale that falls and falls."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._examples import chain, run
from isograd.rules._numbers import fact, show
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule


@dataclass(frozen=True)
class ScalerCascade(Rule):
    """The GradScaler keeps lowering its scale.

    Sees: the loss scale of float16 training and the number of steps that the scaler has left out,
        at every look of a watched run, once the first steps are over.

    Matters: the scaler halves its scale whenever a gradient overflows, and leaves the step out.
        That happens a few times at the start and then once in thousands of steps. When it happens
        again and again the overflow is not the scale's doing: activations or gradients grow, the
        small gradients underflow as the scale falls, and the steps that are left out are lost.

    Wrong when: it finds its scale at the start, which is allowed for.

    Do: find what overflows (IG401 and IG402 name it) and compute it in float32, or train in
        bfloat16, which needs no scaler; clip the gradient after unscaling it.
    """

    code: ClassVar[str] = "IG403"
    rank: ClassVar[int] = 22
    explains: ClassVar[tuple[str, ...]] = ("IG402", "IG604")

    start: int = 30
    """Steps in which the scaler may look for its scale: from 65,536 it is at 1 after sixteen."""
    fewest: int = 20
    """Steps between looks from which a share of steps left out means something."""
    left_out: float = 0.1
    """Share of steps left out; a scaler that grows every 2,000 steps leaves out 0.0005."""
    low: float = 2.0
    """Scale from which there is nothing left to lower: it has been at this without overflow in no
    healthy training."""
    steps: int = 3
    """Halvings since the largest scale that make a low scale a fall."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges the share of steps left out lately, and the scale."""
        told = [
            (look.step, scale, fact(look, "watch.skipped") or 0.0)
            for look in (reading.seen, *reading.history)
            if (scale := fact(look, "watch.scale")) is not None and scale > 0
        ]
        if not told:
            return NotApplicable("training does not scale its loss")
        step, scale, skipped = told[-1]
        largest = max(size for _, size, _ in told)
        then = next((t for t in reversed(told) if t[0] <= step - self.fewest), None)
        share = 0.0
        if then is not None and then[0] >= self.start:
            share = (skipped - then[2]) / (step - then[0])
        bottom = scale < self.low and largest >= scale * 2.0 ** min(self.steps, _MOST)
        summary = f"the loss scale is {show(scale)}, {skipped:.0f} of {step} steps were left out"
        if share <= self.left_out and not bottom:
            return Passed(summary)
        lately = f", {share:.0%} of the latest" if share else ""
        return Finding(
            self.code,
            Severity.ERROR if bottom else Severity.WARNING,
            "precision",
            f"At step {step} {summary}{lately}; the scale has been {show(largest)}.",
            evidence={"scale": scale, "largest": largest, "skipped": skipped, "share": share},
            remedies=(
                "Train in bfloat16, which has the range of float32, without a GradScaler.",
                "Or compute what overflows in float32, and clip the gradient norm after "
                "scaler.unscale_(optimizer).",
            ),
            explains=self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Half of the steps are left out."""
        return _example(0.5, 64.0)

    @staticmethod
    def well() -> Reading:
        """Three at the start, then none."""
        return _example(0.0, 8192.0)


_MOST = 100
"""Halvings of which a scale has fewer in its range."""


def _example(share: float, scale: float) -> Reading:
    looks = []
    for k in range(8):
        facts = {"watch.scale": max(scale, 65536.0 / 8**k), "watch.skipped": 3 + 20 * k * share}
        looks.append(chain(3, facts=facts, step=20 * k))
    return run(*looks, losses=[2.3] * 160)
