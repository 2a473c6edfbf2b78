"""Tests of attention whose keys and values come from the same features."""

import numpy as np
import pytest
import torch
from torch import nn

import isograd
from isograd.prediction.predicting import predict


class Attention(nn.Module):
    """One head; values from the keys' features, or from others of the same law."""

    def __init__(self, width, *, shared):
        super().__init__()
        self.shared = shared
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, asked, told, other):
        return nn.functional.scaled_dot_product_attention(
            self.q(asked), self.k(told), self.v(told if self.shared else other)
        )


def batch(width, keys):
    shapes = {"asked": (4, 6, width), "told": (4, keys, width), "other": (4, keys, width)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "apart"])
@pytest.mark.parametrize(("width", "keys"), [(48, 48), (64, 16)])
def test_gradients_of_queries_and_keys(width, keys, shared):
    """For n keys of d features the energy is 1 + n / d times as large where they are shared."""
    energies = []
    for seed in range(40):
        torch.manual_seed(seed)
        found = isograd.measure(Attention(width, shared=shared), batch(width, keys), seed=seed)
        energies.append(np.square(sides(found)))
    record = predict(lambda: Attention(width, shared=shared), batch(width, keys))
    np.testing.assert_allclose(sides(record), np.sqrt(np.mean(energies, axis=0)), rtol=0.06)


def sides(record):
    """Gradients of queries, keys and values, then of the weights of queries and keys."""
    return [*record.series["backward.rms"][:3], *record.series["weight.grad_rms"][:2]]


class Biased(nn.Module):
    """Causal attention with a bias by distance, one slope a head (Press et al. 2022)."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.mixed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        parts = self.mixed(x).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        steps = torch.arange(x.shape[1])
        distance = steps[:, None] - steps
        slopes = 2.0 ** -torch.arange(1, self.heads + 1).float()
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 - slopes[:, None, None] * distance
        weights = scores.masked_fill(distance < 0, float("-inf")).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


def test_a_bias_by_distance_is_no_variance_of_logits():
    energies = []
    for seed in range(20):
        torch.manual_seed(seed)
        found = isograd.measure(Biased(64, 4), torch.randn(4, 24, 64), seed=seed)
        energies.append(np.square([*found.series["forward.rms"], *found.series["backward.rms"]]))
    record = predict(lambda: Biased(64, 4), torch.randn(4, 24, 64))
    predicted = [*record.series["forward.rms"], *record.series["backward.rms"]]
    np.testing.assert_allclose(predicted, np.sqrt(np.mean(energies, axis=0)), rtol=0.06)


class Linear(nn.Module):
    """Causal linear attention: weights over their own sum (Katharopoulos et al. 2020)."""

    def __init__(self, width):
        super().__init__()
        self.mixed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.mixed(x).chunk(3, -1)
        q, k = nn.functional.elu(q) + 1, nn.functional.elu(k) + 1
        products = (q @ k.transpose(-1, -2)).tril()
        return self.out(products / products.sum(-1, keepdim=True) @ v)


def test_weights_over_their_own_sum():
    """Queries of early steps, where few products make the sum, get a sixth less than predicted."""
    energies = []
    for seed in range(20):
        torch.manual_seed(seed)
        found = isograd.measure(Linear(64), torch.randn(4, 24, 64), seed=seed)
        energies.append(np.square([found.series[key] for key in ("forward.rms", "backward.rms")]))
    record = predict(lambda: Linear(64), torch.randn(4, 24, 64))
    forward, backward = np.sqrt(np.mean(energies, axis=0))
    np.testing.assert_allclose(record.series["forward.rms"], forward, rtol=0.05)
    np.testing.assert_allclose(record.series["backward.rms"], backward, rtol=0.2)
