"""normalization-insert: a norm between every layer and its activation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mode
from typing import ClassVar, Literal

from isograd.records import Record
from isograd.remedies._activations import hidden
from isograd.remedies._code import loop, number, program, where
from isograd.remedies._examples import example, plain
from isograd.remedies._layers import Layer, layers, stands_alone
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.theory import norm_growth

Kind = Literal["batch", "layer", "rms", "group"]
_EPS = 1e-5
"""What torch's norms add to the variance."""


@dataclass(frozen=True)
class NormalizationInsert(Remedy):
    """Normalize between the layers.

    Does: puts a norm between every hidden layer and its activation (or behind the layer, where that
        is no module): the scale of the weights then no longer matters to what the next layer sees.
        `kind="auto"` takes batch norm for batches that are large enough and stacks in which its
        gradients do not explode, else layer norm (for convolutions a group norm of one group),
        which keeps gradients but not the differences between samples.

    Needs: hidden layers in modules of their own, used once, without a norm behind them, over which
        the signal or the gradient changes by more than `worth`, or a finding about it, and more
        variance over the samples than an eps swallows. Without
        skips the gradient's energy grows per layer by E phi'^2/Var phi behind a batch norm (x1.47
        with ReLU): deep plain stacks explode backward, which the plan says.

    Source: Ioffe and Szegedy 2015, Batch normalization; Ba, Kiros and Hinton 2016, Layer
        normalization; Zhang and Sennrich 2019, Root mean square layer normalization; Wu and He
        2018, Group normalization; Yang et al. 2019, A mean field theory of batch normalization.
    """

    code: ClassVar[str] = "normalization-insert"
    family: ClassVar[str] = "normalization"
    addresses: ClassVar[tuple[str, ...]] = (
        "missing-normalization",
        "gain-mismatch",
        "init-too-small",
        "init-too-large",
        "saturating-activation",
        "dead-units",
        "input-not-normalized",
        "exploding-activation",
        "missing-residual",
    )

    kind: Literal["auto", "batch", "layer", "rms", "group"] = "auto"
    """Which norm."""
    worth: float = 10.0
    """Factor between the largest and the smallest layer's signal or gradient."""
    values: int = 16
    """Values per channel for a batch norm: with fewer its mean is off by a quarter of itself."""
    explodes: float = 1e4
    """Growth of the gradient over the stack from which not even a batch norm trains: with Adam,
    ReLU networks do up to 30 layers (300), not at 50 (1e4)."""
    tells: float = 30.0
    """Growth that is worth a warning."""
    swallowed: float = 0.01
    """Variance over a norm's eps below which the norm hands on a tenth of unit variance at most,
    and its running mean strays by more than what varies."""

    def plan(self, case: Case) -> Plan | str:
        """Finds layers without a norm, and what kind fits."""
        found = [x for x in layers(case) if not x.output]
        fitting = [x for x in found if not x.normalized and _fits(case, x)]
        if not fitting:
            return f"none of its {len(found)} hidden layers is a module without a norm behind it"
        change = _range(case.record, fitting)
        if change < self.worth and not case.has(*self.addresses):
            return f"signal and gradient change by x{number(change)} over its layers, which is fine"
        spread = case.record.value("forward.spread", fitting[0].site)
        varies = math.inf if spread is None else spread**2
        if varies < self.swallowed * _EPS:
            return (
                f"what {fitting[0].module} hands on has a variance of {number(varies)} over the "
                f"samples, which a norm's eps of {number(_EPS)} swallows: scale the inputs first"
            )
        kind: Kind = self._kind(case, fitting) if self.kind == "auto" else self.kind
        news = {x.module: _norm(case, x, kind) for x in fitting}
        if None in news.values():
            name = next(n for n, new in news.items() if new is None)
            return f"a {kind} norm does not fit the output of {name}"
        places = {i: p for p in hidden(case)[0] for i in p.sites if len(p.sites) == 1}
        lines, groups = [], dict[tuple[str, bool], list[str]]()
        for x in fitting:
            place = places.get(-1 if x.reader is None else x.reader)
            before = place is not None and len(place.names) == 1
            name = place.names[0] if place is not None and before else x.module
            groups.setdefault((str(news[x.module]), before), []).append(name)
        for (new, before), names in groups.items():
            own = "model.get_submodule(name)"
            both = f"{new}, {own}" if before else f"{own}, {new}"
            lines.append(loop("name", names, f"model.set_submodule(name, nn.Sequential({both}))"))
        growth = _growth(fitting, kind)
        notes = []
        if growth > self.tells:
            notes.append(
                f"Without skips {kind} norms let the gradient grow x{number(growth)} over these "
                f"{len(fitting)} layers: add skips, or initialize at the critical gain instead."
            )
        where_to = (
            "in front of the activations" if any(b for _, b in groups) else "behind the layers"
        )
        return Plan(
            self.code,
            f"Every hidden layer hands on a signal of unit variance ({kind} norm {where_to}).",
            program(*lines),
            keys="New are the keys of the norms; activations with parameters of their own move to "
            "NAME.1, wrapped layers to NAME.0.",
            notes=tuple(notes),
        )

    def variants(self) -> tuple[Remedy, ...]:
        """The one that fits, then both usual ones."""
        return (self, replace(self, kind="batch"), replace(self, kind="layer"))

    def _kind(self, case: Case, fitting: Sequence[Layer]) -> Kind:
        shapes = [case.record.sites[x.site].shape for x in fitting]
        values = min(math.prod(s) // s[1] for s in shapes)
        linear = any(
            x.kind == "linear" and len(s) > 2 for x, s in zip(fitting, shapes, strict=True)
        )
        if linear or values < self.values or _growth(fitting, "batch") > self.explodes:
            return "layer"
        return "batch"

    @staticmethod
    def sick() -> Case:
        """Twelve ReLU layers at torch's default."""
        return example(plain)

    @staticmethod
    def well() -> Case:
        """Four with He's."""
        return example(lambda: plain(4, gain=math.sqrt(2)))


def _fits(case: Case, layer: Layer) -> bool:
    shape = case.record.sites[layer.site].shape
    return stands_alone(case, layer) and len(shape) > 1 and not layer.bypassed


def _norm(case: Case, layer: Layer, kind: Kind) -> str | None:
    """The constructor's call; None where it does not fit the shape."""
    shape = case.record.sites[layer.site].shape
    more = where(case.model, ", ")
    conv = layer.kind == "conv"
    channels = shape[1] if conv else shape[-1]
    if kind == "batch":
        spatial = len(shape) - 2 if conv else 0
        if not conv and len(shape) != 2:
            return None
        return f"nn.BatchNorm{max(spatial, 1)}d({channels}{more})"
    if conv or kind == "group":
        if not conv and len(shape) != 2:
            return None
        groups = (
            1
            if kind != "group"
            else max(
                g
                for g in (1, 2, 4, 8, 16, 32)
                if channels % g == 0 and channels // g >= min(8, channels)
            )
        )
        return f"nn.GroupNorm({groups}, {channels}{more})"
    name = "RMSNorm" if kind == "rms" else "LayerNorm"
    return f"nn.{name}({channels}{more})"


def _range(record: Record, fitting: Sequence[Layer]) -> float:
    """Largest over smallest signal or gradient among the layers."""
    worst = 1.0
    sites = {x.site for x in fitting}
    for key in ("forward.rms", "backward.rms"):
        values = [v for i, v in record.pairs(key) if i in sites]
        if values and min(values) <= 0:
            return math.inf
        if values:
            worst = max(worst, max(values) / min(values))
    return worst


def _growth(fitting: Sequence[Layer], kind: Kind) -> float:
    """Of the gradient's rms over the plain layers, by theory."""
    plain = [x for x in fitting if x.plain]
    if not plain:
        return 1.0
    name = mode(x.activation.name for x in plain)
    act = next(x.activation for x in plain if x.activation.name == name)
    norm: Literal["batch", "layer", "rms"] = "layer" if kind == "group" else kind
    per_layer = norm_growth(act, norm).growth or 1.0
    return math.exp(min(math.log(per_layer) / 2 * len(plain), 700.0))
