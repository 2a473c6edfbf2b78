"""loss-logits: a likelihood computed from logits in place of probabilities."""

from dataclasses import dataclass
from math import isclose
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.records import Record
from isograd.remedies._activations import aliases_of, last_activation
from isograd.remedies._code import loop, program
from isograd.remedies._examples import example, plain
from isograd.remedies._losses import is_torchs
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.sites.batches import as_batch
from isograd.sites.facts import target_facts


@dataclass(frozen=True)
class LossLogits(Remedy):
    """Compute the loss from logits.

    Does: replaces the last sigmoid or softmax by the identity and the loss by
        `binary_cross_entropy_with_logits` or `cross_entropy`. With a likelihood computed from
        probabilities this is the same loss without its logarithm of 0; with a squared error
        it is another one, whose gradient does not fade where the network is sure and wrong: of
        sigmoids and class numbers, which such a loss spreads over a column for each class, too.
        Before a divergence (`kl_div`) the softmax becomes a `LogSoftmax`, and the loss stays.
        `nll_loss` of logits becomes `cross_entropy`; of probabilities, that of their logarithm.
        A cross entropy of several labels a sample becomes a binary one of each. Logarithms of p
        and 1 - p whose p is no probability, but what tanh, a rectifier or the last layer gives,
        become the loss of the last layer's logits.

    Needs: a sigmoid (softmax) module that ends the model, targets of zeros and ones (classes;
        for `kl_div` numbers) or class numbers of which a squared error makes one column for each
        class, a loss that is not one of the two already, and a reason: an output that is
        saturated, a non-finite loss, a squared error, or a finding that names the pair.
        Or `nll_loss` itself, as a function or module, of outputs that are no logarithms; or a
        cross entropy of logits with targets of zeros and ones that do not add up to one; or a
        binary cross entropy, written by hand, of numbers below 0 or above 1.

    Source: Bishop 1995, Neural networks for pattern recognition, section 6.9; Golik, Doetsch and
        Ney 2013, Cross-entropy vs. squared error training.
    """

    code: ClassVar[str] = "loss-logits"
    family: ClassVar[str] = "loss"
    addresses: ClassVar[tuple[str, ...]] = (
        "loss-mismatch",
        "output-activation",
        "local-nan",
        "dead-output",
    )

    flat: float = 0.5
    """Share of saturated outputs from which the probability is in the way of the gradient."""
    several: float = 0.05
    """How far from 1 the targets of a sample add up to for being no probabilities of classes."""

    def plan(self, case: Case) -> Plan | str:
        """Looks at the last module, the targets and the loss."""
        record = case.record
        kind = record.fact("loss.kind")
        if kind == "nll" and case.has("loss-mismatch"):
            return self._likelihood(case)
        if (record.fact("target.improper") or 0.0) > self.several:
            return self._labels(case)
        # The new loss gets the targets of the batch, whatever the user's made of them.
        target = target_facts(as_batch(case.batch).targets, None, None).get("target.kind")
        last = last_activation(case)
        site = None if last is None else record.sites[last]
        if site is None or site.kind not in ("sigmoid", "softmax"):
            if kind == "bce" and target == "binary" and case.has("loss-mismatch"):
                return self._improper(case, last)
            return "no sigmoid or softmax ends the model"
        if kind in ("cross_entropy", "bce_logits", "model", "probe", None):
            return f"the loss ({kind or 'none'}) takes logits or is not known"
        if kind == "kl" and site.kind == "softmax":
            return self._logarithm(case, site.name.split("#")[0])
        fits = {"binary": site.kind == "sigmoid", "class": len(site.shape) == 2}
        if target == "class" and site.kind == "sigmoid":
            fits["class"] &= kind == "mse" and _one_hot(record, site.shape[-1])
        if not fits.get(target or "", False):
            return f"{site.kind} with targets that are {target or 'absent'} is no likelihood"
        names = _alone(case, last or 0)
        if not names:
            return f"{site.name} is not a module of its own: return the logits in the forward"
        flat = record.value("forward.saturated", last or 0) or 0.0
        broken = record.fact("event.forward") or record.fact("event.backward")
        if not (kind == "mse" or flat > self.flat or broken or case.has(*self.addresses)):
            return f"{site.kind} and {kind} fit each other, and {100 * flat:.0f} % is saturated"
        new, probable = "F.cross_entropy", "softmax"
        if target == "binary":
            new, probable = "F.binary_cross_entropy_with_logits", "sigmoid"
        return Plan(
            self.code,
            "The gradient of the loss no longer fades where an answer is sure and wrong.",
            program(
                loop("name", names, "model.set_submodule(name, nn.Identity())"), f"loss = {new}"
            ),
            given={"loss": case.loss},
            notes=(f"The model returns logits: apply {probable} to them to get probabilities.",),
        )

    def _improper(self, case: Case, last: int | None) -> Plan | str:
        """Binary cross entropy of what is no probability."""
        lines = []
        if last is not None:
            site = case.record.sites[last]
            if not (names := _alone(case, last)):
                return f"{site.name} is not a module of its own: return the logits in the forward"
            lines = [loop("name", names, "model.set_submodule(name, nn.Identity())")]
        return Plan(
            self.code,
            "The loss is that of probabilities, and has a gradient whatever the outputs are.",
            program(*lines, "loss = F.binary_cross_entropy_with_logits"),
            given={"loss": case.loss},
            notes=("The model returns logits: apply sigmoid to them to get probabilities.",),
        )

    def _labels(self, case: Case) -> Plan | str:
        """Cross entropy of targets of which several are true at once."""
        ops = set(case.record.fact("loss.input_ops") or ())
        if case.record.fact("target.kind") != "binary":
            return "the targets of a sample are no labels that are true or false"
        if ops & {"softmax", "sigmoid"}:
            return "what enters the loss went through a softmax or sigmoid: return the logits first"
        return Plan(
            self.code,
            "Every label is a question of its own, and the loss is 0 at its best.",
            program("loss = F.binary_cross_entropy_with_logits"),
            given={"loss": case.loss},
            notes=("The model returns logits: apply sigmoid to them to get probabilities.",),
        )

    def _likelihood(self, case: Case) -> Plan | str:
        """`nll_loss` of what is no logarithm of a probability."""
        record = case.record
        ops, shape = record.fact("loss.input_ops") or (), record.fact("output.shape") or ()
        axis = record.fact("output.softmax_axis")
        classes = 1 if len(shape) > 1 else 0
        shares = tuple(ops[-2:-1]) == ("softmax",)
        if set(ops) & {"log", "log_softmax", "logsigmoid", "logsumexp"}:
            return "nll_loss gets logarithms"
        if "sigmoid" in ops or ("softmax" in ops and not (shares and axis == classes)):
            return "nll_loss gets neither logits nor probabilities: return log_softmax of logits"
        line = "outputs.clamp_min(…).log()" if shares else "F.log_softmax(outputs, 1)"
        given = case.loss
        if not is_torchs(case):
            return f"the loss is one of your own: in it, give nll_loss {line} in place of outputs"
        change: tuple[str, ...]
        if shares:
            change = (
                "of_logarithms = loss",
                "loss = lambda outputs, targets: of_logarithms(\n"
                "    outputs.clamp_min(torch.finfo(outputs.dtype).tiny).log(), targets\n)",
            )
        elif given is F.nll_loss:
            change = ("loss = F.cross_entropy",)
        elif isinstance(given, nn.NLLLoss):
            own = [
                f"{name}=loss.{name}"
                for name, usual in (("weight", None), ("ignore_index", -100), ("reduction", "mean"))
                if getattr(given, name) is not usual and getattr(given, name) != usual
            ]
            change = (f"loss = nn.CrossEntropyLoss({', '.join(own)})",)
        else:
            change = (
                "of_logarithms = loss",
                f"loss = lambda outputs, targets: of_logarithms(F.log_softmax(outputs, {classes}), "
                "targets)",
            )
        return Plan(
            self.code,
            "The loss is a likelihood: it is 0 at its best, and larger outputs are no reward.",
            program(*change),
            given={"loss": given},
            notes=()
            if shares
            else ("The model returns logits: apply softmax to them to get probabilities.",),
        )

    def _logarithm(self, case: Case, name: str) -> Plan | str:
        names = aliases_of(case.model, name)
        if not names:
            return f"{name} is not a module of its own: return log_softmax in the forward"
        line = "model.set_submodule(name, nn.LogSoftmax(model.get_submodule(name).dim))"
        return Plan(
            self.code,
            "The divergence is that of the probabilities, and is 0 at its best.",
            program(loop("name", names, line)),
            notes=("The model returns logarithms: apply exp to them to get probabilities.",),
        )

    @staticmethod
    def sick() -> Case:
        """Sigmoid and squared error on zeros and ones."""
        return example(lambda: nn.Sequential(*plain(2, out=1), nn.Sigmoid()), _yes_no, F.mse_loss)

    @staticmethod
    def well() -> Case:
        """Sigmoid and its likelihood, not saturated."""
        return example(
            lambda: nn.Sequential(*plain(2, out=1), nn.Sigmoid()), _yes_no, F.binary_cross_entropy
        )


def _alone(case: Case, place: int) -> list[str]:
    """Names of the module that is called at a site; none where it is called elsewhere, too."""
    name = case.record.sites[place].name.split("#")[0]
    uses = sum(site.name.split("#")[0] == name for site in case.record.sites)
    return list(aliases_of(case.model, name)) if uses == 1 else []


def _one_hot(record: Record, columns: int) -> bool:
    """Whether the loss compares outputs with a one and zeros for each sample, by their mean."""
    mean = record.fact("target.mean") or 0.0
    return record.fact("target.kind") == "binary" and columns > 1 and isclose(mean * columns, 1)


def _yes_no() -> tuple[Tensor, Tensor]:
    x = torch.randn(40, 20)
    return x, (x[:, :1] > 0).float()
