"""loss-softmax: a softmax or sigmoid that the loss applies again taken away."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn import functional as F

from isograd.records import Site
from isograd.remedies._activations import aliases_of, last_activation
from isograd.remedies._code import loop, program
from isograd.remedies._examples import classes, example, plain
from isograd.remedies._losses import is_torchs
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class LossSoftmax(Remedy):
    """Take away a softmax or sigmoid that the loss applies again.

    Does: replaces a softmax or sigmoid in front of cross entropy (or of binary cross entropy with
        logits), which apply one themselves, by the identity: the model then returns logits. A
        softmax over one unit, which is always 1, goes too: it becomes a sigmoid for binary targets.
        Where it is called in the forward, a loss of torch gets its inverse (log or logit) instead.
        One that runs over the samples of the batch runs over the last axis then.

    Needs: such a pair, or such a softmax, with the softmax or sigmoid in a module of its own at the
        end of the model; or the softmax or sigmoid called last in the forward, and as the loss
        `cross_entropy` or `binary_cross_entropy_with_logits` itself, as a function or a module.

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
            if twice and ops[-2:-1] == (site.kind,) and is_torchs(case):
                return self._undone(case, site.kind)
            inverse = "log" if site.kind == "softmax" else "logit"
            other = f", or give {kind} outputs.{inverse}() in the loss" if twice else ""
            return (
                f"{site.name} is not a module of its own: return the logits in the forward{other}"
            )
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
            else (
                f"The model returns logits: apply {_OWN.get(str(kind), site.kind)} to them to get "
                "probabilities.",
            ),
        )

    def _undone(self, case: Case, kind: str) -> Plan | str:
        """The loss of the logits that a softmax or sigmoid in the forward was computed from."""
        axis, wide = case.record.fact("output.softmax_axis"), case.record.fact("output.shape")
        if kind == "softmax" and axis != (1 if len(wide or ()) > 1 else 0):
            return f"the softmax in the forward runs over axis {axis}: return the logits there"
        least = "torch.finfo(outputs.dtype)"
        inverse = {
            "softmax": f"outputs.clamp_min({least}.tiny).log()",
            "sigmoid": f"outputs.logit({least}.eps)",
        }[kind]
        return Plan(
            self.code,
            f"The loss no longer applies {kind} to what went through one: it can fall to 0.",
            program(
                f"# shorter: return what enters the {kind} in the forward, and keep the loss",
                "of_logits = loss",
                f"loss = lambda outputs, targets: of_logits(\n    {inverse}, targets\n)",
            ),
            given={"loss": case.loss},
            notes=(f"The model still returns what its {kind} gives.",),
        )

    @staticmethod
    def sick() -> Case:
        """Softmax in front of cross entropy."""
        return example(lambda: nn.Sequential(*plain(2), nn.Softmax(1)), classes, F.cross_entropy)

    @staticmethod
    def well() -> Case:
        """Logits in front of it."""
        return example(lambda: plain(2), classes, F.cross_entropy)


_OWN = {"cross_entropy": "softmax", "bce_logits": "sigmoid"}
"""What a loss applies to its logits, and so what makes probabilities of them."""


def _elsewhere(case: Case, site: Site) -> bool:
    own = site.name.split("#")[0]
    return sum(s.name.split("#")[0] == own for s in case.record.sites) > 1
