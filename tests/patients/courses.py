"""Healthy trainings, of which a watched run must raise nothing."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from patients.data import digit_images, digits, standardized
from patients.training import (
    Batches,
    Gru,
    Training,
    Transformer,
    adam,
    conv,
    cosine,
    mlp,
    sgd,
    stream,
)


def plain_sgd() -> Training:
    model = mlp(64, 96, 80, 72)
    return Training(model, stream(*digits(1797)), sgd(model, 0.05, momentum=0.9))


def warm_up_and_cosine(steps: int = 400) -> Training:
    model = mlp(64, 96, 80, 72)
    return Training(model, stream(*digits(1797)), adam(model, 3e-3), schedule=cosine(steps, 40))


def rate_drops() -> Training:
    model = conv()
    return Training(
        model,
        stream(*digit_images(1797)),
        sgd(model, 0.1, momentum=0.9, weight_decay=5e-4),
        schedule=lambda step: 0.1 ** (step // 130),
    )


def transformer(steps: int = 300) -> Training:
    model = Transformer()
    return Training(model, stream(*digits(1797)), adam(model, 1e-3), schedule=cosine(steps, 50))


def gated() -> Training:
    model = Gru()
    return Training(model, stream(*digits(1797)), adam(model, 3e-3))


def fine_tuning() -> Training:
    made = warm_up_and_cosine()
    for _ in made.run(150, 1000):
        pass
    return Training(made.model, made.batches, adam(made.model, 1e-5))


def spike_that_heals() -> Training:
    made = warm_up_and_cosine()
    clean = made.batches

    def batches() -> Batches:
        for k, (x, y) in enumerate(clean):
            yield (100 * x if k in (150, 151) else x), y

    return Training(made.model, batches(), made.optimizer)


def long_tanh() -> Training:
    model = mlp(64, 96, 80, act=nn.Tanh)
    return Training(model, stream(*digits(1797)), adam(model, 3e-3))


def decayed() -> Training:
    model = mlp(64, 256, 128)
    return Training(
        model, stream(*digits(1797), size=32), sgd(model, 0.05, momentum=0.9, weight_decay=5e-3)
    )


def small_batches() -> Training:
    model = mlp(64, 96, 80)
    return Training(model, stream(*digits(1797), size=8), adam(model, 1e-3))


def two_classes() -> Training:
    x, y = digits(1797)
    model = mlp(64, 48, 40)
    return Training(model, stream(x, (y > 4).long()), adam(model, 3e-3))


def regression() -> Training:
    x = torch.randn(2000, 24)
    y = standardized(x @ torch.randn(24, 1) + torch.sin(3 * x[:, :1]) + 0.1 * torch.randn(2000, 1))
    model = nn.Sequential(*mlp(24, 64, 48)[:-1], nn.Linear(48, 1))
    return Training(model, stream(x, y), adam(model, 3e-3), F.mse_loss)


def autoencoder() -> Training:
    x, _ = digits(1797)
    model = nn.Sequential(
        nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 6), nn.Linear(6, 48), nn.GELU(),
        nn.Linear(48, 64),
    )  # fmt: skip
    return Training(model, stream(x, x), adam(model, 3e-3), F.mse_loss)


def restarts() -> Training:
    model = mlp(64, 96, 80, 72)
    return Training(
        model,
        stream(*digits(1797)),
        sgd(model, 0.1, momentum=0.9),
        schedule=lambda step: 0.5 * (1 + math.cos(math.pi * (step % 130) / 130)),
    )


def adversary(of: str) -> Training:
    """A GAN on digits; one of the two networks is watched."""
    x, _ = digits(1797)
    x = x.clamp(-2, 2) / 2
    leaky = lambda: nn.LeakyReLU(0.2)  # noqa: E731
    maker = nn.Sequential(
        nn.Linear(16, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 64), nn.Tanh()
    )
    judge = nn.Sequential(nn.Linear(64, 96), leaky(), nn.Linear(96, 96), leaky(), nn.Linear(96, 1))
    theirs = {
        "maker": torch.optim.Adam(maker.parameters(), 2e-4, betas=(0.5, 0.99)),
        "judge": torch.optim.Adam(judge.parameters(), 2e-4, betas=(0.5, 0.99)),
    }
    real = stream(x, x)
    score = F.binary_cross_entropy_with_logits

    def judge_batches() -> Batches:
        while True:
            with torch.no_grad():
                fake = maker(torch.randn(64, 16))
            yield (
                torch.cat([next(real)[0], fake]),
                torch.cat([torch.ones(64, 1), torch.zeros(64, 1)]),
            )

    def maker_batches() -> Batches:
        while True:
            yield torch.randn(64, 16), None

    batches = {"maker": maker_batches(), "judge": judge_batches()}
    losses = {"maker": lambda out, _: score(judge(out), torch.ones(64, 1)), "judge": score}
    models = {"maker": maker, "judge": judge}
    other = "judge" if of == "maker" else "maker"

    def train_other(_: int, __: Training) -> None:
        inputs, targets = next(batches[other])
        theirs[other].zero_grad()
        losses[other](models[other](inputs), targets).backward()
        theirs[other].step()

    return Training(models[of], batches[of], theirs[of], losses[of], meddle=train_other)


WELL: dict[str, tuple[Callable[[], Training], int]] = {
    "MLP, SGD with momentum": (plain_sgd, 300),
    "MLP, warm-up and cosine to zero": (warm_up_and_cosine, 400),
    "conv net, two drops of the rate": (rate_drops, 390),
    "transformer, warm-up and cosine": (transformer, 300),
    "GRU": (gated, 300),
    "fine-tuning": (fine_tuning, 200),
    "two broken batches": (spike_that_heals, 400),
    "tanh, long": (long_tanh, 500),
    "weight decay": (decayed, 500),
    "batches of 8": (small_batches, 500),
    "two classes": (two_classes, 400),
    "regression": (regression, 400),
    "autoencoder with a bottleneck": (autoencoder, 400),
    "warm restarts": (restarts, 400),
    "GAN, the one that judges": (lambda: adversary("judge"), 500),
    "GAN, the one that makes": (lambda: adversary("maker"), 500),
}
"""Healthy trainings, and for how many steps."""
