"""The recurrent Jacobian: the same map applied over and over."""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record, Site
from isograd.rules._course import course
from isograd.rules._numbers import fact, show
from isograd.rules._profile import Result, outcome, weighed
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OF_TRAINING, OVER_DEPTH

_GATED = ("LSTM", "GRU")


@dataclass(frozen=True)
class _Loop:
    """One map applied `steps` times."""

    name: str
    gated: bool
    steps: int
    forward: float | None
    """Change of ln rms of the state over all steps, first to last."""
    backward: float | None
    """Change of ln rms of the gradient over all steps, last to first."""

    @property
    def growth(self) -> float:
        """The larger of the two."""
        return max((v for v in (self.forward, self.backward) if v is not None), default=0.0)


@dataclass(frozen=True)
class Recurrence(Rule):
    """State or gradient grows or shrinks with every time step.

    Sees: for recurrent layers, and for modules called many times, by which factor the state grows
        per step, and the gradient per step back in time, and what that comes to over the whole
        sequence.

    Matters: the same Jacobian is applied T times, so a factor of 1.05 per step is 1e6 over 280
        steps. When it explodes, one step of the optimizer destroys the network, and clipping
        the gradient does not help against a state that explodes forward. When it vanishes the
        network remembers only the last few steps.

    Wrong when: the task needs no long memory; a vanishing gradient over time is then harmless,
        and every plain RNN and most gated ones show it. It becomes a warning only where
        a rehearsal does not learn, and in a repair where a copy that remembers longer learns
        twice as much.

    Do: initialize the recurrent weights orthogonally with gain 1, use an LSTM or GRU (forget
        bias 1), cut the sequence (truncated backpropagation), and clip the gradient norm.
    """

    code: ClassVar[str] = "IG504"
    rank: ClassVar[int] = 40
    explains: ClassVar[tuple[str, ...]] = (*OVER_DEPTH, *OF_TRAINING)

    growth: float = 30.0
    """Factor over the whole sequence that is no accident: orthogonal and gated recurrences stay
    below 3 over a hundred steps."""
    explosion: float = 1e3
    """The same from which nothing trains: three decades lie between what the first and the last
    step ask of the learning rate."""
    vanished: float = 1e-6
    """Factor over the whole sequence: what is left is below the rounding error of float32."""
    long: int = 50
    """Steps from which a sequence is long; below, even a plain RNN mostly keeps what it needs."""
    patience: int = 50
    """Steps of a rehearsal that can be blamed for not learning: the last time steps are learned
    first, and that takes some dozens of updates."""
    calls: int = 10
    """Calls of one module from which it counts as a loop: twins and heads are called less."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges the worst loop."""
        seen = reading.seen
        loops = [*_layers(seen), *self._unrolled(seen)]
        if not loops:
            return NotApplicable(
                "no recurrence with a measured change over time (measure() reads recurrent layers "
                "given as modules, and modules called step by step)"
            )
        worst = max(loops, key=lambda loop: loop.growth)
        if worst.growth > math.log(self.growth):
            return self._explodes(worst, outcome(reading))
        short = min(loops, key=lambda loop: loop.backward or 0.0)
        fading = short.backward or 0.0
        tried = course(reading)
        long_enough = tried is not None and tried.steps >= self.patience
        result = outcome(reading) if long_enough else None
        blamed = result in ("flat", "diverges")
        if (short.steps >= self.long or blamed) and fading < math.log(self.vanished):
            return self._vanishes(short, fading, result)
        return Passed(
            f"{worst.name}: state and gradient change by at most {show(_factor(worst.growth))} "
            f"fold over {worst.steps} steps"
        )

    def _unrolled(self, seen: Record) -> list[_Loop]:
        """Modules called one step at a time."""
        calls: defaultdict[str, list[int]] = defaultdict(list)
        for index, site in enumerate(seen.sites):
            if site.kind in ("recurrent", "linear"):
                calls[site.name.split("#")[0]].append(index)
        return [
            _Loop(
                name,
                seen.sites[where[0]].label.upper().startswith(_GATED),
                len(where),
                _change(seen, "forward.rms", where),
                _change(seen, "backward.rms", where[::-1]),
            )
            for name, where in calls.items()
            if len(where) >= self.calls
        ]

    def _explodes(self, loop: _Loop, result: Result | None) -> Finding:
        mild = loop.growth <= math.log(self.explosion)
        ways = [
            f"the {what} grows {show(_factor(total))} fold"
            for what, total in (("state", loop.forward), ("gradient", loop.backward))
            if total is not None and total > math.log(self.growth)
        ]
        return Finding(
            self.code,
            weighed(Severity.WARNING, result) if mild else Severity.ERROR,
            "recurrent-jacobian",
            f"Over the {loop.steps} time steps of {loop.name} {' and '.join(ways)} "
            f"({_factor(loop.growth / loop.steps):.3f} per step).",
            sites=(loop.name,),
            evidence={"steps": loop.steps, "ln_state": loop.forward, "ln_gradient": loop.backward},
            remedies=(
                f"Initialize the hidden-to-hidden weights of {loop.name} orthogonally with gain 1 "
                "(torch.nn.init.orthogonal_).",
                "Use an LSTM or GRU, or feed shorter sequences; clipping the gradient alone does "
                "not keep the state from growing.",
            ),
            explains=self.explains,
        )

    def _vanishes(self, loop: _Loop, fading: float, result: Result | None) -> Finding:
        memory = loop.steps / -fading
        harm = result in ("flat", "diverges") and not loop.gated
        return Finding(
            self.code,
            Severity.WARNING if harm else Severity.INFO,
            "recurrent-jacobian",
            f"The gradient shrinks to {show(_factor(fading))} over the {loop.steps} "
            f"time steps of {loop.name}: it remembers about {memory:.1f} steps"
            + (", and the rehearsal does not learn." if harm else "."),
            sites=(loop.name,),
            evidence={"steps": loop.steps, "ln_gradient": fading, "memory": memory},
            remedies=(
                "If the task needs a longer memory: use an LSTM or GRU with a forget bias of 1, or "
                f"initialize {loop.name} orthogonally, or give the early steps a shorter way "
                "(attention, pooling over time).",
            ),
        )

    @staticmethod
    def sick() -> Reading:
        """A ReLU network over 280 steps whose state grows by 5 % each."""
        return Reading(recurrent(growth=0.05, decay=0.04))

    @staticmethod
    def well() -> Reading:
        """The same with orthogonal weights."""
        return Reading(recurrent(growth=0.001, decay=-0.01))


