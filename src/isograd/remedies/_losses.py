"""Losses that remedies put in the place of others; outputs stay what they are."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from isograd.remedies._remedy import Case
from isograd.sites.codes import Places, at_prior, code_alone

_FUNCTIONS = (F.cross_entropy, F.binary_cross_entropy_with_logits, F.nll_loss)
_MODULES = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.NLLLoss)


def is_torchs(case: Case) -> bool:
    """Whether the loss is torch's own likelihood: it sees the outputs, and nothing before it."""
    loss = case.loss
    while isinstance(loss, partial):
        loss = loss.func
    return any(loss is one for one in _FUNCTIONS) or type(loss) in _MODULES


class AlignedTargets(nn.Module):
    """A loss that first gives the targets the shape of the outputs, if they are as many.

    Without it (N, 1) against (N) broadcasts to (N, N).
    """

    def __init__(self, loss: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Any, targets: Any) -> Any:
        """The loss of the two."""
        both = isinstance(outputs, Tensor) and isinstance(targets, Tensor)
        if both and outputs.shape != targets.shape and outputs.numel() == targets.numel():
            targets = targets.reshape(outputs.shape)
        return self.loss(outputs, targets)


class InUnitsOfTargets(nn.Module):
    """A loss of outputs and targets that are both divided by the targets' standard deviation."""

    def __init__(self, loss: Callable[[Any, Any], Any], std: Tensor) -> None:
        super().__init__()
        self.loss = loss
        self.std: Tensor
        self.register_buffer("std", std)

    def forward(self, outputs: Tensor, targets: Tensor) -> Any:
        """The loss of the two, in units of the targets' spread."""
        return self.loss(outputs / self.std, targets / self.std)


class ClassLabels(nn.Module):
    """Cross entropy of logits [samples, classes] and class numbers of any type and shape."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over the samples, in nats."""
        return F.cross_entropy(outputs, targets.flatten().long())


class WeightedCode(nn.Module):
    """A loss whose divergence of a Gaussian code counts less, or more.

    What the divergence adds is the loss with the code as it is less that with the code at N(0, 1);
    its gradient is taken to the code alone.

    Args:
        loss: of outputs and targets.
        weight: what the divergence is multiplied with.
        code: entries of the outputs that are its mean and log-variance: index of the tensor, first
            entry of a sample's, the one past the last.
    """

    def __init__(self, loss: Callable[[Any, Any], Any], weight: float, code: Places) -> None:
        super().__init__()
        self.loss, self.weight, self.code = loss, weight, code

    def forward(self, outputs: Any, targets: Any) -> Any:
        """The loss of the two."""
        alone = code_alone(outputs, self.code)
        divergence = self.loss(alone, targets) - self.loss(at_prior(alone, self.code), targets)
        return self.loss(outputs, targets) - (1 - self.weight) * divergence
