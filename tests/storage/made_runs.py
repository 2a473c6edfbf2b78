"""Records of a run that no network made: every number says where it belongs."""

import math

from isograd.findings import Alarm, Finding, Severity
from isograd.records import Parameter, Record, RunInfo, Site

INFO = RunInfo(
    "night shift", "run.isograd", "2026-11-29T08:00:00+00:00", {"model.name": "Net", "lr": (1, 2)}
)

SITES = (
    Site("a", "linear", "Linear", 1, (2, 7), (), (0, 1)),
    Site("a:relu", "relu", "relu", 1, (2, 7), (0,)),
    Site("b", "linear", "Linear", 2, (2, 3), (1,), (2,)),
)
PARAMETERS = (
    Parameter("a.weight", (7, 5), "linear"),
    Parameter("a.bias", (7,), "bias"),
    Parameter("b.weight", (3, 7), "linear"),
    Parameter("c.weight", (3, 3), "linear", trainable=False),
)


def look(step: int, **facts: object) -> Record:
    """The record of a step; every number is exact in single precision."""
    return Record(
        SITES,
        PARAMETERS,
        {
            "forward.rms": (step + 0.25, step + 0.5, None),
            "forward.dead": (None, step / 1024, None),
            "backward.rms": (2.0**-step, math.inf, math.nan),
            "weight.rms": (1.0, 2.0, 3.0, 4.0),
            "weight.grad_nonfinite": (0.0, 0.0, 0.0, 0.0),
        },
        facts={"model.name": "Net", "optimizer.lr": 0.5, "batch.shape": (2, 5), **facts},
        notes=("loss: chosen",),
        step=step,
    )


def alarm(state: str = "raised", first: int = 3, last: int = 5, code: str = "IG201") -> Alarm:
    finding = Finding(code, Severity.WARNING, "dead-units", "2 of 7 units died.", ("a:relu",))
    return Alarm(finding, state, first, first + 1, last)
