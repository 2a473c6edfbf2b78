"""Evaluation mode that was left on."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._examples import chain, run
from isograd.rules._numbers import counted, fact
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule


@dataclass(frozen=True)
class ModeLeft(Rule):
    """The model is trained in evaluation mode.

    Sees: at every look of a watched run, how many of the modules that act otherwise in evaluation
        mode (dropout, batch norms) are in it while the model trains.

    Matters: after `model.eval()` for a validation, dropout does nothing and batch norms no longer
        follow the data until `model.train()` is called. Training goes on without the regularization
        that was chosen and with statistics that grow old, and nothing fails.

    Wrong when: it is meant, as in fine-tuning with all batch norms frozen; a run that is in
        evaluation mode from its first step is only remarked on.

    Do: call `model.train()` after every validation, at the top of the training loop.
    """

    code: ClassVar[str] = "IG505"
    rank: ClassVar[int] = 40

    looks: int = 2
    """Latest looks that must all be in evaluation mode."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the mode of the latest steps with that of the first."""
        known = [
            (look.step, share)
            for look in (reading.seen, *reading.history)
            if (share := fact(look, "model.in_eval")) is not None
        ]
        if len(known) < self.looks:
            return NotApplicable(
                f"the mode of dropout and batch norms is known of {counted(len(known), 'step')}, "
                f"{self.looks} are needed (isograd.watch, of a model that has some)"
            )
        if any(share < 1 for _, share in known[-self.looks :]):
            return Passed(f"{100 * (1 - known[-1][1]):.0f} % of dropout and batch norms are on")
        last_on = max((k for k, (_, share) in enumerate(known) if share < 1), default=None)
        since = known[0][0] if last_on is None else known[last_on + 1][0]
        when = "from the first step on" if last_on is None else f"at step {since} at the latest"
        return Finding(
            self.code,
            Severity.INFO if last_on is None else Severity.WARNING,
            "norm-mode",
            f"The model trains in evaluation mode {when}: dropout does nothing, and batch "
            "norms do not follow the data.",
            evidence={"since": since},
            remedies=("Call model.train() after every validation, before the next step.",),
        )

    @staticmethod
    def sick() -> Reading:
        """In evaluation mode since the second look."""
        return _example(1.0)

    @staticmethod
    def well() -> Reading:
        """In training mode throughout."""
        return _example(0.0)


def _example(share: float) -> Reading:
    looks = [chain(3, facts={"model.in_eval": share}, step=step) for step in (10, 20, 30)]
    return run(chain(3, facts={"model.in_eval": 0.0}), *looks, losses=[1.0] * 31)
