"""optimizer-lr: the learning rate that curvature and weights ask for."""

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import ClassVar

import torch
from torch import nn

from isograd.remedies._code import number
from isograd.remedies._examples import classes, example, plain
from isograd.remedies._optimizers import Scaled, factory_of, with_rate
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class OptimizerLr(Remedy):
    """Set the learning rate by the curvature and by the size of the steps.

    Does: multiplies the learning rate so that a typical weight moves by `step` of its size at the
        first step (of RMSprop, whose first is 1/sqrt(1 - alpha) times as large, at those that
        follow); for optimizers whose steps follow the gradient at most to `margin` times the
        2 (1 + momentum)/lambda_max beyond which they overshoot in the sharpest direction.

    Needs: the optimizer; a learning rate that is off by more than `worth` from this, on the side
        that the findings name. Gradients that vanish or explode over depth are no matter of the
        learning rate: then something else has to come first.

    Source: LeCun, Simard and Pearlmutter 1993, Automatic learning rate maximization by on-line
        estimation of the Hessian's eigenvectors; Cohen et al. 2021, Gradient descent on neural
        networks typically occurs at the edge of stability.
    """

    code: ClassVar[str] = "optimizer-lr"
    family: ClassVar[str] = "optimizer"
    addresses: ClassVar[tuple[str, ...]] = ("lr-too-high", "lr-too-low", "dead-units")

    step: float = 0.03
    """First update over weight, the largest there is: 1e-3 to 1e-2 is what follows. Adam at its
    usual rates starts with it, and so does what ends best of the rates that were compared."""
    worth: float = 3.0
    """A factor less than this is a matter of taste."""
    least: float = 1e-4
    """Below this a step is unusually small, whatever the findings say."""
    most: float = 0.1
    """Above this one is unusually large."""
    margin: float = 2.0
    """Times the limit of stability: the curvature falls at once where steps are a little beyond."""

    def plan(self, case: Case) -> Plan | str:
        """Compares the learning rate with the one that fits."""
        make = factory_of(case)
        if isinstance(make, str):
            return make
        record = case.record
        rate = record.fact("optimizer.lr")
        moved = [
            r
            for i, r in record.pairs("weight.update_ratio")
            if record.parameters[i].is_weight and r > 0
        ]
        if not rate:
            why = "is not known, no first step was rehearsed" if rate is None else "is 0"
            return f"the learning rate {why}"
        if not moved:
            return (
                "no weight moves at the first step and has a size to compare this with: those with "
                "a gradient are 0, or none has one"
            )
        adaptive = bool(record.fact("optimizer.adaptive"))
        momentum = 0.0 if adaptive else record.fact("optimizer.momentum") or 0.0
        step = median(moved) / max(1 - momentum, 0.01) / (record.fact("optimizer.first_step") or 1)
        wanted = rate * self.step / step
        sharp = record.fact("sharpness.lambda_max")
        limit = math.inf
        if sharp and math.isfinite(sharp) and not adaptive:
            limit = 2 * (1 + momentum) / sharp
        wanted = min(wanted, self.margin * limit)
        factor = wanted / rate
        high, low = case.has("lr-too-high", "dead-units"), case.has("lr-too-low")
        if not (high or low) and self.least < step < self.most and rate < limit:
            return f"a typical weight moves by {number(step)} of its size per step, which is usual"
        if max(factor, 1 / factor) < self.worth:
            return (
                f"the learning rate {number(rate)} is within a factor {self.worth:g} of the "
                f"{number(wanted)} that fits"
            )
        if case.findings and not (high if factor < 1 else low):
            told = "lowered" if factor < 1 else "raised"
            return f"it would be {told} to {number(wanted)}, which no finding asks for"
        return Plan(
            self.code,
            f"A typical weight moves by {number(step * factor)} of its size per step in place of "
            f"{number(step)}.",
            training=with_rate(case, factor),
            optimizer=Scaled(make, factor),
        )

    def variants(self) -> tuple[Remedy, ...]:
        """The usual step, a bold one, and two timid ones for what is sharper than it looks.

        The bold one ended best in seven of seven trainings with Adam and RMSprop.
        """
        timid, calm, bold = (
            replace(self, step=part * self.step, margin=part * self.margin)
            for part in (0.3, 0.1, 3)
        )
        return (self, bold, timid, calm)

    @staticmethod
    def sick() -> Case:
        """Plain SGD at 5."""
        return _case(5.0)

    @staticmethod
    def well() -> Case:
        """The same network at 0.1."""
        return _case(0.02)


def _case(lr: float) -> Case:
    def model() -> nn.Module:
        return plain(2, gain=math.sqrt(2))

    return example(model, classes, optimizer=lambda p: torch.optim.SGD(p, lr=lr))
