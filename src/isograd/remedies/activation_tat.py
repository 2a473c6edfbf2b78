"""activation-tat: leaky ReLUs of the slope that lets a plain network be this deep."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from isograd.errors import InputError
from isograd.remedies._activations import hidden
from isograd.remedies._code import loop, number, program
from isograd.remedies._drawing import LOST, drawing, drawn_for, orthogonal
from isograd.remedies._examples import example, plain
from isograd.remedies._layers import layers
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.sites import NORMS
from isograd.theory import activation, transform

_CLOSE = 0.03
"""Difference of two slopes that no training can tell."""
_RECTIFIERS = ("relu", "leaky_relu", "prelu", "rrelu")


@dataclass(frozen=True)
class ActivationTat(Remedy):
    """Tailor the rectifiers to the depth.

    Does: replaces every ReLU by a leaky one whose slope is such that two inputs without anything in
        common still differ at the end (the network's correlation map takes 0 to `eta`), and draws
        orthogonal weights with its gain sqrt(2/(1 + slope^2)), biases zero.

    Needs: a plain network without norms and skips, all of whose activations are rectifiers and
        modules, deep enough: at eta = 0.9 ReLU itself stays below up to 10 layers.

    Source: Zhang, Botev and Martens 2022, Deep learning without shortcuts: shaping the kernel with
        tailored rectifiers, section 4.
    """

    code: ClassVar[str] = "activation-tat"
    family: ClassVar[str] = "activation"
    addresses: ClassVar[tuple[str, ...]] = (
        "missing-residual",
        "gain-mismatch",
        "dead-units",
        "init-too-small",
        "init-too-large",
    )

    eta: float = 0.9
    """What the network makes of correlation 0: 1 is a network that tells nothing apart."""

    def plan(self, case: Case) -> Plan | str:
        """Finds the slope for the number of rectifiers."""
        found = layers(case)
        places, functions = hidden(case)
        kinds = {p.kind for p in places}
        shaped = sum(not x.plain for x in found if not x.output)
        if any(s.kind in NORMS for s in case.record.sites) or shaped:
            return f"it has norms or skips ({shaped} of its layers), which set the kernel already"
        if functions or not places or not kinds <= set(_RECTIFIERS):
            told = functions[0] if functions else ", ".join(sorted(kinds)) or "none"
            return f"not all of its hidden activations are rectifiers that are modules ({told})"
        depth = sum(len(p.sites) for p in places)
        try:
            slope = transform("relu", "tat", depth=depth, eta=self.eta).negative_slope or 0.0
        except InputError as error:
            return f"{depth} rectifiers: {error}"
        new = activation("leaky_relu", negative_slope=slope)
        below = [float(x.reads.slope(np.array([-1.0]))[0]) for x in found if x.reads is not None]
        if all(abs(own - slope) < _CLOSE for own in below):
            return f"its leaky ReLUs have about the slope {number(slope)} already"
        exchanged = {i for p in places for i in p.sites}
        names = [name for p in places for name in p.names]
        swap = loop("name", names, f"model.set_submodule(name, nn.LeakyReLU({number(slope)}))")
        draws = drawing(drawn_for(found, exchanged, new, orthogonal))
        return Plan(
            self.code,
            f"Over {depth} layers the correlation of two unlike inputs rises to {self.eta:g} only, "
            "where ReLU would make them all but equal.",
            program(swap, draws),
            notes=(LOST,),
        )

    @staticmethod
    def sick() -> Case:
        """Twenty ReLU layers."""
        return example(lambda: plain(20, gain=math.sqrt(2)))

    @staticmethod
    def well() -> Case:
        """Six, which are too few."""
        return example(lambda: plain(6, gain=math.sqrt(2)))
