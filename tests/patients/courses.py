"""Trainings, well and ill, with a look every few steps: what a watched run looks like."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isograd.alarms import Alarms
from isograd.diagnosis import diagnose
from isograd.findings import Alarm
from isograd.probe.facts import optimizer_facts
from isograd.probe.measuring import measure
from isograd.records import Reading, Record
from patients.data import digit_images, digits, standardized

Batches = Iterator[tuple[Any, Any]]


@dataclass
class Training:
    """A training loop in parts."""

    model: nn.Module
    batches: Batches
    optimizer: torch.optim.Optimizer
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy
    schedule: Callable[[int], float] | None = None
    """Learning rate as a multiple of the optimizer's, by step."""
    meddle: Callable[[int, "Training"], None] = lambda *_: None
    """Called before every step: what goes wrong, or what else is trained."""
    looks: dict[int, Record] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)

    def run(self, steps: int, every: int) -> Iterator[tuple[int, Reading]]:
        """Trains; every few steps, and at each of the first ones, the reading so far."""
        for step, batch in self.prepared(steps):
            look = step % every == 0 or step in (1, 2, 4, 8)
            record = measure(self.model, batch, self.loss, step=step) if look else None
            before = [p.detach().clone() for p in self.model.parameters()] if look else []
            self.step(batch)
            if record is not None:
                yield step, self._reading(record, before)

    def prepared(self, steps: int) -> Iterator[tuple[int, tuple[Any, Any]]]:
        """Steps and their batches, each once the learning rate is set and it was meddled with."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        for step in range(steps):
            if self.schedule is not None:
                for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * self.schedule(step)
            self.meddle(step, self)
            yield step, next(self.batches)

    def step(self, batch: tuple[Any, Any]) -> None:
        """One step, as any training loop has it."""
        self.optimizer.zero_grad()
        value = self.loss(self.model(batch[0]), batch[1])
        self.losses.append(float(value.detach()))
        value.backward()
        self.optimizer.step()

    def _reading(self, record: Record, before: list[Tensor]) -> Reading:
        ratios = tuple(
            float((new.detach() - old).norm() / old.norm()) if old.norm() > 0 else None
            for old, new in zip(before, self.model.parameters(), strict=True)
        )
        facts = {**record.facts, **optimizer_facts(self.optimizer, self.model.named_parameters())}
        series = {**record.series, "weight.update_ratio": ratios}
        first = next(iter(self.looks.values()), record)
        record = replace(record, facts=facts, series=series)
        if record.sites == first.sites:
            record = replace(record, sites=first.sites, parameters=first.parameters)
        self.looks[record.step] = record
        losses = [list(range(len(self.losses))), list(self.losses)]
        last = replace(record, facts={**facts, "watch.losses": losses})
        kept = list(self.looks.values())
        return Reading(kept[0] if len(kept) > 1 else last, history=(*kept[1:-1], last)[-64:])


def watched(training: Training, steps: int, every: int = 10) -> tuple[list[Alarm], Alarms, Reading]:
    """Trains and judges: all changes of alarms, the alarms, and the last reading."""
    alarms, changes = Alarms(), list[Alarm]()
    reading = None
    for step, reading in training.run(steps, every):
        changes += alarms.update(step, diagnose(reading))
    assert reading is not None
    return changes, alarms, reading


def stream(x: Tensor, y: Tensor, size: int = 64) -> Batches:
    """Batches for ever."""
    while True:
        order = torch.randperm(len(x))
        for k in range(0, len(x) - size + 1, size):
            yield x[order[k : k + size]], y[order[k : k + size]]


def mlp(*widths: int, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), act()]
        if act is nn.ReLU:
            nn.init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")
            nn.init.zeros_(layers[-2].bias)
    head = nn.Linear(widths[-1], 10)
    return nn.Sequential(*layers, head)


def sgd(model: nn.Module, lr: float, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, **more)


def adam(model: nn.Module, lr: float, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=lr, **more)


def cosine(steps: int, warm: int) -> Callable[[int], float]:
    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    return rate


class Transformer(nn.Module):
    """Eight rows of a digit as tokens."""

    def __init__(self, width: int = 48, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.place = nn.Parameter(torch.randn(8, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.1, batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.reshape(-1, 8, 8)) + self.place
        return self.head(self.body(x).mean(1))


class Gru(nn.Module):
    """Reads a digit row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.GRU(8, 48, batch_first=True), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.reshape(-1, 8, 8))[0][:, -1])


def conv() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
        nn.Conv2d(24, 32, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


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
    "penalty with the wrong sign": (penalty_with_the_wrong_sign, 250, ("IG307",)),
    "graph all but cut at step 120": (cut_layer, 300, ("IG308",)),
    "twins that collapse": (collapsing, 300, ("IG210", "IG203")),
    "a NaN in a weight at step 120": (poisoned, 160, ("IG401",)),
}
"""Trainings that go wrong, for how many steps, and codes of which one must be raised."""
