"""init-gain: weights drawn with exactly the gain that the activation behind them needs."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from isograd.remedies._code import number, program
from isograd.remedies._drawing import LOST, Drawn, drawing, keeping, misfit, reading, unfit
from isograd.remedies._examples import example, plain
from isograd.remedies._layers import Layer, layers
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.theory import Gains


@dataclass(frozen=True)
class InitGain(Remedy):
    """Draw the weights with the gain that fits their activation.

    Does: draws every weight anew from a normal or uniform law with variance gain^2/fan, where the
        gain is 1/sqrt(E phi^2) (`keep="forward"`, fan_in: the signal keeps its rms) or
        1/sqrt(E phi'^2) (`"backward"`, fan_out: the gradient does), of the activation whose output
        the layer reads, by quadrature for any activation; `"compromise"` takes the mean of the two
        variances' inverses, as Glorot does. A layer that reads data or feeds the loss has 1. Biases
        start at zero. For ReLU this is He's initialization, for a linear layer LeCun's.

    Needs: hidden layers without a norm behind them or a skip connection around them, most of
        whose gains are off. Behind a norm the gain is a matter of the learning rate alone.

    Source: LeCun et al. 1998, Efficient BackProp; Glorot and Bengio 2010, Understanding the
        difficulty of training deep feedforward neural networks; He et al. 2015, Delving deep into
        rectifiers.
    """

    code: ClassVar[str] = "init-gain"
    family: ClassVar[str] = "init"
    addresses: ClassVar[tuple[str, ...]] = (
        "gain-mismatch",
        "init-too-small",
        "init-too-large",
        "init-constant",
        "dead-units",
    )

    keep: Literal["forward", "backward", "compromise"] = "forward"
    """Which of the two keeps its size: with unequal widths no gain keeps both."""
    law: Literal["normal", "uniform"] = "normal"
    """The two train alike; a uniform law has no outliers."""

    def plan(self, case: Case) -> Plan | str:
        """Draws all weight layers, each for the activation that it reads."""
        found = layers(case)
        reason = unfit(found, lambda layer: misfit(layer, self.gain(layer) * self._fan(layer)))
        if reason:
            return reason
        drawn = [self._draw(layer) for layer in found if layer.trainable]
        return Plan(
            self.code,
            f"{self._kept()} keeps its size from layer to layer, on average over draws.",
            program(drawing(drawn)),
            notes=(LOST,),
        )

    def variants(self) -> tuple[Remedy, ...]:
        """Forward first; the compromise differs where widths do."""
        return (self, InitGain("compromise", self.law))

    def gain(self, layer: Layer) -> float:
        """The factor on 1/sqrt(fan), were fans equal."""
        return keeping(layer, _GAINS[self.keep])

    def _fan(self, layer: Layer) -> float:
        """sqrt(fan_in / fan), of the fan that counts."""
        if self.keep == "forward" or layer.output:
            return 1.0
        if self.keep == "backward":
            return math.sqrt(layer.fan_in / layer.fan_out)
        return math.sqrt(2 * layer.fan_in / (layer.fan_in + layer.fan_out))

    def _draw(self, layer: Layer) -> Drawn:
        std = self.gain(layer) * self._fan(layer) / math.sqrt(layer.fan_in)
        why = f"gain {number(self.gain(layer))} {reading(layer)}"
        if self.law == "uniform":
            limit = number(std * math.sqrt(3))
            return Drawn(layer, f"nn.init.uniform_(weight, -{limit}, {limit})", why)
        return Drawn(layer, f"nn.init.normal_(weight, std={number(std)})", why)

    def _kept(self) -> str:
        return {
            "forward": "The signal",
            "backward": "The gradient",
            "compromise": "The product of signal and gradient",
        }[self.keep]

    @staticmethod
    def sick() -> Case:
        """Twelve ReLU layers at torch's default."""
        return example(plain)

    @staticmethod
    def well() -> Case:
        """The same with He's."""
        return example(lambda: plain(gain=math.sqrt(2)))


_GAINS: dict[str, Callable[[Gains], float]] = {
    "forward": lambda g: g.second_moment,
    "backward": lambda g: g.slope,
    "compromise": lambda g: math.sqrt(2 / (g.second_moment**-2 + g.slope**-2)),
}
