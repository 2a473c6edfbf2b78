"""Trainings that go wrong while they are watched."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patients.courses import plain_sgd, warm_up_and_cosine
from patients.data import digit_images, digits
from patients.training import Batches, Training, adam, conv, mlp, sgd, stream


def too_large_steps() -> Training:
    model = mlp(64, 96, 80, 72)
    return Training(model, stream(*digits(1797)), sgd(model, 1.0, momentum=0.9))


def saturating() -> Training:
    model = mlp(64, 96, 80, 72, act=nn.Tanh)
    return Training(model, stream(*digits(1797)), adam(model, 0.3))


def wrong_schedule() -> Training:
    made = plain_sgd()
    made.schedule = lambda step: 40.0 if step >= 150 else 1.0
    return made


def shuffled_labels() -> Training:
    x, y = digits(1797)

    def batches() -> Batches:
        for inputs, labels in stream(x, y, 128):
            yield inputs, labels[torch.randperm(len(labels))]

    model = mlp(64, 96, 80)
    return Training(model, batches(), sgd(model, 0.01, momentum=0.9))


def broken_data() -> Training:
    made = warm_up_and_cosine()
    clean = made.batches

    def batches() -> Batches:
        for k, (x, y) in enumerate(clean):
            yield x, (torch.randint(10, y.shape) if k >= 200 else y)

    return Training(made.model, batches(), made.optimizer)


def forgets_to_normalize() -> Training:
    made = plain_sgd()
    clean = made.batches

    def batches() -> Batches:
        for k, (x, y) in enumerate(clean):
            yield (4.0 * x + 5.0 if k >= 200 else x), y  # about as the digits are in the file

    return Training(made.model, batches(), made.optimizer)


def penalty_with_the_wrong_sign() -> Training:
    model = conv()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        size = sum(m.weight.square().sum() for m in model if isinstance(m, nn.Conv2d))
        return F.cross_entropy(out, y) - 0.1 * size

    return Training(model, stream(*digit_images(1797)), sgd(model, 0.1), loss)


class Detached(nn.Module):
    """Lets next to no gradient through once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = False

    def forward(self, x: Tensor) -> Tensor:
        if self.cut and x.requires_grad:
            x.register_hook(lambda gradient: 1e-8 * gradient)
        return x


def cut_layer() -> Training:
    layers = [*mlp(64, 96, 80, 72, 64)]
    gate = Detached()
    model = nn.Sequential(*layers[:4], gate, *layers[4:])

    def meddle(step: int, _: Training) -> None:
        gate.cut = step >= 120

    return Training(model, stream(*digits(1797)), sgd(model, 0.02, momentum=0.9), meddle=meddle)


class Twins(nn.Module):
    """Two views of a sample, without what keeps their representations from collapsing."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 32)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def collapsing() -> Training:
    x, _ = digits(1797)
    model = Twins()

    def loss(out: Tensor, _: Any) -> Tensor:
        half = len(out) // 2
        return F.mse_loss(out[:half], out[half:])

    def batches() -> Batches:
        for inputs, _ in stream(x, x):
            views = [inputs + 0.3 * torch.randn_like(inputs) for _ in range(2)]
            yield torch.cat(views), None

    return Training(model, batches(), adam(model, 3e-3), loss)


def poisoned() -> Training:
    made = plain_sgd()

    def meddle(step: int, training: Training) -> None:
        if step == 120:
            with torch.no_grad():
                training.model[2].weight[3, 5] = math.nan

    made.meddle = meddle
    return made


ILL: dict[str, tuple[Callable[[], Training], int, tuple[str, ...]]] = {
    "rate too large from the start": (too_large_steps, 150, ("IG208", "IG304", "IG609", "IG604")),
    "tanh, steps of 0.3": (saturating, 150, ("IG209", "IG304")),
    "rate times 40 at step 150": (
        wrong_schedule,
        300,
        ("IG304", "IG610", "IG609", "IG208", "IG401"),
    ),
    "labels shuffled": (shuffled_labels, 300, ("IG604",)),
    "labels random from step 200": (broken_data, 400, ("IG610",)),
    "inputs not normalized from step 200": (forgets_to_normalize, 260, ("IG611",)),
    "penalty with the wrong sign": (penalty_with_the_wrong_sign, 250, ("IG307",)),
    "graph all but cut at step 120": (cut_layer, 300, ("IG308",)),
    "twins that collapse": (collapsing, 300, ("IG210", "IG203")),
    "a NaN in a weight at step 120": (poisoned, 160, ("IG401",)),
}
"""Trainings that go wrong, for how many steps, and codes of which one must be raised."""
