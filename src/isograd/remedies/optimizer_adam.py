"""optimizer-adam: an optimizer that makes up for gradients that shrink over depth."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn

from isograd.remedies._code import number, program
from isograd.remedies._examples import classes, example, plain
from isograd.remedies._layers import layers
from isograd.remedies._optimizers import Made, factory_of
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class OptimizerAdam(Remedy):
    """Train with Adam where only the gradient vanishes.

    Does: replaces the optimizer by Adam, which divides every gradient by its own size: layers
        whose gradients are a thousand times smaller than others' then move as fast.

    Needs: an optimizer whose steps follow the gradient; gradients of the weights whose sizes differ
        by more than `spread`, or that are small throughout; and a forward signal that still tells
        samples apart at the output (more than `alive`): where it does not, all gradients are
        noise, and Adam makes the noise large.

    Source: Kingma and Ba 2015, Adam: a method for stochastic optimization.
    """

    code: ClassVar[str] = "optimizer-adam"
    family: ClassVar[str] = "optimizer"
    addresses: ClassVar[tuple[str, ...]] = (
        "saturating-activation",
        "gain-mismatch",
        "init-too-small",
        "missing-residual",
        "norm-placement",
        "lr-too-low",
        "input-not-normalized",
        "target-not-normalized",
    )

    lr: float = 1e-3
    """Adam's own default."""
    spread: float = 30.0
    """Ratio of the weights' gradients that one learning rate does not serve."""
    small: float = 1e-5
    """First update over weight, for the median, below which a network stands still."""
    alive: float = 1e-6
    """What the output differs by from sample to sample, over its size: below, float32, which
    resolves 1e-7, makes noise of it. Sigmoids and convolutions of 4e-6 and 3e-5 learned."""

    def plan(self, case: Case) -> Plan | str:
        """Compares gradients over depth, and looks at the output."""
        make = factory_of(case)
        if isinstance(make, str):
            return make
        record = case.record
        if record.fact("optimizer.adaptive"):
            return f"the optimizer is adaptive already ({record.fact('optimizer.name')})"
        own = {x.name for x in layers(case)}
        weights = {i: p.name for i, p in enumerate(record.parameters) if p.name in own}
        sizes = [r for i, r in record.pairs("weight.grad_rms") if i in weights and r > 0]
        moved = sorted(r for i, r in record.pairs("weight.update_ratio") if i in weights)
        if len(sizes) < 2:
            return "fewer than two weights get a gradient"
        ratio = max(sizes) / min(sizes)
        still = bool(moved) and moved[len(moved) // 2] < self.small
        if ratio < self.spread and not still and not case.has("lr-too-low"):
            return f"gradients differ {number(ratio)} fold over the layers, which one rate serves"
        spread, rms = record.fact("output.spread") or 0.0, record.fact("output.rms") or 0.0
        if not math.isfinite(rms) or spread < self.alive * rms or rms == 0:
            return (
                f"the samples' outputs differ by {number(spread)} only, of {number(rms)}: the "
                "signal is lost on its way forward in roundings, which Adam would follow"
            )
        settings = {"lr": self.lr}
        if decay := record.fact("optimizer.weight_decay"):
            settings["weight_decay"] = float(decay)
        new = Made(torch.optim.Adam, settings)
        told = f"Weights move by {number(self.lr)} at the first step, however small their gradients"
        left = len(record.fact("optimizer.missing") or ())
        return Plan(
            self.code,
            f"{left} parameters that the optimizer did not hold are trained, like all by Adam."
            if left
            else f"Layers whose gradients differ {number(ratio)} fold move at one speed."
            if ratio >= self.spread
            else f"{told} are.",
            training=program(new.code()),
            optimizer=new,
        )

    def variants(self) -> tuple[Remedy, ...]:
        """The default rate, and a faster one."""
        return (self, replace(self, lr=3 * self.lr))

    @staticmethod
    def sick() -> Case:
        """Four sigmoid layers under SGD."""
        return _case(lambda p: torch.optim.SGD(p, lr=0.1), 4)

    @staticmethod
    def well() -> Case:
        """The same under RMSprop."""
        return _case(lambda p: torch.optim.RMSprop(p, lr=1e-3), 4)


def _case(optimizer: object, depth: int) -> Case:
    return example(lambda: plain(depth, nn.Sigmoid), classes, optimizer=optimizer)
