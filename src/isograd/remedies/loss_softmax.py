"""loss-softmax: a softmax or sigmoid that the loss applies again taken away."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn import functional as F

from isograd.records import Site
from isograd.remedies._activations import aliases_of, last_activation
from isograd.remedies._code import loop, program
from isograd.remedies._examples import classes, example, plain
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class LossSoftmax(Remedy):
    """Take away a softmax or sigmoid that the loss applies again.

    Does: replaces a softmax or sigmoid in front of cross entropy (or of binary cross entropy with
        logits), which apply one themselves, by the identity: the model then returns logits. A
        softmax over one unit, which is always 1, goes too: it becomes a sigmoid for binary targets.
        One that runs over the samples of the batch runs over the last axis then.

    Needs: such a pair, or such a softmax, with the softmax or sigmoid in a module of its own at the
        end of the model.

    Source: torch.nn.CrossEntropyLoss, whose input is unnormalized logits; Bridle 1990,
        Probabilistic interpretation of feedforward classification network outputs.
    """

    code: ClassVar[str] = "loss-softmax"
    family: ClassVar[str] = "loss"
    addresses: ClassVar[tuple[str, ...]] = ("loss-mismatch",)

    def plan(self, case: Case) -> Plan | str:
        """Looks at what enters the loss."""
        record = case.record
        kind = record.fact("loss.kind")
        ops = tuple(record.fact("loss.input_ops") or ())
        last = last_activation(case)
        twice = (kind == "cross_entropy" and {"softmax", "sigmoid"} & set(ops)) or (
            kind == "bce_logits" and "sigmoid" in ops
        )
        lonely = record.fact("output.softmax_width") == 1 and "softmax" in ops
        across = not twice and record.fact("output.softmax_axis") == 0 and case.has("loss-mismatch")
        if not twice and not lonely and not across:
            return (
                f"what enters the loss ({kind or 'none'}) went through no softmax that it repeats"
            )
        last = record.fact("loss.input_site") if across else last
        site = record.sites[last] if isinstance(last, int) else None
        kinds = ("softmax", "log_softmax") if across else ("softmax", "sigmoid")
        if site is None or site.kind not in kinds:
            return "it is called in the forward, not a module: return the logits there"
        names = aliases_of(case.model, site.name.split("#")[0])
        if not names or _elsewhere(case, site):
            return f"{site.name} is not a module of its own: return the logits in the forward"
        if across:
            new = "nn.Softmax(-1)" if site.kind == "softmax" else "nn.LogSoftmax(-1)"
            return Plan(
                self.code,
                f"{site.name} compares the classes of a sample in place of the samples of a batch.",
                program(loop("name", names, f"model.set_submodule(name, {new})")),
            )
        binary = lonely and kind in ("bce", "mse") and record.fact("target.kind") == "binary"
        new = "nn.Sigmoid()" if binary else "nn.Identity()"
        effect = "now it is a sigmoid" if binary else "the loss sees logits of any size"
        return Plan(
            self.code,
            f"No {site.kind} holds the outputs within a narrow range: {effect}.",
            program(loop("name", names, f"model.set_submodule(name, {new})")),
            notes=()
            if binary
            else (f"The model returns logits: apply {site.kind} to them to get probabilities.",),
        )

    @staticmethod
    def sick() -> Case:
        """Softmax in front of cross entropy."""
        return example(lambda: nn.Sequential(*plain(2), nn.Softmax(1)), classes, F.cross_entropy)

    @staticmethod
    def well() -> Case:
        """Logits in front of it."""
        return example(lambda: plain(2), classes, F.cross_entropy)


def _elsewhere(case: Case, site: Site) -> bool:
    own = site.name.split("#")[0]
    return sum(s.name.split("#")[0] == own for s in case.record.sites) > 1
