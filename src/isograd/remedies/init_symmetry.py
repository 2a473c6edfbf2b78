"""init-symmetry: weights that start constant drawn at random."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from isograd.remedies._code import loop, number, program
from isograd.remedies._drawing import Drawn, drawing, keeping, normal
from isograd.remedies._examples import example, plain
from isograd.remedies._layers import layers
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.sites.paths import closed_norms


@dataclass(frozen=True)
class InitSymmetry(Remedy):
    """Draw the weights that start constant.

    Does: draws the weights whose units are all equal from a normal law with the gain of their
        activation, and leaves all others alone. Biases stay. Weights of norms that are zero where
        nothing goes around them become one.

    Needs: a hidden layer of more than one unit whose units are equal, or norms of zero that keep
        each other from moving. A last layer that is zero and a zero layer or norm at the end of a
        residual branch are meant, and learn.

    Source: LeCun et al. 1998, Efficient BackProp, section 4.6; Goodfellow, Bengio and Courville
        2016, Deep learning, section 8.4.
    """

    code: ClassVar[str] = "init-symmetry"
    family: ClassVar[str] = "init"
    addresses: ClassVar[tuple[str, ...]] = ("init-constant",)

    equal: float = 1e-3
    """Differences between units over their size; drawn weights have 1."""

    def plan(self, case: Case) -> Plan | str:
        """Finds constant weights that keep units equal."""
        found = layers(case)
        flat = [x for x in found if x.spread < self.equal and x.shape[0] > 1 and x.trainable]
        flat = [x for x in flat if not (x.bypassed and x.gain == 0)]
        norms = [case.record.parameters[p].name for p in closed_norms(case.record)]
        if not any(not x.output for x in flat) and not any(x.gain for x in flat):
            flat = []
        if not flat and not norms:
            least = min((x.spread for x in found), default=0.0)
            return (
                "no hidden weight starts constant: the units of every layer differ by at least "
                f"{number(least)} of their size"
            )
        drawn = [Drawn(x, normal(x, keeping(x)), f"gain {number(keeping(x))}") for x in flat]
        effect = f"The units of {len(drawn)} layers differ, and get gradients of their own."
        ones = loop("name", norms, "nn.init.ones_(model.get_parameter(name))") if norms else ""
        return Plan(
            self.code,
            effect if drawn else f"Signal and gradient pass {len(norms)} norms that were zero.",
            program(drawing(drawn, zero=False) if drawn else "", ones),
        )

    @staticmethod
    def sick() -> Case:
        """All weights 0.01."""
        return example(lambda: _constant(0.01))

    @staticmethod
    def well() -> Case:
        """Drawn ones, and a last layer of zeros."""

        def model() -> nn.Module:
            made = plain(3, gain=math.sqrt(2))
            nn.init.zeros_(made[-1].weight)  # type: ignore[arg-type]  # a linear layer
            return made

        return example(model)


def _constant(value: float) -> nn.Module:
    model = plain(3)
    for p in model.parameters():
        nn.init.constant_(p, value)
    return model
