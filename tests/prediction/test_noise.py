"""Tests of bands of gradients where samples have much in common, or norms divide by one draw."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import isograd
from isograd.prediction.backward.gradients import added
from isograd.prediction.moments.known import independent

DRAWS = 60


def deep(activation, norm=nn.Identity, depth=8, width=64) -> nn.Sequential:
    """Layers whose biases make all samples alike, and five outputs."""
    blocks = [
        layer
        for _ in range(depth)
        for layer in (nn.Linear(width, width), activation(), norm(width))
    ]
    return nn.Sequential(*blocks, nn.Linear(width, 5))


def measured(make, batch, column: str) -> np.ndarray:
    """Ln of a column, draw by draw."""
    found = []
    for seed in range(DRAWS):
        torch.manual_seed(3 * seed)
        record = isograd.measure(make(), batch(seed), seed=3 * seed + 2)
        found.append([np.nan if v is None else v for v in record.series[column]])
    return np.log(np.array(found))


def drawn(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3 * seed + 1)
    return torch.randn(16, 64, generator=generator)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_weight_gradients_differ_as_their_band_says_where_samples_are_alike(activation):
    make = partial(deep, activation)
    record = isograd.predict(make, "float32[16,64]")
    at = [i for i, one in enumerate(record.parameters) if one.kind == "linear"][3:]
    found = measured(make, drawn, "weight.grad_rms")[:, at]
    bands = np.array([record.series["weight.grad_band"][i] for i in at])
    assert np.median(found.std(axis=0)) > 0.2  # of 5 outputs the variance of ln rms is up to 0.1
    assert 0.75 < np.median(found.std(axis=0) / bands) < 1.35


def test_inputs_that_are_one_and_the_same_leave_as_many_degrees_of_freedom_as_outputs():
    """The gradient of W is x times the sum of all probes: 10 normal numbers."""
    batch = torch.randn(1, 400).expand(32, 400)
    record = isograd.predict(lambda: nn.Linear(400, 10, bias=False), batch)
    rules = 0.04  # what the rules are known to be off by
    width = record.series["weight.grad_band"][0] ** 2 - rules**2
    assert width == pytest.approx(2 / 10 / 4, rel=0.05)
    apart = isograd.predict(lambda: nn.Linear(400, 10, bias=False), torch.randn(32, 400))
    assert apart.series["weight.grad_band"][0] ** 2 - rules**2 < width / 5


def test_gradients_of_biases_have_the_noise_of_a_sum():
    make = partial(deep, nn.Tanh)
    record = isograd.predict(make, "float32[16,64]")
    at = [i for i, one in enumerate(record.parameters) if one.kind == "bias"][3:-1]
    found = measured(make, drawn, "weight.grad_rms")[:, at].std(axis=0)
    bands = np.array([record.series["weight.grad_band"][i] for i in at])
    assert 0.75 < np.median(found / bands) < 1.35


def test_a_norm_divides_a_gradient_by_what_one_draw_has():
    make = partial(deep, nn.ReLU, nn.LayerNorm, depth=16)
    record = isograd.predict(make, "float32[16,64]")
    at = [i for i, one in enumerate(record.sites) if one.label == "LayerNorm"][:4]
    found = measured(make, drawn, "backward.rms")[:, at].std(axis=0)
    bands = np.array([record.series["backward.band"][i] for i in at])
    assert 0.7 < np.median(found / bands) < 1.2


def test_what_a_norm_gives_does_not_differ_from_draw_to_draw():
    make = partial(deep, nn.ReLU, nn.LayerNorm, depth=16)
    record = isograd.predict(make, "float32[16,64]")
    linear = [
        record.value("forward.band", i)
        for i, one in enumerate(record.sites)
        if one.label == "Linear"
    ]
    assert linear[14] < 1.1 * linear[3]  # nothing adds up from norm to norm


def test_paths_of_one_gradient_have_its_noise_in_common():
    where = independent((8, 4), 0.0, 1.0)
    skip, branch = independent((8, 4), 0.0, 3.0), independent((8, 4), 0.0, 1.0)
    skip.noise, branch.noise = 0.1, 0.3
    assert added(skip, branch, where).noise == pytest.approx(0.1 + 0.2 / 4**2)


class Unit(nn.Module):
    """Features over their length, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inner(x)
        return self.outer(x / torch.pow(torch.pow(x, 2).sum(-1, keepdim=True), 0.5))


def test_a_root_written_as_a_power_has_no_pole_among_what_is_likely():
    bands = isograd.predict(Unit, "float32[16,64]").series["backward.band"]
    assert max(band for band in bands if band is not None) < 0.2


class Tagger(nn.Module):
    """Two recurrent layers; three labels a step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 48, num_layers=2, batch_first=True)
        self.head = nn.Linear(48, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x.view(16, 4, 16))[0])


def test_weights_of_recurrent_layers_have_the_noise_of_a_sum():
    """What all steps have in common of the hidden state is met by a sum of three labels' probes."""
    record = isograd.predict(Tagger, drawn(0))
    at = [i for i, one in enumerate(record.parameters) if one.name.startswith("lstm.weight")]
    found = measured(Tagger, drawn, "weight.grad_rms")[:, at].std(axis=0)
    bands = np.array([record.series["weight.grad_band"][i] for i in at])
    assert (found / bands < 1.5).all(), found / bands
    assert (found / bands > 0.5).all(), found / bands
    assert bands[3] > 1.5 * bands[0]  # of inputs that have nothing in common it is less


def test_gradients_of_one_direction_differ_as_their_band_says():
    """Two classes: gradients of all samples point the same way, or the opposite one."""
    labels = torch.randint(2, (32,), generator=torch.Generator().manual_seed(0))

    def make() -> nn.Module:
        layers = [layer for _ in range(3) for layer in (nn.Linear(64, 64), nn.ReLU())]
        return nn.Sequential(*layers, nn.Linear(64, 2))

    found = []
    for seed in range(DRAWS):
        torch.manual_seed(3 * seed)
        batch = torch.randn(32, 64, generator=torch.Generator().manual_seed(seed)), labels
        record = isograd.measure(make(), batch, nn.functional.cross_entropy, seed=3 * seed + 2)
        found.append(record.series["backward.rms"][:5])
    spread = np.log(np.array(found)).std(axis=0)
    guess = isograd.predict(make, batch, loss=nn.functional.cross_entropy)
    bands = np.array(guess.series["backward.band"][:5])
    assert spread.min() > 0.08
    assert 0.75 < np.median(spread / bands) < 1.2


class Retention(nn.Module):
    """Averages with weights of any sign, over few tokens at first, and a norm of each."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(32, 32, bias=False) for _ in range(3))
        self.head = nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.q(x) @ self.k(x).transpose(1, 2) * torch.ones(16, 16).tril()
        y = (weights @ self.v(x)).reshape(-1, 32)
        return self.head(nn.functional.group_norm(y, 2))


def test_norms_of_few_terms_are_told():
    x = torch.randn(4, 16, 32)
    found = []
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        found.append(isograd.measure(Retention(), x, seed=seed).series["backward.rms"])
    guess = isograd.predict(Retention, x)
    for i, site in enumerate(guess.sites):
        if site.name in ("q", "k", "v"):
            away = np.log([row[i] / guess.series["backward.rms"][i] for row in found])
            band = guess.series["backward.band"][i]
            assert (np.abs(away) < 2 * band).mean() > 0.8
            assert band > 0.3 if site.name != "v" else band < 0.2
