"""Dropout that leaves next to nothing."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._examples import chain
from isograd.rules._numbers import fact, words
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule


@dataclass(frozen=True)
class DroppedUnits(Rule):
    """Dropout sets nearly all entries to zero.

    Sees: the largest probability of the dropout modules that are in training mode.

    Matters: what is kept of x is multiplied by 1/(1-p), so that its energy becomes x^2/(1-p) on
        average: x^2 of signal, and p/(1-p) times as much noise, which is 1 at p = 0.5 and 19 at
        p = 0.95. Layers multiply it. Every step moves a few weights by a gradient that is mostly
        the noise of its mask, and what is learned shows in evaluation mode only.

    Wrong when: an input of many thousand redundant entries is thinned, as in a denoising
        autoencoder.

    Do: use 0.5 at most for hidden units, 0.1 to 0.2 in small networks and for inputs. If the
        probability of keeping was meant, hand in one minus it.
    """

    code: ClassVar[str] = "IG211"
    rank: ClassVar[int] = 40

    most: float = 0.9
    """Above this there is more than nine times as much noise as signal; recipes drop half."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges every dropout by its probability."""
        p, names = fact(reading.seen, "model.dropout"), words(reading.seen.fact("model.dropout_at"))
        if not p:
            return NotApplicable("no dropout module is in training mode")
        if p <= self.most:
            return Passed(f"no dropout sets more than {p:.0%} to zero")
        noise = f"{p / (1 - p):.0f} times as much noise as signal" if p < 1 else "no signal at all"
        return Finding(
            self.code,
            Severity.WARNING,
            "dropout-too-high",
            f"{', '.join(names[:3])}: dropout sets {p:.3g} of all entries to zero and lets "
            f"through {noise}.",
            sites=tuple(site.name for site in reading.seen.sites if site.name in names),
            evidence={"dropout": p},
            remedies=(
                "Set the probability to 0.5 or less; if the share that is kept was meant, to "
                f"{1 - p:.3g}.",
            ),
        )

    @staticmethod
    def sick() -> Reading:
        """Nineteen of twenty."""
        return Reading(chain(2, facts={"model.dropout": 0.95, "model.dropout_at": ["drop"]}))

    @staticmethod
    def well() -> Reading:
        """Half."""
        return Reading(chain(2, facts={"model.dropout": 0.5, "model.dropout_at": ["drop"]}))
