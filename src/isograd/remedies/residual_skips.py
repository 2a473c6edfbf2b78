"""residual-skips: identity skips around the layers of a plain stack."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import indent
from typing import ClassVar

from isograd.remedies._activations import hidden
from isograd.remedies._code import listing, loop, number, program, quoted
from isograd.remedies._examples import example, plain
from isograd.remedies._layers import Layer, layers, stands_alone
from isograd.remedies._remedy import Case, Plan, Remedy

_IDEMPOTENT = ("relu", "leaky_relu", "prelu")
"""Activations that leave alone what has passed them once: the sum may go through them."""


@dataclass(frozen=True)
class ResidualSkips(Remedy):
    """Add identity skips to a plain stack.

    Does: wraps every layer that gives back the shape it gets: x + scale f(x), where f is the layer
        (behind a rectifier) or the layer with its activation (others, whose repetition would wear
        the stream down), and scale is 1/sqrt(number of skips), or learned from zero on
        (`learn=True`, SkipInit).

    Needs: at least `fewest` hidden layers as wide as what they read, in modules of their own that
        are used once, on a path that nothing bypasses yet; they must be `share` of the depth.

    Source: He et al. 2016, Deep residual learning for image recognition, and Identity mappings in
        deep residual networks; De and Smith 2020, Batch normalization biases residual blocks
        towards the identity function in deep networks.
    """

    code: ClassVar[str] = "residual-skips"
    family: ClassVar[str] = "residual"
    addresses: ClassVar[tuple[str, ...]] = (
        "missing-residual",
        "saturating-activation",
        "gain-mismatch",
        "init-too-small",
        "missing-normalization",
        "norm-placement",
    )

    learn: bool = False
    """Whether the scale is a parameter that starts at zero."""
    fewest: int = 4
    """Layers worth a skip: shallower stacks need none."""
    share: float = 0.5
    """Of the hidden layers: what is left without a skip still loses the signal."""

    def plan(self, case: Case) -> Plan | str:
        """Finds layers that keep the shape."""
        found = [x for x in layers(case) if not x.output]
        square = [x for x in found if _keeps_shape(case, x)]
        if len(square) < max(self.fewest, self.share * len(found)):
            return (
                f"{len(square)} of its {len(found)} hidden layers give back the shape they get and "
                f"have no skip yet; it is worth it from {self.fewest} and {self.share:.0%} on"
            )
        places = {i: p for p in hidden(case)[0] for i in p.sites if len(p.sites) == 1}
        alone = [x for x in square if x.activation.name in _IDEMPOTENT or x.reader is None]
        paired = [x for x in square if x not in alone and x.reader in places and _adjacent(case, x)]
        if len(alone) + len(paired) < max(self.fewest, self.share * len(found)):
            return (
                "its activations are functions called in the forward, which a skip cannot take in"
            )
        scale = "0.0, learn=True" if self.learn else number((len(alone) + len(paired)) ** -0.5)
        lines = []
        if alone:
            body = f"model.set_submodule(name, Skip(model.get_submodule(name), {scale}))"
            lines.append(loop("name", [x.module for x in alone], body))
        lines += _pairs([(x.module, places[x.reader or 0].names) for x in paired], scale)
        return Plan(
            self.code,
            f"Signal and gradient pass {len(alone) + len(paired)} layers unchanged, and each adds "
            "a little of its own.",
            program(*lines),
            keys="For each wrapped layer NAME.weight becomes NAME.body.weight (NAME.body.0.weight "
            "with its activation), and NAME.scale is new.",
        )

    def variants(self) -> tuple[Remedy, ...]:
        """A fixed scale, then a learned one."""
        return (self, replace(self, learn=not self.learn))

    @staticmethod
    def sick() -> Case:
        """Twenty ReLU layers."""
        return example(lambda: plain(20))

    @staticmethod
    def well() -> Case:
        """Two."""
        return example(lambda: plain(2))


def _keeps_shape(case: Case, layer: Layer) -> bool:
    site = case.record.sites[layer.site]
    before = [case.record.sites[i].shape for i in site.inputs]
    plain = not layer.bypassed and layer.kind in ("linear", "conv")
    return plain and stands_alone(case, layer) and len(before) == 1 and before[0] == site.shape


def _adjacent(case: Case, layer: Layer) -> bool:
    """Whether the activation reads the layer itself, with nothing between."""
    return layer.reader is not None and case.record.sites[layer.reader].inputs == (layer.site,)


def _pairs(found: Sequence[tuple[str, tuple[str, ...]]], scale: str) -> list[str]:
    """Layers take their activations in; the identity stands where these were."""
    single = [(name, act[0]) for name, act in found if len(act) == 1]
    lines = [_pair(quoted(name), [quoted(a) for a in act], scale) for name, act in found]
    if len(single) < 2 or len(single) < len(found):
        return lines
    names, acts = (listing(column, ordered=True) for column in zip(*single, strict=True))
    body = indent(_pair("name", ["act"], scale), "    ")
    return [f"for name, act in zip({names}, {acts}):\n{body}"]


def _pair(name: str, act: Sequence[str], scale: str) -> str:
    """One of them; names as code."""
    lines = [f"both = nn.Sequential(model.get_submodule({name}), model.get_submodule({act[0]}))"]
    lines += [f"model.set_submodule({name}, Skip(both, {scale}))"]
    lines += [f"model.set_submodule({n}, nn.Identity())" for n in act]
    return "\n".join(lines)
