"""Plausible batches: standardized, with real structure, drawn from torch's current generator."""

import functools

import torch
import torch.nn.functional as F
from sklearn import datasets
from torch import Tensor


def standardized(x: Tensor, dim: int | tuple[int, ...] = 0) -> Tensor:
    """Zero mean and unit variance over `dim`; a constant column becomes zero."""
    return (x - x.mean(dim, keepdim=True)) / (x.std(dim, keepdim=True) + 1e-6)


def blobs(samples: int, features: int, classes: int) -> tuple[Tensor, Tensor]:
    """Points around one center per class: (samples, features) and (samples,)."""
    labels = torch.arange(samples) % classes
    centers = torch.randn(classes, features)
    return standardized(centers[labels] + torch.randn(samples, features)), labels


def regression(samples: int, features: int) -> tuple[Tensor, Tensor]:
    """A noisy smooth function of the inputs with standardized targets (samples, 1)."""
    x = torch.randn(samples, features)
    y = x @ torch.randn(features, 1) + torch.sin(2 * x[:, :1]) + 0.1 * torch.randn(samples, 1)
    return standardized(x), standardized(y)


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    raw = datasets.load_digits()
    return torch.tensor(raw.data, dtype=torch.float32), torch.tensor(raw.target)


def digits(samples: int) -> tuple[Tensor, Tensor]:
    """scikit-learn's handwritten digits, each pixel standardized: (samples, 64)."""
    x, y = _digits()
    keep = torch.randperm(len(x))[:samples]
    return standardized(x)[keep], y[keep]


def digit_images(samples: int) -> tuple[Tensor, Tensor]:
    """The same as images, standardized as a whole: (samples, 1, 8, 8)."""
    x, y = _digits()
    keep = torch.randperm(len(x))[:samples]
    return ((x - x.mean()) / x.std())[keep].view(-1, 1, 8, 8), y[keep]


def images(samples: int, size: int, classes: int = 10) -> tuple[Tensor, Tensor]:
    """Smooth color patterns per class plus noise at two scales: (samples, 3, size, size)."""
    labels = torch.arange(samples) % classes

    def smooth(count: int, cells: int) -> Tensor:
        return F.interpolate(torch.randn(count, 3, cells, cells), size=size, mode="bicubic")

    x = smooth(classes, 4)[labels] + smooth(samples, 4) + 0.5 * smooth(samples, size)
    return standardized(x, (0, 2, 3)), labels


def signals(samples: int, channels: int, length: int, classes: int) -> tuple[Tensor, Tensor]:
    """Sines whose frequency tells the class, in noise: (samples, channels, length)."""
    labels = torch.arange(samples) % classes
    time = torch.arange(length) / length
    phase = torch.rand(samples, channels, 1) * 2 * torch.pi
    wave = torch.sin(2 * torch.pi * (1.0 + labels)[:, None, None] * time + phase)
    return standardized(wave + 0.5 * torch.randn(samples, channels, length), (0, 2)), labels


def tokens(samples: int, length: int, words: int) -> Tensor:
    """A Markov chain with a few likely followers per word: (samples, length) of int64.

    The words 0 to 2 are left out: models use them for padding, begin and end.
    """
    chain = torch.softmax(3 * torch.randn(words, words), -1)
    chain[:, :3] = 0
    sequence = [torch.randint(3, words, (samples,))]
    for _ in range(length - 1):
        sequence.append(torch.multinomial(chain[sequence[-1]], 1).squeeze(1))
    return torch.stack(sequence, 1)


def topics(samples: int, length: int, words: int, classes: int) -> tuple[Tensor, Tensor]:
    """Bags of words drawn by topic: (samples, length) of int64 and (samples,)."""
    labels = torch.arange(samples) % classes
    favor = torch.softmax(2 * torch.randn(classes, words), -1)
    return torch.multinomial(favor[labels], length, replacement=True), labels
