"""A fleet: networks of one shape trained together, as one network with one more axis.

Small networks cost more in calls than in arithmetic. Stacking the parameters of n networks,
[n, ...], makes one call do the work of n. Networks must have the same layers, and may differ in
everything that is a parameter or a buffer: seed, scale of the weights, statistics. `train` puts
networks into fleets by itself, so that an experiment may hand it any list of them.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from isograd.lab import stacks
from isograd.lab.images import Images

Loss = Callable[[Tensor, Tensor], Tensor]

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr, momentum=0.9, fused=True),
    "plain-sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr, fused=True),
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr, fused=True),
}
"""By name; `sgd` has momentum 0.9. Every step must be proportional to the learning rate."""


class Fleet:
    """Networks of one shape that are trained together on the same batches.

    Args:
        models: networks whose `signature` is equal; they are left as they are.
        lr: learning rate, one for all or one per network.
        optimizer: a key of OPTIMIZERS.
        loss: (outputs [batch, ...], targets) -> scalar, of one network.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        *,
        lr: float | Sequence[float] = 0.1,
        optimizer: str = "sgd",
        loss: Loss = F.cross_entropy,
    ) -> None:
        self._base = copy.deepcopy(models[0])
        parameters, self._buffers = stack_module_state(list(models))
        # The gradient of a stacked matrix comes out transposed; kept so, it need not be copied.
        self._turned = {name for name, value in parameters.items() if value.ndim == 3}
        self._leaves = {
            name: (
                value.detach().mT.contiguous() if name in self._turned else value.detach()
            ).requires_grad_(value.requires_grad)
            for name, value in parameters.items()
        }
        rates = [lr] * len(models) if isinstance(lr, float | int) else list(lr)
        self._rates = None if len(set(rates)) == 1 else torch.tensor(rates, dtype=torch.float64)
        self._optimizer = OPTIMIZERS[optimizer](
            [leaf for leaf in self._leaves.values() if leaf.requires_grad],
            rates[0] if self._rates is None else 1.0,
        )
        self._plain = self._base if stacks.is_plain(self._base) else None
        self._loss = _cross_entropy if loss is F.cross_entropy else vmap(loss, in_dims=(0, None))

    def __len__(self) -> int:
        return len(next(iter(self._leaves.values())))

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Parameters by name, [n, ...] as the networks have them."""
        return {
            name: leaf.mT if name in self._turned else leaf for name, leaf in self._leaves.items()
        }

    def outputs(self, inputs: Tensor, *, train: bool = False) -> Tensor:
        """Outputs of every network for the same inputs, [n, batch, ...]."""
        self._base.train(train)

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            outputs: Tensor = functional_call(self._base, (parameters, buffers), (inputs,))
            return outputs

        if len(self) == 1:  # vmap costs more than it saves
            state = (
                {k: v[0] for k, v in part.items()} for part in (self.parameters, self._buffers)
            )
            return one(*state)[None]
        out: Tensor = vmap(one, randomness="different")(self.parameters, self._buffers)
        return out

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """One step of every network on one batch; the loss of each before it, [n]."""
        losses = self._backward(inputs, targets)
        if self._rates is None:
            self._optimizer.step()
            return losses
        before = {name: leaf.detach().clone() for name, leaf in self._leaves.items()}
        self._optimizer.step()
        with torch.no_grad():
            for name, leaf in self._leaves.items():
                rates = self._rates.to(leaf).view(-1, *[1] * (leaf.ndim - 1))
                leaf.copy_(torch.lerp(before[name], leaf, rates))
        return losses

    def _backward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Gradients of every network's loss into the leaves; the losses, [n]."""
        plain = self._plain
        if plain is not None and (inputs.ndim == 2 or isinstance(plain[0], nn.Flatten)):
            leaves = self._leaves.values()
            return stacks.backward(plain, leaves, inputs, lambda out: self._loss(out, targets))
        self._optimizer.zero_grad()
        losses: Tensor = self._loss(self.outputs(inputs, train=True), targets)
        losses.sum().backward()  # one network's loss has no gradient in another's parameters
        return losses.detach()

    @torch.no_grad()
    def accuracy(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Share of inputs that each network puts into the right class, [n]."""
        right = [
            (self.outputs(part).argmax(-1) == wanted).float().sum(-1)
            for part, wanted in zip(inputs.split(2000), labels.split(2000), strict=True)
        ]
        return torch.stack(right).sum(0) / len(labels)

    def models(self) -> list[nn.Module]:
        """The networks as they are now, each on its own."""
        made = []
        for index in range(len(self)):
            model = copy.deepcopy(self._base)
            state = {**self.parameters, **self._buffers}
            with torch.no_grad():
                for name, target in [*model.named_parameters(), *model.named_buffers()]:
                    target.copy_(state[name][index])
            made.append(model)
        return made


@dataclass(frozen=True)
class Trained:
    """What training did, network by network, in the order they were given."""

    models: list[nn.Module]
    """Trained copies, in eval mode."""
    losses: Tensor
    """Of every step, before it, [steps, n]."""
    accuracy: Tensor
    """On the test samples, after the last step, [n]."""


def train(
    models: Sequence[nn.Module],
    data: Images,
    *,
    steps: int,
    batch: int = 100,
    lr: float | Sequence[float] = 0.1,
    optimizer: str = "sgd",
    seed: int = 0,
    loss: Loss = F.cross_entropy,
) -> Trained:
    """Trains networks on the same batches, those of one shape together.

    Args:
        models: networks that give logits; they are left as they are.
        data: what to train and test on.
        steps: of every network.
        batch: samples per step.
        lr: learning rate, one for all or one per network.
        optimizer: a key of OPTIMIZERS.
        seed: of the order of the samples.
        loss: (outputs, labels) -> scalar, of one network.
    """
    rates = [float(lr)] * len(models) if isinstance(lr, float | int) else list(lr)
    groups: dict[Any, list[int]] = {}
    for index, model in enumerate(models):
        groups.setdefault(signature(model), []).append(index)
    losses, accuracy = torch.empty(steps, len(models)), torch.empty(len(models))
    trained: list[nn.Module] = [nn.Identity()] * len(models)
    for members in groups.values():
        fleet = Fleet(
            [models[i] for i in members],
            lr=[rates[i] for i in members],
            optimizer=optimizer,
            loss=loss,
        )
        batches = data.batches(steps, batch, seed=seed)
        losses[:, members] = torch.stack([fleet.step(x, y) for x, y in batches]).float().cpu()
        accuracy[members] = fleet.accuracy(data.test_inputs, data.test_labels).cpu()
        for index, model in zip(members, fleet.models(), strict=True):
            trained[index] = model.eval()
    return Trained(trained, losses, accuracy)


def signature(model: nn.Module) -> tuple[Any, ...]:
    """Equal for two networks exactly if they differ in nothing but parameters and buffers."""
    parts: list[Any] = []
    for name, module in model.named_modules():
        plain = {
            key: value
            for key, value in vars(module).items()
            if not key.startswith("_") and key != "training"
        }
        parts.append((name, type(module), repr(sorted(plain.items()))))
    parts += [(name, tuple(x.shape), x.dtype, x.requires_grad) for name, x in _state(model)]
    return tuple(parts)


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of every network's outputs, [n, batch, classes, ...] -> [n]; in one call, without vmap."""
    every = targets.expand(len(outputs), *targets.shape).flatten(0, 1)
    losses = F.cross_entropy(outputs.flatten(0, 1), every, reduction="none")
    return losses.view(len(outputs), -1).mean(1)


def _state(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]
