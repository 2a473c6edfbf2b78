"""loss-classes: an output for every class, where class numbers were taken for probabilities."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from isograd.remedies._activations import aliases_of, last_activation
from isograd.remedies._code import program, where
from isograd.remedies._examples import example, plain
from isograd.remedies._inputs import Parts
from isograd.remedies._layers import layers
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.sites.batches import as_batch


@dataclass(frozen=True)
class LossClasses(Remedy):
    """Give every class an output of its own.

    Does: replaces the last layer, of one unit, by one with a unit for every class, takes the
        sigmoid behind it away, and the loss becomes the cross entropy of the labels.

    Needs: a binary cross entropy that gets the numbers of more than two classes, a last layer
        `nn.Linear` of one unit in a module of its own, and a sigmoid, if any, likewise.

    Source: Bishop 2006, Pattern recognition and machine learning, section 4.3.4.
    """

    code: ClassVar[str] = "loss-classes"
    family: ClassVar[str] = "loss"
    addresses: ClassVar[tuple[str, ...]] = ("loss-mismatch",)

    most: int = 1000
    """Numbers above this are hardly classes."""

    def plan(self, case: Case) -> Plan | str:
        """Looks at the targets and at the last layer."""
        record = case.record
        kind, targets = record.fact("loss.kind"), as_batch(case.batch).targets
        if kind not in ("bce", "bce_logits") or not isinstance(targets, Tensor):
            return f"the loss is {kind or 'none'}, not a binary cross entropy of targets"
        values = targets.detach().double()
        whole = bool((values == values.round()).all()) and bool((values >= 0).all())
        if not whole or not 1 < float(values.max()) <= self.most or len(values.unique()) < 3:
            return "the targets are not the numbers of more than two classes"
        if values.numel() != len(targets):
            return "a sample has more than one target"
        last = [x for x in layers(case) if x.output]
        module = last[-1].module if len(last) == 1 else ""
        owner = dict(case.model.named_modules()).get(module)
        if not isinstance(owner, nn.Linear) or owner.out_features != 1 or last[0].calls > 1:
            return "no last layer nn.Linear of one unit in a module of its own"
        lines = []
        place = last_activation(case)
        if place is not None:
            site = record.sites[place]
            names = aliases_of(case.model, site.name.split("#")[0])
            if not names:
                return f"{site.name} is called in the forward, not a module: leave it out there"
            lines = [f'model.set_submodule("{name}", nn.Identity())' for name in names]
        parts = [part for part in Parts(case, None) if isinstance(part, Tensor) and part.numel()]
        count = 1 + int(max(float(part.max()) for part in (targets, *parts)))
        new = f"nn.Linear({owner.in_features}, {count}{where(case.model, ', ')})"
        return Plan(
            self.code,
            f"Each of {count} classes has a logit of its own, and the loss is 0 at its best.",
            program(f'model.set_submodule("{module}", {new})', *lines, "loss = ClassLabels()"),
            given={"loss": case.loss},
            notes=(
                f"The model returns {count} logits: their argmax is the class.",
                f"{module} is drawn anew.",
            ),
        )

    @staticmethod
    def sick() -> Case:
        """Seven classes."""
        return example(lambda: nn.Sequential(*plain(2, out=1), nn.Sigmoid()), _classes, _binary)

    @staticmethod
    def well() -> Case:
        """Zeros and ones."""
        return example(lambda: nn.Sequential(*plain(2, out=1), nn.Sigmoid()), _yes_no, _binary)


def _binary(outputs: Tensor, targets: Tensor) -> Tensor:
    return -(targets * outputs.log() + (1 - targets) * (1 - outputs).log()).mean()


def _classes() -> tuple[Tensor, Tensor]:
    x = torch.randn(60, 20)
    return x, (x @ torch.randn(20, 7)).argmax(1, keepdim=True).float()


def _yes_no() -> tuple[Tensor, Tensor]:
    x = torch.randn(60, 20)
    return x, (x[:, :1] > 0).float()
