"""Inputs and targets of the third set of ill networks: scikit-learn's digits, and made ones.

A name is `kind` or `kind:how`, such as `weather:raw`. Shapes are [samples, ...] throughout.
"""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


class Draws:
    """Random numbers of one data set, which are the same whenever it is made."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(23)

    def normal(self, *shape: int) -> Tensor:
        """Of mean 0 and variance 1."""
        return torch.randn(*shape, generator=self.generator)

    def uniform(self, *shape: int) -> Tensor:
        """From 0 to 1."""
        return torch.rand(*shape, generator=self.generator)

    def below(self, end: int, *shape: int) -> Tensor:
        """Whole numbers from 0 to below `end`."""
        return torch.randint(end, shape, generator=self.generator)


@functools.cache
def data(name: str) -> Pair:
    """Inputs and targets of a data set."""
    kind, _, how = name.partition(":")
    return MADE[kind](Draws(), how)


def digits(draws: Draws, how: str) -> Pair:
    """Images of 8 x 8 and their digits; or themselves, or an age in years, as targets."""
    from sklearn import datasets

    found = datasets.load_digits()
    x = torch.tensor(found.data, dtype=torch.float32)
    y = torch.tensor(found.target)
    unit = (x - x.mean()) / x.std()
    images = unit.view(-1, 1, 8, 8)
    if how == "age":
        return images, (1 + 10.0 * y + 8 * draws.uniform(len(y)))[:, None]
    return {
        "flat": (unit, y),
        "img": (images, y),
        "rows": (unit.view(-1, 8, 8), y),
        "flat01": (x / 16, y),
        "bytes": (x / 16 * 255, y),
        "auto": (x / 16, x / 16),
    }[how]


def degrees(draws: Draws, how: str) -> Pair:
    """An angle in degrees and its sine."""
    x = draws.uniform(1500, 1) * 360
    return (x if how == "raw" else (x - 180) / 104), torch.sin(x * math.pi / 180)


def returns(draws: Draws, how: str) -> Pair:
    """Values of states, of some hundreds."""
    x = draws.normal(2000, 6)
    y = torch.tanh(x @ draws.normal(6, 16)) @ draws.normal(16, 1) / 4
    return x, 600 + 250 * y / y.std()


def stock(draws: Draws, how: str) -> Pair:
    """Daily returns, of some thousandths."""
    x = draws.normal(2000, 10)
    y = torch.tanh(x @ draws.normal(10, 12) / 2) @ draws.normal(12, 1)
    return x, 0.001 + 0.002 * (y - y.mean()) / y.std()


def eeg(draws: Draws, how: str) -> Pair:
    """Waves of one of three frequencies in noise, in volts where raw."""
    y = draws.below(3, 1200)
    time = torch.arange(64.0)[None]
    frequency = 0.25 + 0.2 * y[:, None]
    x = torch.sin(frequency * time + 6.28 * draws.uniform(1200, 1)) + 0.7 * draws.normal(1200, 64)
    return (x[:, None] * (2e-5 if how == "raw" else 1.0)), y


def weather(draws: Draws, how: str) -> Pair:
    """21 hours of four quantities; in pascal, kelvin, percent and meters per second where raw."""
    hours = [draws.normal(1500, 4)]
    for _ in range(20):
        hours.append(0.9 * hours[-1] + 0.44 * draws.normal(1500, 4))
    x = torch.stack(hours, 1)
    y = torch.tanh(x[:, -1, :1] + x[:, -6, 1:2]) + 0.5 * x[:, -3, 2:3] * x[:, -1, 3:]
    units, origins = torch.tensor([900.0, 9, 18, 2.5]), torch.tensor([101300.0, 285, 60, 5])
    return (x * units + origins if how == "raw" else x), (y - y.mean()) / y.std()


def clock(draws: Draws, how: str) -> Pair:
    """Six columns, the last of which is seconds since 1970 where raw."""
    x = draws.normal(2000, 6)
    y = ((x[:, 0] + x[:, 1] * x[:, 2] + 0.5 * x[:, 5]) > 0).float()[:, None]
    if how == "raw":
        x[:, 5] = x[:, 5] * 3e6 + 1.55e9
    return x, y


def tags(draws: Draws, how: str) -> Pair:
    """Twelve tags, about a third of which are true of a sample."""
    x = draws.normal(2500, 16)
    hidden = torch.relu(x @ draws.normal(16, 24))
    likely = hidden @ draws.normal(24, 12) / 5
    return x, (likely > likely.quantile(0.65, 0)).float()


def sales(draws: Draws, how: str) -> Pair:
    """Positive amounts with a long tail."""
    x = draws.normal(2000, 8)
    y = torch.exp(0.6 * x[:, :1] - 0.4 * x[:, 1:2] * x[:, 2:3] + 1.0)
    return x, y.clamp(max=60)


def chars(draws: Draws, how: str) -> Pair:
    """24 characters of twelve, nine of ten of which follow from the two before; and the next."""
    table = draws.below(12, 12, 12)
    text = [draws.below(12, 1500), draws.below(12, 1500)]
    for _ in range(22):
        follows = draws.uniform(1500) < 0.9
        text.append(torch.where(follows, table[text[-2], text[-1]], draws.below(12, 1500)))
    x = torch.stack(text, 1)
    return x[:, :-1], x[:, 1:]


def moves(draws: Draws, how: str) -> Pair:
    """24 noisy steps in five directions, at one of which the direction asked for shows."""
    y = draws.below(5, 1500)
    x = 0.6 * draws.normal(1500, 24, 5)
    x[torch.arange(1500)[:, None], draws.below(24, 1500, 5), y[:, None]] += 1.5
    return x, y


def picture(draws: Draws, how: str) -> Pair:
    """Places in a picture and how bright it is there."""
    side = torch.linspace(-1, 1, 48)
    x = torch.cartesian_prod(side, side)
    return x, torch.sin(9 * x[:, :1] + 4 * x[:, 1:]) * torch.cos(11 * x[:, 1:])


def smooth(draws: Draws, how: str) -> Pair:
    """A smooth function of three of ten columns, with noise."""
    x = draws.normal(2000, 10)
    y = torch.sin(x[:, :1]) + 0.5 * x[:, 1:2] * x[:, 2:3] + 0.1 * draws.normal(2000, 1)
    return x, y / y.std()


def inverse(draws: Draws, how: str) -> Pair:
    """Targets of which one input has several, from -40 to 40."""
    y = 10 * (draws.uniform(2000, 1) * 2 - 1)
    return (y * 0.7 + 3 * torch.sin(0.75 * y) + draws.normal(2000, 1)) / 5, 4 * y


def moons(draws: Draws, how: str) -> Pair:
    """Two half circles, 0 and 1."""
    angle = draws.uniform(1200, 1) * math.pi
    y = draws.below(2, 1200, 1).float()
    x = torch.cat([torch.cos(angle), torch.sin(angle)], 1) * (1 - 2 * y)
    x = x + torch.cat([y, y * 0.5], 1) + 0.1 * draws.normal(1200, 2)
    return (x - x.mean(0)) / x.std(0), y


def words(draws: Draws, how: str) -> Pair:
    """14 words, three of which are one of four marks."""
    x = draws.below(76, 2000, 14) + 4
    y = draws.below(4, 2000)
    places = [torch.randperm(14, generator=draws.generator)[:3] for _ in range(2000)]
    x.scatter_(1, torch.stack(places), y[:, None].expand(-1, 3))
    return x, y


MADE: dict[str, Callable[[Draws, str], Pair]] = {
    one.__name__: one
    for one in (
        digits, degrees, returns, stock, eeg, weather, clock, tags, sales,
        chars, moves, picture, smooth, inverse, moons, words,
    )
}  # fmt: skip
