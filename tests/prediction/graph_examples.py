"""Examples of sums with known weights along one axis, as over a graph, for the contract."""

import torch
from contract import Example

COARSE = ("plain", "function")
SOURCE, TARGET = torch.tensor([0, 1, 1, 4, 3, 0]), torch.tensor([2, 2, 0, 3, 2, 3])
GRAPH = torch.tensor(
    [
        [1.0, 1.0, 1.0, 1.0, 1.0],
        [0.0, 0.0, 1.0, 0.0, 0.0],
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 1.0, 0.0],
        [1.0, 0.0, 0.0, 1.0, 0.0],
    ]
)
DEGREE = GRAPH.sum(1, keepdim=True)


def nothing(x, *shape):
    return torch.zeros(shape, dtype=x.dtype)


def mean_of_neighbors(x):
    """A @ x / degree."""
    return GRAPH.to(x.dtype) @ x / DEGREE.to(x.dtype)


def normalized(x):
    """D^-1/2 A D^-1/2 x (Kipf and Welling 2017, equation 2)."""
    root = DEGREE.rsqrt().to(x.dtype)
    return root * (GRAPH.to(x.dtype) @ (root * x))


def messages(x):
    """Sums over incoming edges, divided by their number."""
    total = nothing(x, 5, 3).index_add(0, TARGET, x[SOURCE])
    return total / nothing(x, 5).index_add(0, TARGET, torch.ones_like(TARGET, dtype=x.dtype)).clamp(
        min=1
    ).unsqueeze(1)


def scattering():
    wide = TARGET[:, None].expand(6, 3)
    one = {"linear": "jointly", "kinds": COARSE}
    return [
        Example(mean_of_neighbors, ((5, 3),), **one),
        Example(normalized, ((2, 5, 3),), **one),
        Example(messages, ((5, 3),), **one),
        Example(lambda x: nothing(x, 4, 3).index_add(0, TARGET, x), ((6, 3),), **one),
        Example(lambda x: nothing(x, 4, 3).scatter_add(0, wide, x), ((6, 3),), **one),
        Example(lambda x: nothing(x, 2, 4, 3).index_add(1, TARGET, x), ((2, 6, 3),), **one),
        Example(lambda x: nothing(x, 4, 3).scatter_reduce(0, wide, x, "sum"), ((6, 3),), **one),
        Example(
            lambda x: nothing(x, 3, 3).scatter_reduce(
                0, wide % 3 % 2 + wide // 3, x, "mean", include_self=True
            ),
            ((6, 3),),
            **one,
        ),
        Example(lambda y, x: y.index_add(0, TARGET, x), ((4, 3), (6, 3)), **one),
    ]
