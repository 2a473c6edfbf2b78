"""init-bias: biases that switch dead rectifiers on."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from isograd.remedies._code import loop, number, program
from isograd.remedies._examples import example, plain
from isograd.remedies._layers import layers
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.sites import RECTIFIERS


@dataclass(frozen=True)
class InitBias(Remedy):
    """Set the biases in front of dead rectifiers.

    Does: sets the bias of every layer that feeds a rectifier with dead units to `value`, zero or a
        little above: about half of the units then respond to every sample.

    Needs: a layer whose rectifier has dead units, and whose bias is below `value` on average.

    Source: Glorot, Bordes and Bengio 2011, Deep sparse rectifier neural networks; Krizhevsky,
        Sutskever and Hinton 2012, ImageNet classification with deep convolutional neural networks
        (biases of 1); Lu et al. 2020, Dying ReLU and initialization.
    """

    code: ClassVar[str] = "init-bias"
    family: ClassVar[str] = "init"
    addresses: ClassVar[tuple[str, ...]] = ("dead-units",)

    value: float = 0.0
    """The bias; 0.1 leaves a margin, and shifts every layer's output."""
    dead: float = 0.1
    """Share of dead units from which a layer is worth it."""

    def plan(self, case: Case) -> Plan | str:
        """Finds layers with dead units and low biases."""
        record = case.record
        means = {
            p.name: record.value("weight.mean", i) or 0.0 for i, p in enumerate(record.parameters)
        }
        rectified = [
            x for x in layers(case) if x.reader is not None and _kind(case, x.reader) in RECTIFIERS
        ]
        if not rectified:
            return "no layer feeds a rectifier"
        dying = [
            x for x in rectified if (record.value("forward.dead", x.reader or 0) or 0) > self.dead
        ]
        if not dying:
            return f"no rectifier has more than {self.dead:.0%} dead units"
        # A layer behind a dead one is dead too, whatever its own bias: all are set.
        names = [x.bias for x in rectified if x.bias and means[x.bias] < self.value - 1e-6]
        if not names:
            return f"no bias in front of them is below {number(self.value)} on average"
        return Plan(
            self.code,
            f"The units behind {len(names)} biases respond to about half of the inputs.",
            program(
                loop(
                    "name",
                    names,
                    f"nn.init.constant_(model.get_parameter(name), {number(self.value)})",
                )
            ),
        )

    def variants(self) -> tuple[Remedy, ...]:
        """Zero, and a little above."""
        return (self, replace(self, value=0.1))

    @staticmethod
    def sick() -> Case:
        """Biases of -3."""
        return example(lambda: _biased(-3.0))

    @staticmethod
    def well() -> Case:
        """Biases of zero."""
        return example(lambda: _biased(0.0))


def _kind(case: Case, site: int) -> str:
    return case.record.sites[site].kind


def _biased(value: float) -> nn.Module:
    model = plain(3, gain=math.sqrt(2))
    for layer in list(model)[:-1]:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.bias, value)
    return model
