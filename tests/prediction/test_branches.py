"""Tests of losses that compare outputs of one layer: two branches, or the samples of a batch."""

from functools import partial

import pytest
import torch
from torch import nn

import isograd

WIDTH, BATCH, DRAWS = 96, 32, 30


class Branches(nn.Module):
    """An encoder for both halves of the features, and what is compared."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        layers = [nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
        self.encoder = nn.Sequential(*layers, nn.Linear(WIDTH, WIDTH))
        self.head, self.other = nn.Linear(WIDTH, 5), nn.Linear(WIDTH, WIDTH)
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.encoder(x[:, :WIDTH]), self.encoder(x[:, WIDTH:])
        if self.kind == "unlike":
            parts = torch.stack([torch.relu(a), self.other(x[:, WIDTH:])], 1)
            return (parts @ parts.mT)[:, 0, 1]
        if self.kind == "cosine":
            return nn.functional.cosine_similarity(a, b)
        if self.kind == "distance":
            return nn.functional.pairwise_distance(a, b).square().mean()
        if self.kind == "product":
            return self.head(a * b)
        if self.kind == "gated":
            return self.head(torch.relu(a) * torch.relu(b))
        z = nn.functional.normalize(torch.cat([a, b]), dim=1)
        logits = (z @ z.t() / 0.5).masked_fill(torch.eye(2 * BATCH, dtype=torch.bool), -1e9)
        return nn.functional.cross_entropy(logits, torch.arange(2 * BATCH).roll(BATCH))


def drawn(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3 * seed + 1)
    return torch.randn(BATCH, 2 * WIDTH, generator=generator)


def errors(kind: str) -> dict[str, float]:
    """Predicted over measured rms of gradients, less one: of linear layers and of weights."""
    make = partial(Branches, kind)
    loss = (lambda out, _: out) if kind in ("distance", "contrast") else None
    squares: dict[str, float] = {}
    for seed in range(DRAWS):
        torch.manual_seed(3 * seed)
        for name, rms in gradients(isograd.measure(make(), drawn(seed), loss, seed=3 * seed + 2)):
            squares[name] = squares.get(name, 0.0) + rms**2 / DRAWS
    record = isograd.predict(make, drawn(0), loss=loss)
    return {name: rms / squares[name] ** 0.5 - 1 for name, rms in gradients(record)}


def gradients(record) -> list[tuple[str, float]]:
    found = [
        (site.name, rms)
        for site, rms in zip(record.sites, record.series["backward.rms"], strict=True)
        if site.label == "Linear" and rms
    ]
    weights = zip(record.parameters, record.series["weight.grad_rms"], strict=True)
    return found + [(one.name, rms) for one, rms in weights if one.kind == "linear" and rms]


@pytest.mark.parametrize(
    ("kind", "first", "weights"),
    [
        ("cosine", 0.12, 0.12),  # 17 % low and 70 % high: two of three cancel
        ("distance", 0.12, 0.4),  # 46 and 56 % low: it goes back along the difference
        ("product", 0.1, 0.12),  # the head's 30 % low: a b is not independent
        ("gated", 0.12, 0.25),  # 27 and 50 % low: both gates are open together
        ("unlike", 0.1, 0.1),  # parts of other layers are none that a gradient would hold
        ("contrast", 0.2, 0.35),  # 37 % low: each gradient holds the other samples
    ],
)
def test_gradients_behind_what_compares_two_branches(kind, first, weights):
    found = errors(kind)
    for name, error in found.items():
        assert abs(error) < (weights if name.endswith("weight") else first), found


class _Interleaved(torch.nn.Module):
    """Tokens of three kinds with the codes of their steps, side by side, and their mean."""

    def __init__(self, stacked: bool) -> None:
        super().__init__()
        self.kinds = torch.nn.ModuleList(torch.nn.Linear(5, 64) for _ in range(3))
        self.steps = torch.nn.Embedding(8, 64)
        self.head = torch.nn.Linear(64, 4)
        self.stacked = stacked

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        codes = self.steps(torch.arange(8))
        tokens = [kind(x) for kind in self.kinds]
        if self.stacked:
            whole = torch.stack([token + codes for token in tokens], 2)
            return self.head(whole.reshape(len(x), 24, 64).view(len(x), 8, 3, 64).mean(2))
        return self.head(sum(tokens) / 3 + codes)


def test_codes_of_positions_are_common_to_what_is_stacked() -> None:
    x = torch.randn(4, 8, 5)
    found, known = (isograd.predict(lambda s=s: _Interleaved(s), x) for s in (True, False))
    rows = (record.series["forward.rms"][-1] for record in (found, known))
    assert next(rows) == pytest.approx(next(rows), rel=1e-6)


class _Gate(torch.nn.Module):
    """2 sigmoid(W x) of channels, laid out for the places of a map, and scaled."""

    def __init__(self, wide: bool) -> None:
        super().__init__()
        self.gate = torch.nn.Linear(16, 64)
        self.head = torch.nn.Linear(64, 3)
        self.wide = wide

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.sigmoid(self.gate(x))
        return self.head((2 * y[:, :, None, None])[:, :, 0, 0] if self.wide else 2 * y)


def test_a_function_of_what_is_laid_out_anew_counts_once() -> None:
    x = torch.randn(8, 16)
    found, known = (isograd.predict(lambda w=w: _Gate(w), x) for w in (True, False))
    rows = (record.series["backward.rms"][0] for record in (found, known))
    assert next(rows) == pytest.approx(next(rows), rel=1e-6)


class _Scaled(torch.nn.Module):
    """relu(x + c s y): the gate s of a channel, c given before or after."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 32, 3, padding=1)
        self.branch = torch.nn.Conv2d(3, 32, 3, padding=1)
        self.gate = torch.nn.Linear(32, 32)
        self.head = torch.nn.Linear(32, 3)
        self.last = last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.branch(x)
        s = torch.sigmoid(self.gate(y.mean((2, 3))))[:, :, None, None]
        z = 0.5 * (s * y) if self.last else s * (0.5 * y)
        return self.head(torch.relu(self.conv(x) + z).mean((2, 3)))


