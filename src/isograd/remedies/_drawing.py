"""Drawing weights anew: which ones, and the code that does it."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from isograd.remedies._code import loop, number
from isograd.remedies._layers import Layer
from isograd.theory import Activation, Gains, gains

OFF = 1.15
"""A factor on the gain that is worth a change: 1.15 is 4 over ten layers; draws differ by less."""
LOST = "The weights are drawn anew: what the network has learned is gone."
"""Note of whoever draws them."""


@dataclass(frozen=True)
class Drawn:
    """One weight and the call that fills it."""

    layer: Layer
    call: str
    """About `weight`."""
    why: str
    """Said once, beside the call."""


def keeping(layer: Layer, of: Callable[[Gains], float] = lambda g: g.second_moment) -> float:
    """The gain of a layer: it undoes what the activation that it reads does to the signal.

    A first layer has what its own activation will undo, if that is a rectifier, as He's
    initialization does; a last layer has 1, so that outputs start small.

    Args:
        layer: the layer.
        of: which of the gains.
    """
    if layer.output:
        return 1.0
    if layer.reads is not None:
        return of(gains(layer.reads))
    return of(gains(layer.activation)) if layer.activation.homogeneous else 1.0


def reading(layer: Layer) -> str:
    """What a draw says of its gain."""
    name = "the output" if layer.output else (layer.reads or layer.activation).name
    return f"after {name}" if layer.reads and not layer.output else f"for {name}"


def normal(layer: Layer, gain: float) -> str:
    """The call that draws independent entries of a gain."""
    return f"nn.init.normal_(weight, std={number(gain / math.sqrt(layer.fan_in))})"


def orthogonal(layer: Layer, gain: float) -> str:
    """The call that draws a (semi-)orthogonal matrix: a norm kept where it is square or narrows.

    torch gives orthonormal rows or columns, whichever are fewer: where a layer widens, every unit
    then has only sqrt(in/out) of its gain, so that the factor here makes up for it.
    """
    if layer.kind == "conv" and layer.fan_in != math.prod(layer.shape[1:]):
        return normal(layer, gain)  # transposed: no one matrix maps a patch to a patch
    out = layer.shape[1] if layer.transposed else layer.shape[0]
    told = number(gain * math.sqrt(max(1.0, out / layer.blocks / layer.fan_in)))
    if layer.blocks == 1:
        return filled(layer, "weight", told)
    return (
        f"for block in weight.detach().chunk({layer.blocks}):\n    {filled(layer, 'block', told)}"
    )


def filled(layer: Layer, part: str, gain: str) -> str:
    """The call that makes a part of a weight orthogonal."""
    if not layer.half:
        return f"nn.init.orthogonal_({part}, gain={gain})"
    made = f"nn.init.orthogonal_(torch.empty({part}.shape), gain={gain})"
    return f"{part}.detach().copy_({made})"


def redrawn(
    found: Sequence[Layer],
    draw: Callable[[Layer, float], str],
    gain: Callable[[Layer], float] = keeping,
) -> list[Drawn]:
    """Draws of all weights that are trained.

    Args:
        found: all layers.
        draw: gives the call for a layer and its gain, as `normal` or `orthogonal`.
        gain: of a layer.
    """
    return [
        Drawn(x, draw(x, gain(x)), f"gain {number(gain(x))} {reading(x)}")
        for x in found
        if x.trainable
    ]


def scattered(layer: Layer) -> bool:
    """Whether the units' weights are independent draws, or worse, rather than orthogonal."""
    return layer.cosine > 0.3 / layer.fan_in and layer.shape[0] <= layer.fan_in


def drawn_for(
    found: Sequence[Layer],
    exchanged: Collection[int],
    new: Activation,
    draw: Callable[[Layer, float], str] = normal,
) -> list["Drawn"]:
    """Draws of all weights as if activations were exchanged already; none without plain layers.

    Args:
        found: all layers.
        exchanged: indices of the activations' sites.
        new: what stands there then.
        draw: `normal` or `orthogonal`.
    """
    if not any(x.plain and not x.output for x in found):
        return []
    then = [
        replace(
            x,
            activation=new if x.reader in exchanged else x.activation,
            reads=new if x.read in exchanged else x.reads,
        )
        for x in found
        if x.kind != "recurrent"
    ]
    return redrawn(then, draw)


def drawing(
    drawn: Sequence[Drawn], *, zero: bool = True, biases: Mapping[str, float] | None = None
) -> str:
    """Lines that fill the weights, equal calls in one loop, and then their biases.

    Args:
        drawn: the weights, at least one.
        zero: whether their biases become zero.
        biases: names of biases that are drawn instead, with their standard deviation.
    """
    groups: dict[str, list[str]] = {}
    for one in drawn:
        how, fill = one.layer.computed, one.call + (f"  # {one.why}" if one.why else "")
        body = f"weight = model.get_parameter(name)\n{fill}"
        if how is not None:
            body = f"module = model.get_submodule(name)\n{how.take}\n{fill}\n{how.put}"
        groups.setdefault(body, []).append(one.layer.name if how is None else one.layer.module)
    lines = [loop("name", names, body) for body, names in groups.items()]
    noisy = biases or {}
    for std in sorted(set(noisy.values())):
        same = [name for name, its in noisy.items() if its == std]
        fill = f"nn.init.normal_(model.get_parameter(name), std={number(std)})"
        lines.append(loop("name", same, fill))
    still = list(dict.fromkeys(d.layer.bias for d in drawn if d.layer.bias))
    still = [name for name in still if name not in noisy]
    if still and zero:
        lines.append(loop("name", still, "nn.init.zeros_(model.get_parameter(name))"))
    return "\n".join(lines)


def misfit(layer: Layer, wanted: float) -> float:
    """By what factor the gain is off, at least 1; infinite where it is zero."""
    if layer.gain <= 0:
        return math.inf
    return max(layer.gain / wanted, wanted / layer.gain)


DEEP = 10
"""Plain layers from which it matters that weights are orthogonal: by then the singular values of
a product of Gaussian matrices are spread over a decade."""


def orthogonal_misfit(found: Sequence[Layer], wanted: Callable[[Layer], float]) -> str:
    """`unfit` of a draw that is orthogonal: in deep networks that is worth a change by itself."""
    deep = sum(x.plain and not x.output for x in found) >= DEEP

    def off(layer: Layer) -> float:
        return max(misfit(layer, wanted(layer)), 2.0 if deep and scattered(layer) else 1.0)

    return unfit(found, off)


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
        by = {x.computed.by for x in plain if x.computed}
        told = f"computed by {', '.join(sorted(by))}, which gives back another weight than is set"
        return f"its hidden weights are {told if by else 'frozen'}"
    middle = median(off(x) for x in plain)
    if middle < OFF and sum(off(x) > 2 for x in plain) == 0:
        return (
            f"the typical hidden weight has the gain that fits, within a factor {middle:.3g} "
            f"(worth a change from {OFF})"
        )
    return ""
