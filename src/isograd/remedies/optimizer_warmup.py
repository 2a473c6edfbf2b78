"""optimizer-warmup: a learning rate that rises over the first steps."""

from dataclasses import dataclass, replace
from statistics import median
from typing import ClassVar

import torch

from isograd.remedies._code import number, program
from isograd.remedies._examples import classes, example, plain
from isograd.remedies._optimizers import Warmed, factory_of
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class OptimizerWarmup(Remedy):
    """Warm the learning rate up.

    Does: lets every learning rate rise linearly to its value over the first `steps` steps. The
        network moves to a place of lower curvature before it gets the full rate.

    Needs: the optimizer, and a first step above `most` of a typical weight, a learning rate beyond
        what the curvature allows, or a finding that the rate is too high or norms stand behind the
        residual additions.

    Source: Goyal et al. 2017, Accurate, large minibatch SGD; Gilmer et al. 2022, A loss curvature
        perspective on training instability in deep learning; Xiong et al. 2020, On layer
        normalization in the transformer architecture.
    """

    code: ClassVar[str] = "optimizer-warmup"
    family: ClassVar[str] = "optimizer"
    addresses: ClassVar[tuple[str, ...]] = ("lr-too-high", "norm-placement")

    steps: int = 100
    """Of the rise; a few percent of a training."""
    most: float = 0.1
    """First update over weight that is worth a rise: ten such steps replace the weight."""

    def plan(self, case: Case) -> Plan | str:
        """Looks at the first step and the curvature."""
        make = factory_of(case)
        if isinstance(make, str):
            return make
        record = case.record
        moved = [
            r for i, r in record.pairs("weight.update_ratio") if record.parameters[i].is_weight
        ]
        step = median(moved) if moved else 0.0
        rate, sharp = record.fact("optimizer.lr") or 0.0, record.fact("sharpness.lambda_max") or 0.0
        momentum = record.fact("optimizer.momentum") or 0.0
        sharp_too = rate * sharp > 2 * (1 + momentum) and not record.fact("optimizer.adaptive")
        if step <= self.most and not sharp_too and not case.has(*self.addresses):
            return f"a typical weight moves by {number(step)} of its size at the first step"
        return Plan(
            self.code,
            f"The first step is {self.steps} times smaller, the full one comes at step "
            f"{self.steps}.",
            training=program(
                "scheduler = torch.optim.lr_scheduler.LinearLR(",
                f"    optimizer, start_factor={number(1 / self.steps)}, "
                f"total_iters={self.steps - 1}",
                ")",
                "optimizer.register_step_post_hook(lambda *_: scheduler.step())  # after each step",
            ),
            optimizer=Warmed(make, self.steps),
            settles=2 * self.steps,  # while it rises, any network looks calm
        )

    def variants(self) -> tuple[Remedy, ...]:
        """A rise for a training, and one for a short one."""
        return (self, replace(self, steps=max(self.steps // 5, 2)))

    @staticmethod
    def sick() -> Case:
        """Plain SGD at 5."""
        return _case(5.0)

    @staticmethod
    def well() -> Case:
        """At 0.01."""
        return _case(0.01)


def _case(lr: float) -> Case:
    return example(
        lambda: plain(2, gain=1.0), classes, optimizer=lambda p: torch.optim.SGD(p, lr=lr)
    )
