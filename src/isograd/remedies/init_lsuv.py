"""init-lsuv: weights scaled on a real batch until every layer's output has unit variance."""

import math
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

import torch
from torch import nn

from isograd.remedies._code import listing, program
from isograd.remedies._drawing import LOST, Drawn, drawing, orthogonal, unfit
from isograd.remedies._examples import example, plain
from isograd.remedies._layers import Layer, layers
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class InitLsuv(Remedy):
    """Scale the weights on a batch until every layer's output has unit variance.

    Does: draws the hidden weights orthogonal, then goes through the layers in the order in which
        they run, each with a forward of its own on the batch, and divides its weight by the
        standard deviation of its output over samples, positions and units. The last layer, weights
        that are used several times, and branches that start at zero are left alone, with a note.

    Needs: hidden layers without a norm behind them or a skip connection around them, whose outputs
        are off by a factor of `off` in the middle. Activations without theory are no obstacle.

    Source: Mishkin and Matas 2016, All you need is a good init.
    """

    code: ClassVar[str] = "init-lsuv"
    family: ClassVar[str] = "init"
    addresses: ClassVar[tuple[str, ...]] = (
        "gain-mismatch",
        "init-too-small",
        "init-too-large",
        "saturating-activation",
        "init-constant",
        "dead-units",
    )

    off: float = 3.0
    """Of the typical layer's rms, on either side of 1; well-initialized networks stay within."""

    def plan(self, case: Case) -> Plan | str:
        """Finds the layers that can be scaled, and whether their outputs are off."""
        record, found = case.record, layers(case)
        reason = unfit(found, lambda _: math.inf)
        if reason:
            return reason
        hidden = [x for x in found if not x.output and x.trainable]
        sizes = [record.value("forward.rms", x.site) or 0.0 for x in hidden if x.plain]
        ratios = [max(s, 1 / s) if s > 0 and math.isfinite(s) else math.inf for s in sizes]
        if not ratios or median(ratios) < self.off:
            return (
                "the typical hidden layer's output has an rms within a factor "
                f"{median(ratios) if ratios else 1:.3g} of 1 (worth a change from {self.off:g})"
            )
        fitting = [x for x in hidden if not _why_not(case, x)]
        if not fitting:
            return "; ".join(sorted({_why_not(case, x) for x in hidden}))
        drawn = [Drawn(x, orthogonal(x, 1.0), "") for x in fitting]
        left = [f"{x.name}: {why}." for x in hidden if (why := _why_not(case, x))]
        return Plan(
            self.code,
            "The output of every hidden layer has unit variance on this batch.",
            program(
                drawing(drawn),
                f"lsuv_(model, batch, {listing([x.name for x in fitting], ordered=True)})",
            ),
            given={"batch": case.batch},
            notes=(LOST, *left),
        )

    @staticmethod
    def sick() -> Case:
        """Twelve GELU layers at torch's default."""
        return example(lambda: plain(act=nn.GELU))

    @staticmethod
    def well() -> Case:
        """Twelve ReLU layers at He's."""
        return example(lambda: plain(gain=math.sqrt(2)))


def _why_not(case: Case, layer: Layer) -> str:
    """Why a weight cannot be scaled by its layer's output; empty if it can."""
    if layer.calls > 1:
        return f"used {layer.calls} times, and one scale cannot fit all of them; left alone"
    if layer.computed:
        return f"computed by {layer.computed.by}; left alone"
    if layer.gain == 0:
        return "starts at zero, on purpose or not; left alone"
    owner = case.model.get_submodule(layer.module)
    if isinstance(owner, (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)):
        return "several matrices inside one call; left alone"
    if isinstance(owner, torch.jit.ScriptModule) or layer.kind == "recurrent":
        return "inside a scripted or recurrent module; left alone"
    return ""
