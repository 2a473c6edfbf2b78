"""init-delta-orthogonal: convolutions that start as one orthogonal matrix at their center."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn

from isograd.remedies._code import number, program
from isograd.remedies._drawing import (
    LOST,
    drawing,
    filled,
    keeping,
    orthogonal,
    orthogonal_misfit,
    redrawn,
)
from isograd.remedies._examples import example
from isograd.remedies._layers import Layer, layers
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class InitDeltaOrthogonal(Remedy):
    """Start convolutions as an orthogonal matrix at the center of their kernel.

    Does: sets every kernel to zero but for its middle tap, which is orthogonal with the gain
        1/sqrt(E phi^2) of the activation that it reads; other weight layers become orthogonal. No
        signal mixes between positions at the start, so that none is lost at the borders.

    Needs: convolutions without groups that have kernels of odd size and at least as many channels
        out as in (others are drawn orthogonal as a whole), in a plain stack.

    Source: Xiao et al. 2018, Dynamical isometry and a mean field theory of CNNs: how to train
        10,000-layer vanilla convolutional neural networks, section 3.
    """

    code: ClassVar[str] = "init-delta-orthogonal"
    family: ClassVar[str] = "init"
    addresses: ClassVar[tuple[str, ...]] = (
        "gain-mismatch",
        "init-too-small",
        "init-too-large",
        "init-constant",
        "missing-residual",
    )

    def plan(self, case: Case) -> Plan | str:
        """Draws the kernels that allow it, and the other weights orthogonal."""
        found = layers(case)
        reason = orthogonal_misfit(found, keeping)
        if reason:
            return reason
        kernels = sum(x.kind == "conv" for x in found)
        left = kernels - sum(map(_has_center, found))
        if left == kernels:
            return (
                f"none of its {kernels} convolutions has a kernel of odd size, larger than 1, and "
                "at least as many channels out as in"
            )
        note = (f"{left} other convolutions are drawn orthogonal as a whole.",) if left else ()
        return Plan(
            self.code,
            "Every position's signal keeps its size and its angles to the others, as in a fully "
            "connected orthogonal network.",
            program(drawing(redrawn(found, _draw))),
            notes=(LOST, *note),
        )

    @staticmethod
    def sick() -> Case:
        """Twelve convolutions at torch's default."""
        return example(lambda: _convolutions(12, None), _images)

    @staticmethod
    def well() -> Case:
        """Three, with He's initialization."""
        return example(lambda: _convolutions(3, math.sqrt(2)), _images)


def _has_center(layer: Layer) -> bool:
    taps = layer.shape[2:]
    if layer.kind != "conv" or not taps or layer.fan_in != math.prod(layer.shape[1:]):
        return False
    odd = all(t % 2 for t in taps) and max(taps) > 1
    grouped = layer.fan_out != layer.shape[0] * math.prod(taps)
    return odd and not grouped and layer.shape[0] >= layer.shape[1]


def _draw(layer: Layer, gain: float) -> str:
    if not _has_center(layer):
        return orthogonal(layer, gain)
    middle = "".join(f", {t // 2}" for t in layer.shape[2:])
    told = number(gain * math.sqrt(layer.shape[0] / layer.shape[1]))
    part = filled(layer, f"weight.detach()[:, :{middle}]", told)
    return f"nn.init.zeros_(weight)\n{part}"


def _convolutions(depth: int, gain: float | None) -> nn.Module:
    sizes = [3, *[8] * depth]
    model = nn.Sequential()
    for a, b in pairwise(sizes):
        model.extend((nn.Conv2d(a, b, 3, padding=1), nn.ReLU()))
        if gain is not None:
            nn.init.normal_(model[-2].weight, std=gain / (9 * a) ** 0.5)  # type: ignore[arg-type]
    return model.extend((nn.Flatten(), nn.Linear(8 * 36, 5)))


def _images() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(16, 3, 6, 6), torch.randint(5, (16,))
