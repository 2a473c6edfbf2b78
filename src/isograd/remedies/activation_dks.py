"""activation-dks: constants around smooth activations that let a plain network be deep."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import nn

from isograd.errors import InputError
from isograd.remedies._activations import hidden
from isograd.remedies._code import loop, program, quoted
from isograd.remedies._drawing import LOST, Drawn, drawing, orthogonal
from isograd.remedies._examples import example, plain
from isograd.remedies._layers import layers
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.sites import NORMS
from isograd.theory import transform


@dataclass(frozen=True)
class ActivationDks(Remedy):
    """Transform smooth activations by their depth.

    Does: puts every activation phi between constants, s (phi(a x + b) + o), so that signal,
        gradient and the angles between inputs survive the network's depth (deep kernel shaping, or
        tailored activations), and draws orthogonal weights of gain 1, biases zero. This centers
        sigmoid and softplus, which no initialization makes trainable at depth.

    Needs: a plain network without norms and skips, at least `depth` activations that are modules,
        smooth (rectifiers are for activation-tat) and of one kind. The papers train with a
        second-order optimizer; with SGD and Adam it takes more steps.

    Source: Martens et al. 2021, Rapid training of deep neural networks without skip connections or
        normalization layers using deep kernel shaping; Zhang, Botev and Martens 2022, Deep learning
        without shortcuts.
    """

    code: ClassVar[str] = "activation-dks"
    family: ClassVar[str] = "activation"
    addresses: ClassVar[tuple[str, ...]] = (
        "saturating-activation",
        "missing-residual",
        "gain-mismatch",
    )

    method: Literal["dks", "tat"] = "dks"
    """Deep kernel shaping bounds the map's slope, tailoring its curvature."""
    depth: int = 5
    """Fewest activations for which it is worth it."""

    def plan(self, case: Case) -> Plan | str:
        """Finds the constants for the number of activations."""
        found = layers(case)
        places, functions = hidden(case)
        kinds = sorted({p.kind for p in places})
        shaped = sum(not x.plain for x in found if not x.output)
        if any(s.kind in NORMS for s in case.record.sites) or shaped:
            return f"it has norms or skips ({shaped} of its layers), which set the kernel already"
        if functions or len(kinds) != 1:
            told = functions[0] if functions else ", ".join(kinds) or "none"
            return f"its hidden activations are not modules of one kind ({told})"
        count = sum(len(p.sites) for p in places)
        if count < self.depth:
            return f"it has {count} activations; it is worth it from {self.depth} on"
        try:
            transform(kinds[0], self.method, depth=count)
        except InputError as error:
            return str(error)
        names = [name for p in places for name in p.names]
        made = f"transform({quoted(kinds[0])}, {quoted(self.method)}, depth={count})"
        lines = [
            f"made = {made}",
            loop("name", names, "model.set_submodule(name, made.module())"),
            drawing([Drawn(x, orthogonal(x, 1.0), "gain 1") for x in found if x.trainable]),
        ]
        return Plan(
            self.code,
            f"Over {count} layers of {kinds[0]} signal, gradient and angles keep within the bounds "
            "that training needs.",
            program(*lines),
            notes=(
                LOST,
                "Constants of the activations are plain numbers of their modules.",
            ),
        )

    def variants(self) -> tuple[Remedy, ...]:
        """Both methods."""
        return (self, replace(self, method="tat"))

    @staticmethod
    def sick() -> Case:
        """Ten sigmoid layers."""
        return example(lambda: plain(10, nn.Sigmoid))

    @staticmethod
    def well() -> Case:
        """Three of them."""
        return example(lambda: plain(3, nn.Sigmoid))
