"""What every form of a repair says in words."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from isograd.findings import Finding, Severity
from isograd.reporting._numbers import counted, short

if TYPE_CHECKING:
    from isograd.repairs.result import Repair, Trial

SIGNS = {"healthy": "✓", "repaired": "✓", "improved": "!", "nothing-helps": "✗", "no-remedy": "✗"}
HEADLINES = {
    "healthy": "healthy: leave it as it is",
    "repaired": "repaired",
    "improved": "better, but not repaired",
    "nothing-helps": "nothing helps",
    "no-remedy": "nothing to try",
}


UNKNOWN = "nothing found, but it did not learn"
"""Where no finding asks for a change, and no copy learned: that is not called healthy."""


def sign(repair: Repair) -> str:
    """The sign in front of the headline."""
    return "?" if repair.learned is False else SIGNS[repair.verdict]


def level(repair: Repair) -> str:
    """Healthy, warning or error: what color it has."""
    if repair.verdict == "improved" or repair.learned is False:
        return "warning"
    return "healthy" if repair.verdict in ("healthy", "repaired") else "error"


def steps(repair: Repair) -> int:
    """Steps of the longest run of the proof."""
    return max((len(curve) for trial in repair.trials for curve in trial.losses), default=0)


def headline(repair: Repair) -> str:
    """`repaired: init-gain`, `nothing helps`."""
    words = UNKNOWN if repair.learned is False else HEADLINES[repair.verdict]
    return f"{words}: {' + '.join(repair.remedies)}" if repair.remedies else words


def left(repair: Repair) -> tuple[Finding, ...]:
    """Errors and warnings after the change, whose advice is the user's to follow."""
    found = () if repair.after is None else repair.after.findings
    return tuple(f for f in found if f.severity is not Severity.INFO)


def not_kept(repair: Repair) -> dict[str, str]:
    """Names of the remedies that were not kept, and why: those for one reason together."""
    together: dict[str, list[str]] = {}
    for one in repair.skipped:
        together.setdefault(one.reason, []).append(one.remedy)
    return {", ".join(names): reason for reason, names in together.items()}


def cost(repair: Repair) -> str:
    """`300 steps of training in 2.1 s`."""
    return f"{counted(repair.cost.steps, 'step')} of training, {repair.cost.seconds:.2g} s in all"


def seeds(trial: Trial) -> str:
    """`1.31 ± 0.12 over 3 seeds`, and how many broke."""
    whole = [score for score in trial.scores if math.isfinite(score)]
    broke = f", {len(trial.scores) - len(whole)} broke" if len(whole) < len(trial.scores) else ""
    if not whole:
        return f"all {len(trial.scores)} runs broke"
    spread = f" ± {short(statistics.stdev(whole))}" if len(whole) > 1 else ""
    return f"{short(statistics.fmean(whole))}{spread} over {counted(len(whole), 'seed')}{broke}"


def judgement(repair: Repair) -> str:
    """`a difference of 0.9, p = 0.002 (one-sided …)`, and before it why it does not count."""
    found = repair.comparison
    if found is None:
        return ""
    test = " (one-sided, paired by seed)" if found.sure.startswith("p") else ""
    words = f"a difference of {short(found.gain)}, {found.sure}{test}"
    return words if found.better else f"{found.told}: {words}"
