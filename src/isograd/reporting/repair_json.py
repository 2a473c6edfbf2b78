"""The JSON form of a repair: all of it but the network itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isograd.reporting._summary import version
from isograd.storage import SCHEMA, dumps, free, to_plain

if TYPE_CHECKING:
    from isograd.repairs.result import Repair, Trial


def tell(repair: Repair) -> str:
    """Everything that was found, tried and changed, as strict JSON on one line."""
    comparison = repair.comparison
    told = {
        "schema": SCHEMA,
        "tool": {"name": "isograd", "version": version()},
        "verdict": repair.verdict,
        "learned": repair.learned,
        "reason": repair.reason,
        "remedies": list(repair.remedies),
        "effects": list(repair.effects),
        "code": repair.code,
        "measure": repair.measure,
        "comparison": comparison
        and {
            "before": list(comparison.before),
            "after": list(comparison.after),
            "gain": comparison.gain,
            "spread": comparison.spread,
            "p": comparison.p,
            "better": comparison.better,
        },
        "trials": [_trial(one) for one in repair.trials],
        "skipped": [{"remedy": one.remedy, "reason": one.reason} for one in repair.skipped],
        "notes": list(repair.notes),
        "cost": {"steps": repair.cost.steps, "seconds": repair.cost.seconds},
    }
    plain: dict[str, Any] = free(told, "repair")
    plain["before"] = to_plain(repair.before)
    plain["after"] = None if repair.after is None else to_plain(repair.after)
    return dumps(plain)


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "treatment": trial.treatment,
        "losses": [list(curve) for curve in trial.losses],
        "scores": list(trial.scores),
        "broke": list(trial.broke),
    }
