"""Parts of networks from many fields, against what draws of them do."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

import isograd
from isograd.errors import PredictionError

DRAWS = 8


class LinearAttention(nn.Module):
    """Causal, with a mask by multiplication, over its own sum: an average of values."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(64, 192), nn.Linear(64, 64)
        self.register_buffer("seen", torch.ones(12, 12).tril())

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        weights = ((F.elu(q) + 1) @ (F.elu(k) + 1).mT) * self.seen
        out: Tensor = self.out(weights @ v / (weights.sum(-1, keepdim=True) + 1e-6))
        return out


class SkipOfAnotherSize(nn.Module):
    """A group norm over a concatenation of a large part and a small one."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(8, 40, 3, padding=1), nn.Conv2d(8, 24, 3, padding=1)
        self.norm, self.out = nn.GroupNorm(4, 64), nn.Conv2d(64, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([0.2 * self.one(x), self.two(x)], 1)
        out: Tensor = self.out(F.silu(self.norm(both)))
        return out


class FourierFeatures(nn.Module):
    """Waves of which the fastest have hundreds of periods."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(3 * 20, 128), nn.Linear(128, 16)

    def forward(self, x: Tensor) -> Tensor:
        waves = [f(2.0**k * math.pi * x) for k in range(10) for f in (torch.sin, torch.cos)]
        out: Tensor = self.out(F.relu(self.first(torch.cat(waves, -1))))
        return out


class Dueling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.value, self.gain = nn.Linear(24, 96), nn.Linear(96, 1), nn.Linear(96, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.stem(x))
        gain: Tensor = self.gain(h)
        return self.value(h) + gain - gain.mean(1, keepdim=True)


class Bags(nn.Module):
    """Bags of embeddings by mean, by sum, of unlike lengths; and one column of weights."""

    def __init__(self, mode: str = "mean") -> None:
        super().__init__()
        self.bag, self.wide = nn.EmbeddingBag(90, 64, mode=mode), nn.Embedding(90, 1)
        self.out = nn.Linear(64, 48)

    def forward(self, ids: Tensor, offsets: Tensor | None = None) -> Tensor:
        out: Tensor = self.out(self.bag(ids, offsets))
        return out if offsets is not None else out + self.wide(ids).sum(1)


IDS = torch.randint(90, (32, 7), generator=Generator().manual_seed(3))
RAGGED = (IDS.flatten()[:60], torch.tensor([0, 4, 10, 30, 31]))


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(7))


@pytest.mark.parametrize(
    ("build", "inputs", "errors"),
    [
        (LinearAttention, (drawn(8, 12, 64),), (0.04, 0.30)),
        (SkipOfAnotherSize, (drawn(4, 8, 8, 8),), (0.03, 0.08)),
        (FourierFeatures, (drawn(64, 3),), (0.05, 0.05)),
        (Dueling, (drawn(64, 24),), (0.12, 0.08)),
        (Bags, (IDS,), (0.06, 0.06)),
        (lambda: Bags("sum"), (IDS,), (0.06, 0.06)),
        (Bags, RAGGED, (0.10, 0.06)),
    ],
)
def test_prediction_is_what_draws_do(
    build: Callable[[], nn.Module], inputs: tuple[Any, ...], errors: tuple[float, float]
) -> None:
    record = isograd.predict(build, (inputs, None))
    assert record.fact("prediction.sampled") == []
    assert record.fact("prediction.predictable")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seen = [isograd.measure(build(), (inputs, None), seed=seed) for seed in range(DRAWS)]
    for key, error in zip(("forward.rms", "backward.rms"), errors, strict=True):
        for place, site in enumerate(record.sites):
            values, value = [one.value(key, place) for one in seen], record.value(key, place)
            if value is None:
                assert values == [None] * DRAWS, site.name
                continue
            mean = math.sqrt(sum((one or 0.0) ** 2 for one in values) / DRAWS)
            assert value == pytest.approx(mean, rel=error), (key, site.name)


class Autoencoder(nn.Module):
    """Its own input is the target of its binary cross-entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(90, 40), nn.Linear(40, 90)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        again = torch.sigmoid(self.up(F.relu(self.down(x))))
        return {"loss": F.binary_cross_entropy(again, x), "again": again}


def test_an_input_as_target_of_binary_cross_entropy() -> None:
    x = torch.rand(32, 90, generator=Generator().manual_seed(7))
    record = isograd.predict(Autoencoder, (x, None))
    assert record.fact("prediction.sampled") == []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seen = [isograd.measure(Autoencoder(), (x, None)) for _ in range(DRAWS)]
    for place, site in enumerate(record.sites[-2:], len(record.sites) - 2):
        mean = sum(one.value("backward.rms", place) or 0.0 for one in seen) / DRAWS
        assert record.value("backward.rms", place) == pytest.approx(mean, rel=0.05), site.name
    assert record.fact("loss.value") == pytest.approx(
        sum(float(one.fact("loss.value") or 0.0) for one in seen) / DRAWS, rel=0.02
    )


def test_the_largest_expert_depends_on_data() -> None:
    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.one = nn.Linear(24, 4), nn.Linear(24, 24)

        def forward(self, x: Tensor) -> Tensor:
            weight, index = torch.softmax(self.gate(x), -1).max(-1)
            y = torch.zeros_like(x)
            y[index == 0] = self.one(x[index == 0])
            return x + weight[:, None] * y

    with pytest.raises(PredictionError, match=r"eq in 'the forward' uses .*mixtures of experts"):
        isograd.predict(Routed, drawn(8, 24))