def _layers(seen: Record) -> list[_Loop]:
    """Layers that run over the whole sequence in one call."""
    found = []
    for index, site in enumerate(seen.sites):
        if site.kind != "recurrent" or len(site.shape) < 2:
            continue
        first = len(site.shape) > 2 and site.shape[0] == fact(seen, "batch.size")
        steps = site.shape[1] if first else site.shape[0]
        rates = [seen.value(key, index) for key in ("forward.time_growth", "backward.time_decay")]
        totals = [r * steps if r is not None and math.isfinite(r) else None for r in rates]
        if any(total is not None for total in totals):
            gated = any(word in site.label.upper() for word in _GATED)
            found.append(_Loop(site.name, gated, steps, *totals))
    return found


def _factor(log: float) -> float:
    """The factor with this logarithm, kept within the range of float64."""
    return math.exp(max(-700.0, min(700.0, log)))


def _change(seen: Record, key: str, order: list[int]) -> float | None:
    """Change of ln of a column from the first site to the last."""
    column = dict(seen.pairs(key))
    first, last = column.get(order[0], 0.0), column.get(order[-1], 0.0)
    return math.log(last / first) if first > 0 and last > 0 else None


def recurrent(*, growth: float, decay: float, steps: int = 280, label: str = "RNN") -> Record:
    """A record of one recurrent layer and a head."""
    sites = (
        Site("rnn", "recurrent", label, 1, (32, steps, 41)),
        Site("head", "linear", "Linear", 2, (32, 10), (0,)),
    )
    series = {"forward.time_growth": (growth, None), "backward.time_decay": (decay, None)}
    return Record(sites, series=series, facts={"batch.size": 32})
