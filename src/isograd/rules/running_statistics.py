"""Training mode and evaluation mode of batch norms."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._examples import chain, with_history
from isograd.rules._numbers import fact, show
from isograd.rules._profile import outcome
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._watched import latest_with


@dataclass(frozen=True)
class RunningStatistics(Rule):
    """Batch norms compute something else in evaluation mode.

    Sees: the difference between the outputs in train mode and in eval mode, and how much of the
        running statistics is still their initial value: (1 - momentum) ** batches.

    Matters: eval mode normalizes by the running statistics. Where these have not arrived at
        those of the data, every layer is shifted and scaled wrongly, and a network that trains
        well predicts badly. The loss of the training never shows it.

    Wrong when: training has only just begun: at the usual momentum of 0.1, thirty batches are
        needed; twelve where the momentum is so small that as many leave the initial numbers
        in use. Statistics that have arrived lag while a rehearsal moves the weights fast; as long
        as it learns that is information. Dropout makes the two modes differ as well, and is then
        named.

    Do: raise the momentum of the batch norms to 0.1, or recalibrate them by running some hundred
        batches in train mode without updates. If they have arrived and still differ, the batch
        is too small or the training data are not like these: use GroupNorm.
    """

    code: ClassVar[str] = "IG502"
    rank: ClassVar[int] = 40

    batches: int = 30
    """Batches seen before one can judge: at the usual momentum 0.1, 4 % of the start are left."""
    soonest: int = 12
    """The same where the momentum says that the initial numbers will still be in use by then. On
    three networks with momenta of 0.001 to 0.009, two seeds each, the difference after 12 batches
    was 0.49 to 1.6, after 32 it was 0.34 to 1.9."""
    initial: float = 0.75
    """Share of the initial statistics left; above, eval mode computes with the initial numbers
    rather than with those of the data, and will for as long again."""
    gap: float = 0.3
    """Difference of the outputs over their rms while the initial numbers are in use: it grows as
    training goes on. A network at 0.49 after 32 batches ended at eight times the loss."""
    apart: float = 1.0
    """The same for statistics that have arrived, which lag while the weights move fast: only
    a difference as large as the output itself is no lag."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges the latest look."""
        last = latest_with(reading, "norm.eval_gap")
        gap = fact(last, "norm.eval_gap")
        if gap is None:
            return NotApplicable(
                "train and eval mode were not compared (measure() does so for models with batch "
                "norm, isograd.watch after 32 steps)"
            )
        tracked = fact(last, "norm.tracked")
        tracked = float(last.step) if tracked is None else tracked
        late = _left(last, max(tracked, self.batches)) > self.initial
        needed = self.soonest if late else self.batches
        if tracked < needed:
            return NotApplicable(
                f"running statistics have seen {tracked:.0f} batches, {needed} are needed; "
                "rehearse (optimizer=, steps=) or measure a trained model"
            )
        left = _left(last, tracked)
        allowed = self.gap if left > self.initial else self.apart
        if gap <= allowed:
            return Passed(f"eval mode differs from train mode by {gap:.0%} of the output")
        lags = left <= self.initial and outcome(reading) == "trains"
        return self._finding(last, gap, tracked, left, lags=lags)

    def _finding(
        self, last: Record, gap: float, tracked: float, left: float, *, lags: bool
    ) -> Finding:
        momentum = fact(last, "norm.momentum")
        stale = left > self.initial
        live = last.fact("watch.losses") is not None or "gradient.carried" in last.facts
        whose = "the outputs of a typical batch norm" if live else "the outputs"
        drops = not live and any(site.kind == "dropout" for site in last.sites)
        names = tuple(site.name for site in last.sites if site.kind == "batch_norm")
        reason = (
            f"with momentum {show(momentum or 0)}, {left:.0%} of the running statistics "
            "are still the initial ones"
            if stale
            else "the running statistics have arrived, but at other values than this batch has"
        )
        return Finding(
            self.code,
            Severity.INFO if lags or (drops and not stale) else Severity.WARNING,
            "norm-mode",
            f"After {tracked:.0f} batches {whose} in eval mode differ from those in train mode "
            f"by {gap:.0%} of their rms: {reason}."
            + (" Dropout has a part in it." if drops else ""),
            sites=names,
            evidence={"norm.eval_gap": gap, "norm.tracked": tracked, "initial_share": left},
            remedies=(
                f"Raise the momentum of the batch norms from {show(momentum or 0)} to 0.1.",
                "Recalibrate before evaluation: some hundred batches in train mode, no updates.",
            )
            if stale
            else (
                "Use larger batches, or GroupNorm, which is the same in both modes.",
                "Compare how training and evaluation data are prepared.",
            ),
        )

    @staticmethod
    def sick() -> Reading:
        """Momentum 0.001, sixty steps."""
        return _rehearsed(momentum=0.001, gap=1.4)

    @staticmethod
    def well() -> Reading:
        """Momentum 0.1, sixty steps."""
        return _rehearsed(momentum=0.1, gap=0.1)


def _left(record: Record, tracked: float) -> float:
    """Share of the initial statistics left; without a momentum they are a plain average."""
    momentum = fact(record, "norm.momentum")
    if momentum is None or not 0 <= momentum <= 1:
        return 0.0
    return float((1 - momentum) ** tracked)


def _rehearsed(*, momentum: float, gap: float) -> Reading:
    facts = {"norm.momentum": momentum, "norm.tracked": 60, "norm.eval_gap": gap}
    look = chain(3, facts=facts, step=60)
    return with_history(chain(3), look, losses=[2.3, 1.1, 0.4])
