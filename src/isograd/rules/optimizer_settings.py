"""Settings of the optimizer that cannot work."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._examples import reading
from isograd.rules._numbers import fact, finite, show
from isograd.rules._profile import outcome
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OF_TRAINING, OVER_DEPTH
from isograd.sites.rates import bold_rate

Fault = tuple[Severity, str, str, dict[str, Any]]
"""How bad, what is wrong, what to do, and the same as settings."""

_ERRORS = ("cross_entropy", "nll", "bce", "bce_logits", "mse", "l1", "kl")
_USUAL_DECAY = 0.01
"""AdamW's default; the most that is told to be used."""
_LIGHT = 0.001
"""Part of every weight that one step with the decay that is told takes away, at most."""


@dataclass(frozen=True)
class OptimizerSettings(Rule):
    """A setting of the optimizer makes no sense.

    Sees: learning rate, direction, momentum, betas, eps and weight decay; for eps the size of the
        gradients it is added to, and for the penalty of an adaptive optimizer that of those it
        joins.

    Matters: an error that is maximized grows; momentum of one never forgets a step; betas in the
        wrong order divide new gradients by old sizes; an eps above the gradients turns Adam into
        SGD with another learning rate; weight decay of a percent a step erases what was learned,
        and Adam, which divides by the size of what it follows, shrinks all weights alike where the
        penalty is the larger part.

    Wrong when: a schedule changes the settings later on; what is judged is what the optimizer
        holds now. A learning rate of zero at the start of a warm-up is not reported.

    Do: go back to the default that is named.
    """

    code: ClassVar[str] = "IG306"
    rank: ClassVar[int] = 51
    explains: ClassVar[tuple[str, ...]] = (*OVER_DEPTH, *OF_TRAINING, "IG610")

    long_momentum: float = 0.99
    """Above this more than a hundred steps add up, and the effective learning rate is a hundred
    times the one that is set; at it, where that makes the rate unusually high (above 2)."""
    large_eps: float = 1e-5
    """Larger than any default; below it a large ratio to the gradients is the gradients' fault."""
    eps_ratio: float = 10.0
    """eps over the typical gradient from which the division by the gradient's size is gone."""
    decay: float = 0.01
    """Part of every weight that one step takes away: half of it is gone after seventy steps."""
    large_penalty: float = 0.1
    """Larger than what anybody gives Adam; below it a small gradient is the gradient's fault."""
    penalty_ratio: float = 10.0
    """The penalty's gradient over that of the loss, where this is largest, from which the penalty
    alone says where the steps go."""
    penalty_stands: float = 1.0
    """The same for the median of the weights of a network that does not learn in a rehearsal: of
    what is added up the larger leads."""

    def judge(self, reading: Reading) -> Outcome:
        """Goes through the settings; the worst is reported, with the others in the evidence."""
        seen = reading.seen
        if seen.fact("optimizer.lr") is None and seen.fact("optimizer.name") is None:
            return NotApplicable("no optimizer was given")
        faults = [
            fault
            for fault in (
                self._rate(seen),
                self._momentum(seen),
                self._betas(seen),
                self._eps(seen),
                self._decay(reading),
            )
            if fault is not None
        ]
        if not faults:
            return Passed(f"{seen.fact('optimizer.name') or 'the optimizer'}: 0 odd settings")
        severity, what, remedy, _ = max(faults, key=lambda fault: fault[0].weight)
        return Finding(
            self.code,
            severity,
            "optimizer-hyperparameter",
            what,
            evidence={
                "faults": [text for _, text, _, _ in faults],
                "settings": {k: v for *_, new in faults for k, v in new.items()},
            },
            remedies=(remedy, *(r for _, _, r, _ in faults if r != remedy)),
            explains=self.explains,
        )

    def _rate(self, record: Record) -> Fault | None:
        rate, maximize = fact(record, "optimizer.lr"), record.fact("optimizer.maximize")
        if maximize:
            return None if rate is not None and rate < 0 else self._direction(record)
        if rate is None or rate >= 0:
            return None
        return (
            Severity.ERROR,
            f"The learning rate is {show(rate)}: every step climbs.",
            "Use a positive learning rate.",
            {"lr": -rate},
        )

    def _direction(self, record: Record) -> Fault | None:
        """Of an optimizer that maximizes; what a loss of one's own is, nobody else knows."""
        kind, value = record.fact("loss.kind"), fact(record, "loss.value")
        if kind not in _ERRORS or value is None or value <= 0:
            return None
        return (
            Severity.ERROR,
            f"maximize=True: every step makes the {kind} loss of {show(value)} larger.",
            "Leave out maximize=True, or turn the sign of the loss.",
            {"maximize": False},
        )

    def _momentum(self, record: Record) -> Fault | None:
        momentum = fact(record, "optimizer.momentum")
        if momentum is None or momentum < self.long_momentum:
            return None
        if momentum == self.long_momentum and bold_rate(record) is None:
            return None
        if momentum >= 1:
            return (
                Severity.ERROR,
                f"Momentum is {show(momentum)}: past steps never fade, they add up for ever.",
                "Set momentum=0.9.",
                {"momentum": 0.9},
            )
        steps, rate = 1 / (1 - momentum), fact(record, "optimizer.lr")
        like = f", a learning rate of {show(rate)} acts like {show(rate * steps)}" if rate else ""
        return (
            Severity.WARNING,
            f"Momentum is {momentum:.6g}: about {show(steps)} steps add up{like}.",
            "Set momentum=0.9, or divide the learning rate by as much.",
            {"momentum": 0.9},
        )

    def _betas(self, record: Record) -> Fault | None:
        betas = record.fact("optimizer.betas")
        if not isinstance(betas, (list, tuple)) or len(betas) != 2:
            return None
        first, second = finite(betas[0]), finite(betas[1])
        if first is None or second is None:
            return None
        if max(first, second) >= 1:
            text = (
                f"Betas are ({first:.6g}, {second:.6g}): an average that never takes in a gradient."
            )
            return Severity.ERROR, text, "Set betas=(0.9, 0.999).", {"betas": [0.9, 0.999]}
        if second >= first**2:  # the condition under which Adam's step stays bounded (Kingma 2015)
            return None
        text = (
            f"Betas are ({first:.6g}, {second:.6g}): gradients are divided by a size that forgets "
            "faster than their average, so that steps have no bound."
        )
        return Severity.WARNING, text, "Set betas=(0.9, 0.999).", {"betas": [0.9, 0.999]}

    def _eps(self, record: Record) -> Fault | None:
        eps = fact(record, "optimizer.eps")
        sizes = [size for _, size in record.pairs("weight.grad_rms") if size > 0]
        if (
            eps is None
            or eps <= self.large_eps
            or not sizes
            or not record.fact("optimizer.adaptive")
        ):
            return None
        typical = median(sizes)
        if eps <= self.eps_ratio * typical:
            return None
        text = (
            f"eps is {show(eps)}, {show(eps / typical)} times a typical gradient entry "
            f"({show(typical)}): the optimizer no longer adapts."
        )
        return Severity.WARNING, text, "Set eps=1e-8.", {"eps": 1e-8}

    def _decay(self, reading: Reading) -> Fault | None:
        record = reading.seen
        rate, decay = fact(record, "optimizer.lr"), fact(record, "optimizer.weight_decay")
        momentum = fact(record, "optimizer.momentum") or 0.0
        if rate is None or decay is None or not 0 <= momentum < 1:
            return None
        if record.fact("optimizer.penalty"):
            flat = outcome(reading) == "flat"
            ratio = self._penalty(record, decay, median if flat else min)
            limit = self.penalty_stands if flat else self.penalty_ratio
            if decay < self.large_penalty or ratio is None or ratio <= limit:
                return None
            text = (
                f"The gradient of the penalty, weight_decay {show(decay)} times the weights, is "
                f"{show(ratio)} times that of the loss: every step shrinks the weights."
            )
            new = f"Use AdamW with weight_decay={show(_USUAL_DECAY)}."
            return Severity.WARNING, text, new, {"weight_decay": _USUAL_DECAY}
        # What is decayed goes through the momentum as the gradient does.
        taken = rate * decay / (1 - momentum)
        if taken <= self.decay:
            return None
        by = f" and momentum {show(momentum)}" if momentum else ""
        text = (
            f"Weight decay {show(decay)} at learning rate {show(rate)}{by} takes "
            f"{show(100 * taken)} % of every weight away at every step."
        )
        light = float(f"{min(_USUAL_DECAY, decay * _LIGHT / taken):.2g}")
        told = f"Lower weight_decay to {show(light)} or less."
        return Severity.WARNING, text, told, {"weight_decay": light}

    def _penalty(
        self, record: Record, decay: float, of: Callable[[list[float]], float]
    ) -> float | None:
        """Penalty over gradient: of all weights one, such as where it is least."""
        sizes = dict(record.pairs("weight.rms"))
        ratios = [
            decay * sizes[i] / gradient
            for i, gradient in record.pairs("weight.grad_rms")
            if gradient > 0 and sizes.get(i) and record.parameters[i].is_weight
        ]
        return of(ratios) if ratios else None

    @staticmethod
    def sick() -> Reading:
        """Momentum of one."""
        return _example(1.0)

    @staticmethod
    def well() -> Reading:
        """The usual momentum."""
        return _example(0.9)


def _example(momentum: float) -> Reading:
    facts = {"optimizer.name": "SGD", "optimizer.lr": 0.01, "optimizer.momentum": momentum}
    return reading(3, facts=facts)
