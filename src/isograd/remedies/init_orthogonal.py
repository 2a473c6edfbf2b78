"""init-orthogonal: orthogonal weights with exactly the gain of their activation."""

import math
from dataclasses import dataclass
from typing import ClassVar

from isograd.remedies._code import program
from isograd.remedies._drawing import (
    LOST,
    drawing,
    keeping,
    orthogonal,
    orthogonal_misfit,
    redrawn,
)
from isograd.remedies._examples import example, plain
from isograd.remedies._layers import layers
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class InitOrthogonal(Remedy):
    """Draw orthogonal weights with the gain that fits their activation.

    Does: draws every weight as a (semi-)orthogonal matrix times the gain 1/sqrt(E phi^2) of the
        activation that the layer reads, and sqrt(out/in) more where it widens, so that every unit
        has this gain whatever the shape; kernels as matrices [out, in x taps], the projections
        stacked in an attention or a gated cell one by one. Biases start at zero.

    Needs: as for init-gain; in a stack of ten and more plain layers it is worth it for weights
        whose gain fits too, because all singular values of a layer are then equal.

    Source: Saxe, McClelland and Ganguli 2014, Exact solutions to the nonlinear dynamics of learning
        in deep linear neural networks; Pennington, Schoenholz and Ganguli 2017, Resurrecting the
        sigmoid.
    """

    code: ClassVar[str] = "init-orthogonal"
    family: ClassVar[str] = "init"
    addresses: ClassVar[tuple[str, ...]] = (
        "gain-mismatch",
        "init-too-small",
        "init-too-large",
        "init-constant",
        "missing-residual",
        "dead-units",
    )

    def plan(self, case: Case) -> Plan | str:
        """Draws all weight layers, each for the activation that it reads."""
        found = layers(case)
        reason = orthogonal_misfit(found, keeping)
        if reason:
            return reason
        return Plan(
            self.code,
            "The signal keeps its size from layer to layer, and no direction of it is stretched "
            "more than another by the weights.",
            program(drawing(redrawn(found, orthogonal))),
            notes=(LOST,),
        )

    @staticmethod
    def sick() -> Case:
        """Twelve ReLU layers at torch's default."""
        return example(plain)

    @staticmethod
    def well() -> Case:
        """Four with He's: depth gives no reason."""
        return example(lambda: plain(4, gain=math.sqrt(2)))
