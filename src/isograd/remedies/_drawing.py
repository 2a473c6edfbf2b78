"""Drawing weights anew: which ones, and the code that does it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from isograd.remedies._code import loop
from isograd.remedies._layers import Layer

OFF = 1.15
"""A factor on the gain that is worth a change: 1.15 is 4 over ten layers; draws differ by less."""


@dataclass(frozen=True)
class Drawn:
    """One weight and the call that fills it."""

    layer: Layer
    call: str
    """About `weight`."""
    why: str
    """Said once, beside the call."""


def drawing(drawn: Sequence[Drawn], *, bias: str = "nn.init.zeros_(bias)") -> str:
    """Code that fills the weights, equal calls in one loop, and then all their biases."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in drawn:
        groups.setdefault((one.call, one.why), []).append(one.layer.name)
    lines = ["from torch import nn", ""]
    for (call, why), names in groups.items():
        body = f"weight = model.get_parameter(name)\n{call}  # {why}"
        lines.append(loop("name", names, body))
    biases = list(dict.fromkeys(d.layer.bias for d in drawn if d.layer.bias))
    if biases and bias:
        lines.append(loop("name", biases, f"bias = model.get_parameter(name)\n{bias}"))
    return "\n".join(lines)


def misfit(layer: Layer, wanted: float) -> float:
    """By what factor the gain is off, at least 1; infinite where it is zero."""
    if layer.gain <= 0:
        return math.inf
    return max(layer.gain / wanted, wanted / layer.gain)


def unfit(found: Sequence[Layer], off: Callable[[Layer], float]) -> str:
    """Why drawing the weights of a network anew would change nothing; empty if it would.

    Args:
        found: all its layers.
        off: by what factor the gain of one is off, at least 1.
    """
    hidden = [x for x in found if not x.output]
    plain = [x for x in hidden if x.plain and x.kind != "recurrent"]
    if not hidden:
        return "it has no hidden weight layer"
    if not plain:
        return (
            f"each of its {len(hidden)} hidden weight layers has a norm behind it or a skip "
            "connection around it, so that its gain does not set the scale"
        )
    if not any(x.trainable for x in plain):
        return "its hidden weight layers are frozen"
    middle = median(off(x) for x in plain)
    if middle < OFF and sum(off(x) > 2 for x in plain) == 0:
        return (
            f"the typical hidden weight has the gain that fits, within a factor {middle:.3g} "
            f"(worth a change from {OFF})"
        )
    return ""
