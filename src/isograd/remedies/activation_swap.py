"""activation-swap: another activation in all hidden layers, and weights to go with it."""

from dataclasses import dataclass, replace
from statistics import mode
from typing import ClassVar

from torch import nn

from isograd.errors import InputError
from isograd.remedies._activations import hidden
from isograd.remedies._code import loop, number, program, where
from isograd.remedies._drawing import LOST, drawing, drawn_for
from isograd.remedies._examples import example, plain
from isograd.remedies._layers import layers
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.theory import activation, transform

_MODULES = {
    "relu": "nn.ReLU()",
    "leaky_relu": "nn.LeakyReLU({slope})",
    "prelu": "nn.PReLU({where})",
    "elu": "nn.ELU()",
    "selu": "nn.SELU()",
    "gelu": "nn.GELU()",
    "silu": "nn.SiLU()",
    "tanh": "nn.Tanh()",
}
_OF_WEIGHTS = ("saturating-activation", "exploding-activation", "dead-units", "gradient-sign")
"""Causes in which the weights have a part: new ones are drawn."""


@dataclass(frozen=True)
class ActivationSwap(Remedy):
    """Exchange the activation of the hidden layers.

    Does: puts another activation in the place of every hidden activation module, and draws the
        weights of plain layers with the gain that the new one needs. The slope of a leaky ReLU is
        that of tailored rectifiers for this depth, or 0.2 where the network is too shallow for it.
        For SELU, dropout becomes alpha dropout. Weights are kept where all that is wrong is that a
        layer has one or two rectifiers.

    Needs: hidden activations that are modules (a function called in the forward has to be exchanged
        there), no gates, and another kind than the new one.

    Source: Nair and Hinton 2010, Rectified linear units improve restricted Boltzmann machines;
        Maas, Hannun and Ng 2013, Rectifier nonlinearities improve neural network acoustic models;
        He et al. 2015, Delving deep into rectifiers (PReLU); Clevert, Unterthiner and Hochreiter
        2016, ELU; Klambauer et al. 2017, Self-normalizing neural networks; Hendrycks and Gimpel
        2016, Gaussian error linear units.
    """

    code: ClassVar[str] = "activation-swap"
    family: ClassVar[str] = "activation"
    addresses: ClassVar[tuple[str, ...]] = (
        *_OF_WEIGHTS,
        "narrow-layer",
    )

    to: str = "relu"
    """One of relu, leaky_relu, prelu, elu, selu, gelu, silu, tanh."""
    redraw: bool = True
    """Whether the weights of plain layers are drawn for it: old ones fit the old activation."""

    def plan(self, case: Case) -> Plan | str:
        """Exchanges all hidden activations of other kinds."""
        if self.to not in _MODULES:
            raise InputError(
                f"activation-swap: no activation {self.to!r}; to={', '.join(_MODULES)}"
            )
        found = layers(case)
        places, functions = hidden(case)
        fitting = [p for p in places if p.kind != self.to]
        if any(p.is_complex() for p in case.model.parameters()):
            return "it has complex weights, and torch's activations take real numbers"
        if not fitting:
            if functions:
                return (
                    f"its activations are functions called in the forward ({functions[0]}, …), not "
                    f"modules: write {_MODULES[self.to].split('(')[0]} there"
                )
            return f"all of its {len(places)} hidden activations are {self.to} already, or gates"
        narrow = case.has("narrow-layer") and not case.has(*_OF_WEIGHTS)
        if narrow and self.to == "gelu":
            return "a layer has few rectifiers, and gelu lets next to nothing through below zero"
        exchanged = {i for p in fitting for i in p.sites}
        slope = _slope(len(exchanged))
        leaky = {"negative_slope": slope} if self.to == "leaky_relu" else {}
        new = _MODULES[self.to].format(slope=number(slope), where=where(case.model))
        lines = []
        names = [name for p in fitting for name in p.names]
        lines.append(loop("name", names, f"model.set_submodule(name, {new})"))
        notes = []
        if self.to == "selu":
            drops = [
                (n, m.p) for n, m in case.model.named_modules() if type(m) is nn.Dropout and m.p
            ]
            for p in sorted({p for _, p in drops}):
                body = f"model.set_submodule(name, nn.AlphaDropout({number(p)}))"
                lines.append(loop("name", [n for n, own in drops if own == p], body))
        act = activation(self.to, **leaky)
        drawn = drawn_for(found, exchanged, act) if self.redraw and not narrow else []
        if drawn:
            lines.append(drawing(drawn))
            notes.append(LOST)
        old = mode(p.kind for p in fitting)
        keys = "Every exchanged activation adds a key NAME.weight." if self.to == "prelu" else ""
        return Plan(
            self.code,
            f"Signal and gradient pass {self.to} where {old} held them back.",
            program(*lines),
            keys=keys,
            notes=tuple(notes),
        )

    def variants(self) -> tuple[Remedy, ...]:
        """ReLU, its leaky form, and a smooth one."""
        return (self, replace(self, to="leaky_relu"), replace(self, to="gelu"))

    @staticmethod
    def sick() -> Case:
        """Eight sigmoid layers."""
        return example(lambda: plain(8, nn.Sigmoid))

    @staticmethod
    def well() -> Case:
        """ReLU layers."""
        return example(lambda: plain(3, nn.ReLU))


def _slope(depth: int) -> float:
    try:
        return transform("relu", "tat", depth=depth).negative_slope or 0.2
    except InputError:  # out of reach at this depth
        return 0.2
