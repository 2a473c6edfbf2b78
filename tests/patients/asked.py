"""Networks as people ask about them: faults in the loss, in norms and in what is frozen.

Each ill one has a well one beside it that looks alike.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patients import data
from patients.dense import mlp
from patients.ill import Ill, LastStep, Then, digits, he, ill
from patients.patient import Patient, adam, seeded, sgd


def over_samples() -> nn.Module:
    return nn.Sequential(*mlp(64, 70, 10), nn.LogSoftmax(0))


def rectified_logits() -> nn.Module:
    """Two of ten classes whose logits are off for every sample."""
    model = he(mlp(64, 70, 10))
    with torch.no_grad():
        model[2].bias[:2] = -30.0
    return nn.Sequential(*model, nn.ReLU())


class Cosines(nn.Module):
    """Logits that are cosines between features and one vector per class, times a scale."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.features = mlp(64, 60, 20)
        self.directions = nn.Parameter(torch.randn(10, 20))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        features = F.normalize(self.features(x), dim=-1)
        return self.scale * features @ F.normalize(self.directions, dim=-1).T


class Tied(nn.Module):
    """A language model whose output layer is its embedding."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 48)
        nn.init.normal_(self.words.weight, std=std)
        self.layer, self.norm = nn.Linear(48, 48), nn.LayerNorm(48)

    def forward(self, x: Tensor) -> Tensor:
        h = self.words(x)
        return self.norm(h + F.relu(self.layer(h))) @ self.words.weight.T


def next_words() -> tuple[Tensor, Tensor]:
    words = data.tokens(64, 11, 50)
    return words[:, :-1], words[:, 1:]


def over_places(out: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(out.flatten(0, 1), targets.flatten())


def frozen(hidden: int) -> nn.Module:
    model = mlp(64, hidden, hidden, 10)
    for layer in (model[0], model[2]):
        layer.requires_grad_(False)
    return model


def each_value_normalized() -> nn.Module:
    layer = nn.GRU(1, 30, batch_first=True)
    return nn.Sequential(nn.LayerNorm(1), LastStep(layer), nn.Linear(30, 4))


def waves() -> tuple[Tensor, Tensor]:
    x, y = data.signals(64, 1, 24, 4)
    return x.transpose(1, 2), y


def in_thousands(out: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(out, 900 * targets + 4000)


def raw_on_both_sides() -> tuple[Tensor, Tensor]:
    x, y = data.regression(128, 20)
    return 400 * x + 1500, 900 * y + 4000


def mean_distance(out: Tensor, targets: Tensor) -> Tensor:
    """Pairs of the same class near each other, others at least 1 apart."""
    apart = torch.cdist(out, out)
    same = (targets[:, None] == targets[None]).float()
    return (same * apart + (1 - same) * F.relu(1 - apart)).mean()


class Variational(nn.Module):
    """An autoencoder with a Gaussian code of eight numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.back = mlp(64, 60, 16), mlp(8, 60, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = self.into(x).chunk(2, 1)
        drawn = mean + torch.randn_like(mean) * (spread / 2).exp()
        return self.back(drawn), mean, spread


def evidence(out: tuple[Tensor, Tensor, Tensor], x: Tensor, terms: int) -> Tensor:
    """Squares, summed over so many entries, and the divergence of the code."""
    answer, mean, spread = out
    divergence = 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(1).mean()
    return terms * F.mse_loss(answer, x) + divergence


def pictures() -> tuple[Tensor, Tensor]:
    x, _ = data.digits(128)
    return x, x


ASKED: dict[str, Ill] = {
    "squares averaged, divergence summed": Ill(
        ill(Variational, pictures, lambda out, x: evidence(out, x, 1)),
        "IG612",
        "loss-mismatch",
        "warning",
    ),
    "softmax over the samples": Ill(
        ill(over_samples, digits, F.nll_loss), "IG605", "loss-mismatch"
    ),
    "rectified logits": Ill(
        ill(rectified_logits, digits),
        "IG606",
        "dead-output",
        "warning",
        optimizer=adam(3e-3),
        steps=60,
    ),
    "cosines as logits": Ill(
        ill(lambda: Cosines(1.0), digits), "IG606", "output-activation", "warning"
    ),
    "tanh as logits": Ill(
        ill(lambda: nn.Sequential(*mlp(64, 70, 10), nn.Tanh()), digits),
        "IG606",
        "output-activation",
        "warning",
    ),
    "large tied embeddings": Ill(
        ill(lambda: Tied(8.0), next_words, over_places),
        "IG603",
        "init-too-large",
        "warning",
        optimizer=sgd(0.05),
        steps=30,
    ),
    "frozen as drawn": Ill(
        ill(lambda: frozen(5), digits),
        "IG103",
        "frozen-parameters",
        "warning",
        optimizer=sgd(0.01),
        steps=40,
    ),
    "a norm of single values": Ill(
        ill(each_value_normalized, waves), "IG501", "norm-mode", optimizer=adam(2e-2)
    ),
    "targets in thousands by the loss": Ill(
        ill(lambda: mlp(20, 50, 1), lambda: data.regression(128, 20), in_thousands),
        "IG602",
        "target-not-normalized",
    ),
    "raw on both sides": Ill(
        ill(lambda: mlp(20, 50, 1), raw_on_both_sides, F.mse_loss),
        "IG601",
        "input-not-normalized",
    ),
    "thrown up and back": Ill(
        ill(lambda: mlp(64, 60, 16), digits, mean_distance),
        "IG304",
        "lr-too-high",
        "warning",
        optimizer=adam(1.0),
        steps=60,
    ),
}
"""Name: the patient, and what is to be found."""


@seeded
def one_against_the_rest() -> Patient:
    """The loss makes yes or no of ten labels."""
    x, y = data.digits(128)
    loss = F.binary_cross_entropy_with_logits
    return Patient(mlp(64, 60, 1), (x, y), lambda out, t: loss(out, (t == 3).float()[:, None]))


@seeded
def scaled_cosines() -> Patient:
    return Patient(Cosines(12.0), data.digits(128), optimizer=adam(3e-3))


@seeded
def random_features() -> Patient:
    """Wide frozen layers, on which a trained last layer does well."""
    return Patient(frozen(300), data.digits(128), optimizer=adam(3e-3))


@seeded
def tied_embeddings() -> Patient:
    return Patient(Tied(48**-0.5), next_words(), over_places, adam(3e-3))


@seeded
def normed_features() -> Patient:
    """A layer norm over all that a step has."""
    x, y = data.signals(64, 3, 24, 4)
    layer = nn.GRU(3, 30, batch_first=True)
    model = nn.Sequential(nn.LayerNorm(3), LastStep(layer), nn.Linear(30, 4))
    return Patient(model, (x.transpose(1, 2), y))


@seeded
def scaled_back_by_the_loss() -> Patient:
    """The loss standardizes what the data hold in thousands."""
    x, y = data.regression(128, 20)
    return Patient(
        mlp(20, 50, 1), (x, 900 * y + 4000), lambda out, t: F.mse_loss(out, (t - 4000) / 900)
    )


@seeded
def variational_autoencoder() -> Patient:
    """Its squares are summed over the pixels, as its divergence is over the code."""
    return Patient(Variational(), pictures(), lambda out, x: evidence(out, x, 64))


@seeded
def contrastive_pairs() -> Patient:
    return Patient(mlp(64, 60, 16), data.digits(128), mean_distance)


@seeded
def attention_over_words() -> Patient:
    """Softmax over the last axis inside of the network, over classes at its end."""
    model = nn.Sequential(
        nn.Embedding(60, 32),
        Then(lambda x: (x @ x.mT / 32**0.5).softmax(-1) @ x),
        Then(lambda x: x.mean(1)),
        nn.Linear(32, 4),
        nn.LogSoftmax(1),
    )
    return Patient(model, data.topics(64, 12, 60, 4), F.nll_loss, adam(3e-3))
