"""A patient: a network with a batch, a loss and an optimizer; everything that a check is given."""

import functools
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Loss = Callable[[Any, Any], Tensor]
OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def sgd(lr: float, momentum: float = 0.9) -> OptimizerFactory:
    """A factory of SGD optimizers."""
    return functools.partial(torch.optim.SGD, lr=lr, momentum=momentum)


def adam(lr: float = 1e-3) -> OptimizerFactory:
    """A factory of Adam optimizers."""
    return functools.partial(torch.optim.Adam, lr=lr)


def adamw(lr: float = 3e-4) -> OptimizerFactory:
    """A factory of AdamW optimizers."""
    return functools.partial(torch.optim.AdamW, lr=lr)


@dataclass
class Patient:
    """What a user would hand to `isograd.check`."""

    model: nn.Module
    batch: Any
    """`(inputs, targets)`, or a dict for models that return their loss."""
    loss: Loss | None = None
    """`None` where isograd is to choose it."""
    optimizer: OptimizerFactory = field(default_factory=adam)

    def forward(self) -> Any:
        """The model's outputs on the batch."""
        if isinstance(self.batch, dict):
            return self.model(**self.batch)
        inputs = self.batch[0]
        return self.model(*inputs) if isinstance(inputs, tuple) else self.model(inputs)

    def objective(self) -> Tensor:
        """The loss that the training run minimizes."""
        outputs = self.forward()
        if isinstance(self.batch, dict):
            return outputs.loss
        targets = self.batch[1]
        if self.loss is not None:
            return self.loss(outputs, targets)
        return (F.mse_loss if targets.is_floating_point() else F.cross_entropy)(outputs, targets)


class Build(Protocol):
    """Makes a patient; another seed gives other weights and other data."""

    def __call__(self, seed: int = 0) -> Patient: ...


def seeded(factory: Callable[[], Patient]) -> Build:
    """The same factory with a seed of its own, which leaves the caller's generator alone."""

    @functools.wraps(factory)
    def build(seed: int = 0) -> Patient:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(factory.__name__.encode()) + seed)
            return factory()

    return build
