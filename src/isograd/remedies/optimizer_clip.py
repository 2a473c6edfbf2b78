"""optimizer-clip: gradients of a bounded norm, where that helps."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from isograd.records import Record
from isograd.remedies._code import number, program
from isograd.remedies._examples import classes, example, plain
from isograd.remedies._optimizers import Clipped, factory_of
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class OptimizerClip(Remedy):
    """Clip the norm of the gradient.

    Does: scales all gradients down before a step whenever their norm is above `max_norm`.

    Needs: the optimizer, and a gradient whose norm is above it. It cannot help where the signal
        itself explodes on its way forward, or is not finite: then outputs and loss are useless
        however small the step is; nor where gradients vanish, over depth or time; nor with Adam and
        its relatives, whose steps do not grow with the gradient, unless they come from rare
        outliers; nor at a learning rate beyond the limit of stability, which has to be lowered.

    Source: Pascanu, Mikolov and Bengio 2013, On the difficulty of training recurrent neural
        networks; Zhang et al. 2020, Why gradient clipping accelerates training.
    """

    code: ClassVar[str] = "optimizer-clip"
    family: ClassVar[str] = "optimizer"
    addresses: ClassVar[tuple[str, ...]] = ("recurrent-jacobian", "lr-too-high")

    max_norm: float = 1.0
    """What recurrent networks and transformers are usually trained with."""
    explodes: float = 1e4
    """Rms of a signal from which the outputs are noise whatever the step."""

    def plan(self, case: Case) -> Plan | str:
        """Compares the gradient's norm, and looks at the forward signal."""
        make = factory_of(case)
        if isinstance(make, str):
            return make
        record = case.record
        worst = max((r for _, r in record.pairs("forward.rms")), default=0.0)
        lost = sum(n for _, n in record.pairs("forward.nonfinite"))
        if lost or worst > self.explodes:
            what = (
                f"rms {number(worst)}" if worst > self.explodes else f"{lost:.0f} values not finite"
            )
            return (
                f"the signal explodes on its way forward ({what}); clipping the gradient cannot "
                "help against that: scale the weights, or normalize"
            )
        fades = [rate for _, rate in record.pairs("backward.time_decay")]
        if fades and max(fades) < 0 and not case.has("lr-too-high"):
            return "the gradient shrinks from time step to time step: there is nothing to cut off"
        norm = gradient_norm(record)
        if norm is None:
            return "it needs gradients: measure with targets and a loss"
        if norm <= self.max_norm:
            return (
                f"the gradient has norm {number(norm)}; clipping at {self.max_norm:g} does nothing"
            )
        if record.fact("optimizer.adaptive") and not case.has("recurrent-jacobian"):
            return "the optimizer is adaptive: its steps do not grow with the gradient"
        sharp, rate = record.fact("sharpness.lambda_max"), record.fact("optimizer.lr") or 0.0
        limit = 2 * (1 + (record.fact("optimizer.momentum") or 0.0)) / sharp if sharp else math.inf
        if rate > limit and case.has("lr-too-high") and not case.has("recurrent-jacobian"):
            return (
                f"the learning rate {number(rate)} is {number(rate / limit)} times the limit of "
                "stability: gradients too small to be clipped would overshoot all the same"
            )
        return Plan(
            self.code,
            f"No step is larger than one with a gradient of norm {self.max_norm:g}; this one has "
            f"{number(norm)}.",
            training=program(
                "def clip(optimizer, args, kwargs):  # before every optimizer.step()",
                '    held = [p for group in optimizer.param_groups for p in group["params"]]',
                f"    torch.nn.utils.clip_grad_norm_(held, {number(self.max_norm)})",
                "",
                "optimizer.register_step_pre_hook(clip)",
            ),
            optimizer=Clipped(make, self.max_norm),
        )

    def variants(self) -> tuple[Remedy, ...]:
        """The usual bound, and a tight one."""
        return (self, replace(self, max_norm=self.max_norm / 10))

    @staticmethod
    def sick() -> Case:
        """Weights four times too large."""
        return _case(4.0)

    @staticmethod
    def well() -> Case:
        """Weights so large that the signal explodes."""
        return _case(900.0)


def gradient_norm(record: Record) -> float | None:
    """Norm of the gradient of all parameters together; None where none was measured."""
    parts = [
        r * r * math.prod(record.parameters[i].shape) for i, r in record.pairs("weight.grad_rms")
    ]
    return math.sqrt(sum(parts)) if parts else None


def _case(gain: float) -> Case:
    return example(
        lambda: plain(3, gain=gain), classes, optimizer=lambda p: torch.optim.SGD(p, lr=0.01)
    )