def test_a_number_does_not_hide_what_gates_sum_up() -> None:
    x = torch.randn(4, 3, 8, 8)
    found, known = (isograd.predict(lambda k=k: _Scaled(k), x) for k in (True, False))
    for one, other in zip(found.series["backward.rms"], known.series["backward.rms"], strict=True):
        assert one == pytest.approx(other, rel=0.02)


class _Tied(torch.nn.Module):
    """An autoencoder that decodes with the transposed matrices of its encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(128, 64), torch.nn.Linear(64, 48)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        for layer in reversed(list(self.layers)):
            x = x @ layer.weight
        return x


def test_gradients_behind_a_matrix_and_its_transpose() -> None:
    x = torch.randn(16, 128)
    energies = []
    for seed in range(12):
        torch.manual_seed(seed)
        energies.append(isograd.measure(_Tied(), x, seed=seed).series["backward.rms"][0])
    known = sum(value**2 for value in energies) / len(energies)
    found = isograd.predict(_Tied, x).series["backward.rms"][0]
    assert found == pytest.approx(known**0.5, rel=0.06)


class _Decoder(torch.nn.Module):
    """W' f(W x + b), as it is often written."""

    def __init__(self, *, by_linear: bool) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Linear(128, 256), torch.nn.Linear(256, 64)
        self.by_linear = by_linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.relu(self.b(torch.tanh(self.a(x))))
        if not self.by_linear:
            return z @ self.b.weight @ self.a.weight
        linear = torch.nn.functional.linear
        return linear(linear(z, self.b.weight.t()), self.a.weight.t())


@pytest.mark.parametrize("by_linear", [True, False])
def test_a_transposed_matrix_gives_back_what_it_has_read(by_linear: bool) -> None:
    x = torch.randn(64, 128)
    energies = []
    for seed in range(12):
        torch.manual_seed(seed)
        known = isograd.measure(_Decoder(by_linear=by_linear), x, seed=seed)
        energies.append(known.series["forward.rms"][-1] ** 2)
    found = isograd.predict(lambda: _Decoder(by_linear=by_linear), x).series["forward.rms"][-1]
    assert found == pytest.approx((sum(energies) / len(energies)) ** 0.5, rel=0.04)


class _Short(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(128, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.a(x)) @ self.a.weight


def test_an_autoencoder_that_gives_back_its_inputs_has_less_to_learn() -> None:
    x, other = torch.randn(64, 128), torch.randn(64, 128)
    loss = torch.nn.functional.mse_loss
    for target in (x, other):
        energies = []
        for seed in range(6):
            torch.manual_seed(seed)
            known = isograd.measure(_Short(), (x, target), loss, seed=seed)
            energies.append(known.series["backward.rms"][-1] ** 2)
        found = isograd.predict(_Short, (x, target), loss=loss).series["backward.rms"][-1]
        assert found == pytest.approx((sum(energies) / len(energies)) ** 0.5, rel=0.03)
