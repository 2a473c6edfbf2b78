"""What the rules said: findings, one verdict per rule, and the diagnosis that orders them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from isograd.records import Reading


class Severity(Enum):
    """How bad a finding is."""

    ERROR = "error"
    """The network will not train, or trains on something else than intended."""
    WARNING = "warning"
    """Training is likely to be slow, unstable or worse than it need be."""
    INFO = "info"
    """Worth knowing; nothing has to change."""

    @property
    def weight(self) -> int:
        """3 for an error, 2 for a warning, 1 for information."""
        return {"error": 3, "warning": 2, "info": 1}[self.value]

    def reaches(self, threshold: "Severity | None") -> bool:
        """Whether this is at or above a threshold; `None` is never reached."""
        return threshold is not None and self.weight >= threshold.weight


CAUSES = (
    "init-too-small",
    "init-too-large",
    "init-constant",
    "gain-mismatch",
    "saturating-activation",
    "exploding-activation",
    "dead-units",
    "dead-output",
    "narrow-layer",
    "missing-normalization",
    "missing-residual",
    "unscaled-residual",
    "lr-too-high",
    "lr-too-low",
    "input-not-normalized",
    "target-not-normalized",
    "loss-mismatch",
    "output-activation",
    "shape-broadcast",
    "graph-cut",
    "local-nan",
    "recurrent-jacobian",
    "norm-mode",
    "norm-placement",
    "precision",
    "gradient-sign",
    "frozen-parameters",
    "optimizer-hyperparameter",
    "data-bug",
    "stale-gradient",
    "other-than-predicted",
    "shared-initialization",
    "scripted-module",
    "dropout-too-high",
)
"""Every cause a finding may name: what to fix, in one or two words."""


@dataclass(frozen=True)
class Finding:
    """Something a rule saw that deserves a look."""

    code: str
    severity: Severity
    cause: str
    message: str
    """What is wrong, with the numbers, in one or two sentences."""
    sites: tuple[str, ...] = ()
    """Names of the sites or parameters concerned, worst first."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """The numbers and words the judgement rests on."""
    remedies: tuple[str, ...] = ()
    """What to change, best first, each a sentence in the words of the user's model."""
    explains: tuple[str, ...] = ()
    """Codes of findings that follow from this one."""
    symptoms: tuple["Finding", ...] = ()
    """Findings that were folded into this one."""

    def __post_init__(self) -> None:
        if self.cause not in CAUSES:
            raise ValueError(f"{self.code}: {self.cause!r} is no cause; causes: {CAUSES}")

    def with_severity(self, severity: Severity) -> "Finding":
        """The same finding at another severity."""
        return replace(self, severity=severity)


@dataclass(frozen=True)
class Verdict:
    """What one rule concluded; every rule gets exactly one."""

    code: str
    state: str
    """finding, passed, not-applicable, ignored (not selected) or failed (the rule itself broke)."""
    reason: str
    """One sentence; for a finding its message."""


@dataclass(frozen=True)
class Alarm:
    """A finding of a watched run over time: raised once, and withdrawn when it has healed."""

    finding: Finding
    """As it was at its worst."""
    state: str
    """raised or withdrawn."""
    first_step: int
    """Step at which it was seen first."""
    worst_step: int
    """Step at which it was most severe; of equals the first."""
    last_step: int
    """Step at which it was seen last."""


@dataclass(frozen=True)
class Diagnosis:
    """All findings, causes before symptoms, with one verdict per rule and the numbers behind."""

    findings: tuple[Finding, ...]
    verdicts: tuple[Verdict, ...]
    reading: Reading

    @property
    def healthy(self) -> bool:
        """Whether nothing of severity warning or above was found."""
        return not any(f.severity.reaches(Severity.WARNING) for f in self.findings)

    @property
    def severity(self) -> Severity | None:
        """The highest severity found; `None` without findings."""
        return max((f.severity for f in self.findings), key=lambda s: s.weight, default=None)

    def __str__(self) -> str:
        from isograd.reporting import render  # late: what shows itself knows how it is shown

        return render(self, "text")

    def _repr_html_(self) -> str:
        from isograd.reporting import render

        return render(self, "html-fragment")
