"""Codes of variational autoencoders that cost more than they can tell."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._examples import chain
from isograd.rules._numbers import fact, show
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule


@dataclass(frozen=True)
class CollapsedCode(Rule):
    """A code costs more than it can tell.

    Sees: mean and log-variance of a Gaussian code among the outputs, the weight that the loss gives
        their divergence from N(0, 1), and what the loss could gain, to second order, along the
        direction in which the targets differ most.

    Matters: above that weight the best answer does not depend on the input: the divergence goes to
        zero, all reconstructions become the mean, and the loss looks calm. It happens where the
        squares are averaged over the entries of a sample, and the divergence is not.

    Wrong when: the weight rises later on purpose, or falls (annealing); or a strongly nonlinear
        decoder finds an answer that no small step leads to.

    Do: sum the error of the reconstruction over the entries of a sample, or lower the weight of the
        divergence.
    """

    code: ClassVar[str] = "IG612"
    rank: ClassVar[int] = 0
    explains: ClassVar[tuple[str, ...]] = ("IG604",)

    room: float = 1.0
    """Weight over what is to be gained, from which a constant answer is the best."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the two."""
        seen = reading.seen
        weight, reach = fact(seen, "loss.code_weight"), fact(seen, "loss.code_reach")
        if weight is None or reach is None or weight <= 0:
            return NotApplicable(
                "no Gaussian code was found among the outputs (mean, log-variance, and a loss that "
                "adds their divergence)"
            )
        if weight < self.room * reach:
            return Passed(f"the divergence weighs {show(weight)}, and {show(reach)} is its limit")
        return Finding(
            self.code,
            Severity.WARNING,
            "loss-mismatch",
            f"The divergence of the code weighs {show(weight)} a sample, and no direction of the "
            f"targets is worth more than {show(reach)}: a constant answer is the best.",
            evidence={"loss.code_weight": weight, "loss.code_reach": reach},
            remedies=(
                "Sum the error of the reconstruction over the entries of a sample, as the "
                f"divergence is, or multiply the divergence by {show(0.1 * reach / weight)} or so.",
            ),
            explains=self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Squares averaged over the entries."""
        return Reading(chain(2, facts={"loss.code_weight": 0.0156, "loss.code_reach": 0.0009}))

    @staticmethod
    def well() -> Reading:
        """Summed."""
        return Reading(chain(2, facts={"loss.code_weight": 0.0156, "loss.code_reach": 0.057}))
