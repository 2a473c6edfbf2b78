"""init-head: a last layer that starts by knowing how frequent the classes are."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from isograd.remedies._code import number, program
from isograd.remedies._examples import example, plain
from isograd.remedies._inputs import tensor_of
from isograd.remedies._layers import layers
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.sites.batches import as_batch


@dataclass(frozen=True)
class InitHead(Remedy):
    """Start the last layer at the frequencies of the classes.

    Does: scales the last layer's weights down until its outputs differ by `size`, and sets its
        bias to the logarithm of the frequencies of the classes (of a binary output: to its
        odds), so that the loss starts at what guessing by frequency would have, ln C for C equal
        classes. Targets that are numbers: the bias becomes their mean. Without a bias its weights
        are scaled alone; where they are an embedding, too, until its outputs differ by 1.

    Needs: a last layer directly in front of cross entropy, binary cross entropy with logits or
        (with a bias) squared error, and an initial loss above `above` times that of guessing.

    Source: Lin et al. 2017, Focal loss for dense object detection, section 4.1; Bishop 1995, Neural
        networks for pattern recognition, section 6.
    """

    code: ClassVar[str] = "init-head"
    family: ClassVar[str] = "init"
    addresses: ClassVar[tuple[str, ...]] = ("init-too-large", "target-not-normalized")

    size: float = 0.3
    """Rms of the outputs around their bias (over that of the targets, where these are numbers): the
    loss starts 0.05 nats above that of guessing, and gradients pass. Of twelve networks nine
    learned faster than at 0.1, none clearly slower; at 1 high rates broke two."""
    above: float = 1.3
    """Initial loss over that of guessing; He's initialization has 1.1 to 1.3."""

    def plan(self, case: Case) -> Plan | str:
        """Looks at the last layer and at the targets."""
        record = case.record
        kind, value = record.fact("loss.kind"), record.fact("loss.value")
        last = [x for x in layers(case) if x.site == record.fact("loss.input_site") and x.trainable]
        targets = as_batch(case.batch).targets
        if kind not in ("cross_entropy", "bce_logits", "mse") or not isinstance(targets, Tensor):
            return f"the loss is {kind or 'unknown'}, not cross entropy or squared error on targets"
        if kind != "mse" and not (len(last) == 1 and last[0].bias):
            return self._weights_alone(case, value)
        if len(last) != 1 or last[0].bias is None or last[0].calls > 1:
            return "no last layer with a bias of its own feeds the loss directly"
        guess = _guess(kind, targets, last[0].shape[0])
        if last[0].computed:
            return f"the weight of {last[0].module} is computed by {last[0].computed.by}"
        if guess is None:
            return "the targets of the batch do not fit the outputs one to one"
        if value is None or not value > self.above * guess:
            return f"the loss starts at {number(value or 0.0)}, where guessing has {number(guess)}"
        size = record.fact("output.rms") or 1.0
        if kind == "mse":  # all that the samples' outputs have in common is off the new bias
            unit = math.sqrt(guess)  # that of the targets
        else:
            size, unit = record.fact("output.spread") or size, 1.0
        factor = min(1.0, self.size * unit / size)
        told = tensor_of(case.batch, None)
        lines = [
            f"targets = {told}  # of the batch; those of the whole training set are better"
            if told
            else "# targets: those of a batch, better of the whole training set, as one tensor"
        ]
        lines += [f"weight = model.get_parameter({last[0].name!r})".replace("'", '"')]
        lines += [f"bias = model.get_parameter({last[0].bias!r})".replace("'", '"')]
        lines += ["with torch.no_grad():", f"    weight.mul_({number(factor)})"]
        lines += [f"    {line}" for line in _BIAS[kind]]
        return Plan(
            self.code,
            f"The loss starts near {number(guess)} in place of {number(value)}.",
            program(*lines),
            given={"batch": case.batch} if told else {"targets": targets},
            notes=("`targets` are those of the batch; all of the training set's are better.",),
        )

    def _weights_alone(self, case: Case, value: float | None) -> Plan | str:
        """Scales a last layer that has no bias, as that of a language model."""
        record = case.record
        place, chance = record.fact("loss.input_site"), record.fact("loss.chance")
        site = record.sites[place] if isinstance(place, int) else None
        if site is None or site.kind != "linear" or len(site.parameters) != 1 or not chance:
            return "no last layer of its own feeds the loss directly"
        weight = record.parameters[site.parameters[0]]
        if not weight.trainable or len(weight.shape) != 2:
            return f"{weight.name} is frozen, or no matrix"
        if value is None or not value > self.above * chance:
            return f"the loss starts at {number(value or 0.0)}, where guessing has {number(chance)}"
        shared = sum(site.parameters[0] in s.parameters for s in record.sites) > 1
        size = 1.0 if shared else self.size
        spread = record.fact("output.spread") or record.fact("output.rms") or 1.0
        lines = [
            f'weight = model.get_parameter("{weight.name}")',
            "with torch.no_grad():",
            f"    weight.mul_({number(min(1.0, size / spread))})",
        ]
        return Plan(
            self.code,
            f"The loss starts near {number(chance)} in place of {number(value)}.",
            program(*lines),
        )

    @staticmethod
    def sick() -> Case:
        """A last layer ten times too large."""
        return example(lambda: _headed(10.0))

    @staticmethod
    def well() -> Case:
        """One of the usual size."""
        return example(lambda: _headed(0.3))


_BIAS = {
    "cross_entropy": (
        "seen = targets[targets >= 0].flatten().long()",
        "counts = torch.bincount(seen, minlength=len(bias)) + 1  # + 1: no class is impossible",
        "bias.copy_((counts / counts.sum()).log())",
    ),
    "bce_logits": (
        "share = targets.float().reshape(-1, len(bias)).mean(0).clamp(0.01, 0.99)",
        "bias.copy_((share / (1 - share)).log())",
    ),
    "mse": ("bias.copy_(targets.float().reshape(-1, len(bias)).mean(0))",),
}


def _guess(kind: str, targets: Tensor, outputs: int) -> float | None:
    """The loss of the best answer that does not look at the input; None where it has no meaning."""
    if kind == "cross_entropy":
        if targets.is_floating_point() or int(targets.max()) >= outputs:
            return None
        counts = torch.bincount(targets[targets >= 0].flatten(), minlength=outputs).double() + 1
        return float(-(counts / counts.sum() * (counts / counts.sum()).log()).sum())
    if targets.numel() % outputs:
        return None
    columns = targets.double().reshape(-1, outputs)
    if kind == "mse":
        return float((columns - columns.mean(0)).square().mean())
    share = columns.mean(0).clamp(0.01, 0.99)
    return float(-(share * share.log() + (1 - share) * (1 - share).log()).mean())


def _headed(factor: float) -> nn.Module:
    model = plain(2, gain=math.sqrt(2))
    with torch.no_grad():
        model[-1].weight.mul_(factor)  # type: ignore[operator]  # a linear layer
    return model
