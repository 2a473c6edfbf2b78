"""init-critical: weight and bias variances at which gradients neither vanish nor explode."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from isograd.remedies._code import program
from isograd.remedies._drawing import (
    LOST,
    drawing,
    misfit,
    normal,
    orthogonal,
    orthogonal_misfit,
    redrawn,
    unfit,
)
from isograd.remedies._examples import example, plain
from isograd.remedies._layers import Layer, layers
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.theory import Critical, critical


@dataclass(frozen=True)
class InitCritical(Remedy):
    """Initialize at the critical point of the activation.

    Does: draws weights of variance sigma_w^2/fan_in and biases of variance sigma_b^2 at the point
        where chi_1 = sigma_w^2 E phi'^2 = 1 at a fixed length: gradients keep their size over any
        depth. For tanh that is (1, 0), for ReLU (2, 0); for GELU and SiLU, critical only beyond a
        threshold, the threshold's. Orthogonal weights keep all singular values equal.

    Needs: plain hidden layers, all of whose activations have a stable critical point: sigmoid and
        softplus have none, whatever the variances.

    Source: Schoenholz et al. 2017, Deep information propagation; Pennington, Schoenholz and Ganguli
        2017, Resurrecting the sigmoid; Roberts, Yaida and Hanin 2022, The principles of deep
        learning theory, section 5.3.
    """

    code: ClassVar[str] = "init-critical"
    family: ClassVar[str] = "init"
    addresses: ClassVar[tuple[str, ...]] = (
        "gain-mismatch",
        "init-too-small",
        "init-too-large",
        "missing-residual",
        "init-constant",
    )

    orthogonal: bool = True
    """Gaussian weights pass gradients of the right size too, but in ever fewer directions."""
    bias_var: float = 0.0
    """sigma_b^2. Zero keeps isometry longest; larger ones keep more signal in shallow tanh."""

    def plan(self, case: Case) -> Plan | str:
        """Finds the critical point of every activation."""
        found = layers(case)
        points: dict[str, Critical] = {}
        for layer in found:
            for act in (layer.reads, layer.activation if not layer.output else None):
                if act is None or act.name in points:
                    continue
                points[act.name] = critical(act, bias_var=self.bias_var)
                if points[act.name].weight_var is None:
                    why = points[act.name].reason
                    return f"{act.name}, at {layer.name}, has no critical point: {why}"

        def gain(layer: Layer) -> float:
            return _gain(layer, points)

        reason = (
            orthogonal_misfit(found, gain)
            if self.orthogonal
            else unfit(found, lambda layer: misfit(layer, gain(layer)))
        )
        if reason:
            return reason
        draw = orthogonal if self.orthogonal else normal
        noisy = {
            x.bias: math.sqrt(points[x.activation.name].bias_var or 0.0)
            for x in found
            if x.bias and not x.output and points[x.activation.name].bias_var
        }
        return Plan(
            self.code,
            "Gradients keep their size over depth at the start, up to a power of it (chi_1 = 1).",
            program(drawing(redrawn(found, draw, gain), biases=noisy)),
            notes=(
                LOST,
                *(f"{name}: {point.reason}." for name, point in points.items()),
            ),
        )

    def variants(self) -> tuple[Remedy, ...]:
        """Orthogonal first, then Gaussian."""
        return (self, replace(self, orthogonal=not self.orthogonal))

    @staticmethod
    def sick() -> Case:
        """Twelve GELU layers at torch's default."""
        return example(lambda: plain(act=nn.GELU))

    @staticmethod
    def well() -> Case:
        """Sigmoids, which have no critical point."""
        return example(lambda: plain(act=nn.Sigmoid))


def _gain(layer: Layer, points: dict[str, Critical]) -> float:
    """sigma_w of the activation that is read; a first layer brings the signal to q*."""
    if layer.output:
        return 1.0
    if layer.reads is not None:
        return math.sqrt(points[layer.reads.name].weight_var or 1.0)
    point = points[layer.activation.name]
    if layer.activation.homogeneous:
        return math.sqrt(point.weight_var or 1.0)
    return math.sqrt(max((point.q_star or 0.0) - (point.bias_var or 0.0), 0.0)) or 1.0
