"""Inputs and targets of the fourth set of ill networks: MNIST, and small sets of scikit-learn.

A name is `kind:how`, such as `wine:raw`. Shapes are [samples, ...] throughout. MNIST is read from
$ISOGRAD_DATA, or from where `isograd lab fetch mnist` puts it.
"""

import functools

import torch
from torch import Tensor

from isograd.lab import images

Pair = tuple[Tensor, Tensor]
MEAN, STD = 0.1307, 0.3081
"""Of MNIST's pixels from 0 to 1, as everybody writes them."""


@functools.cache
def data(name: str) -> Pair:
    """Inputs and targets of a data set."""
    kind, _, how = name.partition(":")
    return {"mnist": mnist, "rows": rows, "wine": wine, "cancer": cancer, "diabetes": diabetes}[
        kind
    ](how)


def mnist(how: str) -> Pair:
    """12,000 images; with themselves as targets where an autoencoder is asked for."""
    found = images.load("mnist").take(12000).flat()
    x, y = found.inputs, found.labels
    share = x / 255
    unit = (share - MEAN) / STD
    return {
        "unit": (unit, y),
        "img": (unit.view(-1, 1, 28, 28), y),
        "01": (share, y),
        "bytes": (x, y),
        "auto": (unit, unit),
        "auto01": (share, share),
    }[how]


def rows(times: str) -> Pair:
    """3,000 images as sequences of their 28 rows, shown so many times."""
    x, y = mnist("unit")
    return x[:3000].view(-1, 28, 28).repeat(1, int(times), 1), y[:3000]


def wine(how: str) -> Pair:
    """13 columns and three sorts; proline has 1,700, and hue 1.7."""
    from sklearn import datasets

    found = datasets.load_wine()
    x, y = torch.tensor(found.data, dtype=torch.float32), torch.tensor(found.target)
    return (x if how == "raw" else (x - x.mean(0)) / x.std(0)), y


def cancer(how: str) -> Pair:
    """30 standardized columns; yes or no in a column, or in none."""
    from sklearn import datasets

    found = datasets.load_breast_cancer()
    x, y = torch.tensor(found.data, dtype=torch.float32), torch.tensor(found.target).float()
    return (x - x.mean(0)) / x.std(0), (y if how == "flat" else y[:, None])


def diabetes(how: str) -> Pair:
    """Ten columns and how far the disease has come after a year, 25 to 346."""
    from sklearn import datasets

    raw, unit = (datasets.load_diabetes(scaled=flag) for flag in (False, True))
    x = 21 * torch.tensor(unit.data, dtype=torch.float32)
    y = torch.tensor(unit.target, dtype=torch.float32)[:, None]
    score = (y - y.mean()) / y.std()
    return {
        "unit": (x, score),
        "columns": (torch.tensor(raw.data, dtype=torch.float32), score),
        "target": (x, y),
        "positive": (x, score + 3),
    }[how]
