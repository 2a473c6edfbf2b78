"""init-recurrent: hidden-to-hidden weights that keep the state's size."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from isograd.remedies._code import loop, number, program
from isograd.remedies._drawing import Drawn, drawing, orthogonal, scattered
from isograd.remedies._examples import example
from isograd.remedies._layers import layers
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class InitRecurrent(Remedy):
    """Start the recurrence orthogonal.

    Does: draws the hidden-to-hidden weights of recurrent layers as orthogonal matrices of gain 1,
        one per gate: the state is turned from step to step, and neither grows nor shrinks by its
        weights. Input weights `large` times what hands inputs of unit size on as such are drawn
        likewise, and biases as large become zero; others stay as they are.

    Needs: a recurrent layer whose hidden-to-hidden weights are not orthogonal, or not of this gain,
        or whose input weights or biases hold its gates shut or open.

    Source: Saxe, McClelland and Ganguli 2014, Exact solutions to the nonlinear dynamics of learning
        in deep linear neural networks; Le, Jaitly and Hinton 2015, A simple way to initialize
        recurrent networks of rectified linear units; Arjovsky, Shah and Bengio 2016, Unitary
        evolution recurrent neural networks.
    """

    code: ClassVar[str] = "init-recurrent"
    family: ClassVar[str] = "init"
    addresses: ClassVar[tuple[str, ...]] = ("recurrent-jacobian",)

    gain: float = 1.0
    """Of a unit's step. A ReLU state passes half of it, and grows in its mean: 1 is the middle."""
    large: float = 3.0
    """Gain of input weights, and rms of biases, from which most gates stand at 0 or 1, whatever the
    state: a sigmoid of 3 has a fifth of the slope of one of 0. Torch's own gain comes to that with
    27 times as many inputs as units; forget gates open for 100 steps (ln 100) to an rms of 2.3."""

    def plan(self, case: Case) -> Plan | str:
        """Finds recurrent weights that are not orthogonal."""
        every = layers(case)
        found = [x for x in every if x.kind == "recurrent" and x.trainable]
        if not found:
            return "it has no recurrent layer (nn.RNN, nn.LSTM, nn.GRU or their cells)"
        # The cosine within all gates together cannot be 0: rows of different gates are free.
        off = [
            x
            for x in found
            if not 0.95 < x.gain / self.gain < 1.05 or (x.blocks == 1 and scattered(x))
        ]
        owners = {x.module for x in found}
        inputs = [x for x in every if x.module in owners and ".weight_ih" in f".{x.name}"]
        inputs = [x for x in inputs if x.gain > self.large and x.trainable]
        biases = _biases(case, owners, self.large)
        if not off and not inputs and not biases:
            return f"its {len(found)} recurrent weights have gain {number(self.gain)} already"
        drawn = [Drawn(x, orthogonal(x, self.gain), "") for x in off]
        drawn += [Drawn(x, orthogonal(x, 1.0), "") for x in inputs]
        zero = loop("name", biases, "nn.init.zeros_(model.get_parameter(name))") if biases else ""
        effect = "The weights turn the state from step to step without stretching it."
        if inputs or biases:
            effect += f" {len(inputs) + len(biases)} input weights and biases leave its gates free."
        told = "recurrent and input" if inputs else "recurrent"
        return Plan(
            self.code,
            effect,
            program(drawing(drawn, zero=False) if drawn else "", zero),
            notes=(f"The {told} weights are drawn anew.",) if drawn else (),
        )

    def variants(self) -> tuple[Remedy, ...]:
        """For ReLU states a larger gain can pay: 1.4 makes up for the half that is cut off."""
        return (self, replace(self, gain=1.2))

    @staticmethod
    def sick() -> Case:
        """A ReLU recurrence of gain 1.6."""
        return example(lambda: _Recurrent(1.6), _sequences)

    @staticmethod
    def well() -> Case:
        """One of gain 1."""
        return example(lambda: _Recurrent(1.0), _sequences)


def _biases(case: Case, owners: Collection[str], large: float) -> list[str]:
    """Names of biases of modules whose sum, the two of a layer together, has a larger rms."""
    pairs: dict[str, list[tuple[str, float]]] = {}
    for place, parameter in enumerate(case.record.parameters):
        module, _, last = parameter.name.rpartition(".")
        if module in owners and last.startswith("bias_") and parameter.trainable:
            own = parameter.name, case.record.value("weight.rms", place) or 0.0
            pairs.setdefault(f"{module} {last[len('bias_ih') :]}", []).append(own)
    off = [pair for pair in pairs.values() if math.hypot(*(rms for _, rms in pair)) > large]
    return [name for pair in off for name, _ in pair]


class _Recurrent(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.layer = nn.RNN(6, 14, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(14, 5)
        nn.init.orthogonal_(self.layer.get_parameter("weight_hh_l0"), gain)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layer(x)[0][:, -1])
        return out


def _sequences() -> tuple[Tensor, Tensor]:
    return torch.randn(9, 13, 6), torch.randint(5, (9,))
