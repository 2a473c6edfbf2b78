"""What the probe could not measure."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._examples import chain
from isograd.rules._numbers import fact
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule


@dataclass(frozen=True)
class Coverage(Rule):
    """Part of the network was not measured.

    Sees: for how many of the sites there is no gradient, what the probe wrote down about passes
        that it could not run, and how much of the model torch.jit has compiled, where nobody can
        look.

    Matters: rules that miss their numbers are silent, and silence is easily read as health.

    Wrong when: the part is frozen or unused on purpose.

    Do: hand in targets and a loss; let the parameters ask for a gradient; check the modules before
        they are compiled; read the notes.
    """

    code: ClassVar[str] = "IG901"
    rank: ClassVar[int] = 70

    missing: float = 0.5
    """Share of the sites without a gradient, or of the parameters out of sight; where most of a
    network is unseen, what the other rules passed says little."""

    def judge(self, reading: Reading) -> Outcome:
        """Counts the sites with backward numbers."""
        seen = reading.seen
        if not seen.sites:
            return NotApplicable("the record has no sites; measure() makes one that does")
        if seen.source != "measured":
            return NotApplicable(f"the record was {seen.source}, not measured")
        hidden, number = (fact(seen, f"model.{key}") or 0 for key in ("scripted", "parameters"))
        if hidden > self.missing * number:
            return self._hidden(int(hidden), int(number))
        column = seen.series.get("backward.rms", ())
        unseen = len(seen.sites) - sum(value is not None for value in column)
        share = unseen / len(seen.sites)
        if share <= self.missing:
            return Passed(f"{len(seen.sites) - unseen} of {len(seen.sites)} sites have a gradient")
        return self._finding(seen, unseen)

    def _hidden(self, hidden: int, number: int) -> Finding:
        return Finding(
            self.code,
            Severity.INFO,
            "scripted-module",
            f"{'All' if hidden == number else f'{hidden} of'} {number} parameters are in modules "
            "compiled by torch.jit, so the rules about layers could not look.",
            evidence={"hidden": hidden},
            remedies=("Check the modules as they were before torch.jit.script or trace.",),
        )

    def _finding(self, seen: Record, unseen: int) -> Finding:
        frozen = fact(seen, "model.trainable") == 0 or bool(seen.fact("model.frozen"))
        reasons = [note for note in seen.notes if note.startswith("backward")]
        notes = f" The probe notes: {'; '.join(reasons)}." if reasons else ""
        return Finding(
            self.code,
            Severity.INFO,
            "frozen-parameters" if frozen else "graph-cut",
            f"{unseen} of {len(seen.sites)} sites have no gradient, so the rules about it could "
            f"not look.{notes}",
            sites=tuple(
                site.name
                for index, site in enumerate(seen.sites)
                if seen.value("backward.rms", index) is None
            ),
            evidence={"unseen": unseen, "notes": list(seen.notes)},
            remedies=(
                "Let the parameters ask for a gradient (requires_grad_(True)) before the check."
                if frozen
                else "Hand in targets and a loss that depends on the outputs, outside of no_grad.",
            ),
        )

    @staticmethod
    def sick() -> Reading:
        """No gradient anywhere."""
        return Reading(chain(3))

    @staticmethod
    def well() -> Reading:
        """A gradient everywhere."""
        return Reading(chain(3, series={"backward.rms": 1e-3}))
