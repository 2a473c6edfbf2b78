"""Fully connected patients, and those that are about their loss more than their layers."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from patients import data
from patients.patient import Patient, adam, adamw, seeded, sgd


def mlp(*widths: int, act: type[nn.Module] = nn.ReLU, norm: type[nn.Module] | None = None):
    """Linear layers with an activation (and a norm before it) between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), *([norm(fan_out)] if norm else []), act()]
    return nn.Sequential(*layers[: -2 if norm else -1])


@seeded
def mlp_relu() -> Patient:
    return Patient(mlp(64, 96, 48, 10), data.digits(128), None, sgd(0.05))


@seeded
def mlp_relu_he_deep() -> Patient:
    model = mlp(64, *[128] * 10, 10)
    for layer in model[::2]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    nn.init.kaiming_normal_(model[-1].weight, nonlinearity="linear")
    return Patient(model, data.digits(128), F.cross_entropy, sgd(0.003))


@seeded
def mlp_gelu_layer_norm() -> Patient:
    model = mlp(64, 96, 80, 72, 10, act=nn.GELU, norm=nn.LayerNorm)
    return Patient(model, data.digits(128), None, adamw(1e-3))


@seeded
def mlp_silu_batch_norm() -> Patient:
    model = mlp(64, 96, 80, 72, 10, act=nn.SiLU, norm=nn.BatchNorm1d)
    return Patient(model, data.digits(128), None, adam())


@seeded
def mlp_tanh_xavier() -> Patient:
    model = mlp(64, 100, 90, 80, 70, 60, 10, act=nn.Tanh)
    for layer in model[::2]:
        nn.init.xavier_normal_(layer.weight, nn.init.calculate_gain("tanh"))
        nn.init.zeros_(layer.bias)
    return Patient(model, data.digits(128), None, sgd(0.02))


@seeded
def mlp_selu_lecun() -> Patient:
    model = mlp(64, *[120] * 8, 10, act=nn.SELU)
    for layer in model[::2]:
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        nn.init.zeros_(layer.bias)
    model = nn.Sequential(*model[:-1], nn.AlphaDropout(0.05), model[-1])
    return Patient(model, data.digits(128), None, sgd(0.005))


@seeded
def mlp_leaky_prelu() -> Patient:
    model = nn.Sequential(
        nn.Linear(20, 64), nn.PReLU(), nn.Linear(64, 48), nn.LeakyReLU(0.1), nn.Linear(48, 5)
    )
    return Patient(model, data.blobs(96, 20, 5), nn.CrossEntropyLoss(), adam())


@seeded
def mlp_dropout() -> Patient:
    model = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 96), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(96, 10),
    )  # fmt: skip
    return Patient(model, data.digits(128), None, adam())


@seeded
def regressor() -> Patient:
    return Patient(mlp(13, 64, 48, 1, act=nn.ELU), data.regression(128, 13), None, adam())


@seeded
def binary_classifier() -> Patient:
    x, y = data.blobs(128, 30, 2)
    model = mlp(30, 64, 32, 1, act=nn.Mish)
    return Patient(model, (x, y[:, None].float()), nn.BCEWithLogitsLoss(), adam())


@seeded
def multi_label() -> Patient:
    x = torch.randn(96, 24)
    y = (x @ torch.randn(24, 7) + 0.5 * torch.randn(96, 7) > 0).float()
    return Patient(mlp(24, 64, 56, 7, act=nn.Hardswish), (x, y), F.binary_cross_entropy_with_logits)


@seeded
def maxout_glu() -> Patient:
    model = nn.Sequential(
        nn.Linear(64, 192), nn.GLU(), nn.LayerNorm(96), nn.Linear(96, 128), nn.GLU(),
        nn.Linear(64, 10),
    )  # fmt: skip
    return Patient(model, data.digits(128), None, adam(2e-3))


class Tabular(nn.Module):
    """Columns in units of their own behind a batch norm, beside an embedding of a category."""

    def __init__(self):
        super().__init__()
        self.table, self.norm = nn.Embedding(10, 4), nn.BatchNorm1d(64)
        self.body = nn.Sequential(nn.Linear(68, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, category: Tensor, columns: Tensor) -> Tensor:
        return self.body(torch.cat([self.table(category), self.norm(columns)], 1))


@seeded
def tabular() -> Patient:
    x, y = data.digits(128)
    return Patient(Tabular(), ((torch.randint(10, (128,)), 10 * x + 50), y), None, adam())


@seeded
def weight_normed() -> Patient:
    model = nn.Sequential(
        weight_norm(nn.Linear(64, 96)), nn.ReLU(), weight_norm(nn.Linear(96, 80)), nn.ReLU(),
        nn.Linear(80, 10),
    )  # fmt: skip
    return Patient(model, data.digits(128), None, adam())


@seeded
def spectral_critic() -> Patient:
    x, y = data.blobs(96, 32, 2)
    model = nn.Sequential(
        spectral_norm(nn.Linear(32, 64)), nn.LeakyReLU(0.2), spectral_norm(nn.Linear(64, 64)),
        nn.LeakyReLU(0.2), spectral_norm(nn.Linear(64, 1)),
    )  # fmt: skip

    def hinge(scores: Tensor, labels: Tensor) -> Tensor:
        return F.relu(1 - scores.squeeze(1) * (2.0 * labels - 1)).mean()

    return Patient(model, (x, y), hinge, adam())


class PairModel(nn.Module):
    """Two feature vectors compared by a bilinear form."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(12, 24), nn.Linear(17, 20)
        self.compare = nn.Bilinear(24, 20, 6)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.compare(torch.tanh(self.left(a)), torch.tanh(self.right(b)))


@seeded
def bilinear_pair() -> Patient:
    a, y = data.blobs(96, 12, 6)
    b = data.standardized(torch.randn(6, 17)[y] + torch.randn(96, 17))
    return Patient(PairModel(), ((a, b), y), F.cross_entropy, adam(3e-3))


class Siamese(nn.Module):
    """One encoder, called twice."""

    def __init__(self):
        super().__init__()
        self.encoder = mlp(64, 96, 48, 16, norm=nn.LayerNorm)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder(a), self.encoder(b)


@seeded
def siamese() -> Patient:
    (x, label), half = data.digits(128), 64
    same = torch.where(label[:half] == label[half:], 1.0, -1.0)

    def loss(pair: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        return F.cosine_embedding_loss(*pair, targets, margin=0.2)

    return Patient(Siamese(), ((x[:half], x[half:]), same), loss, adam())


@seeded
def triplet_embedder() -> Patient:
    x, label = data.blobs(96, 24, 4)

    def loss(embedding: Tensor, labels: Tensor) -> Tensor:
        nearby, far = embedding.roll(-4, 0), embedding.roll(-1, 0)  # labels repeat every 4
        return F.triplet_margin_loss(embedding, nearby, far)

    return Patient(mlp(24, 64, 64, 12, act=nn.GELU), (x, label), loss, adam())


@seeded
def autoencoder() -> Patient:
    x = data.blobs(128, 40, 6)[0]
    return Patient(mlp(40, 64, 12, 64, 40, act=nn.SiLU), (x, x), None, adam())


class VAE(nn.Module):
    """The variational autoencoder of Kingma and Welling with a Gaussian decoder."""

    def __init__(self):
        super().__init__()
        self.encode, self.mean = mlp(40, 64, 48, act=nn.Tanh), nn.Linear(48, 8)
        self.log_variance, self.decode = nn.Linear(48, 8), mlp(8, 64, 40, act=nn.Tanh)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = torch.tanh(self.encode(x))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return {"x": self.decode(z), "mean": mean, "log_variance": log_variance}


@seeded
def variational() -> Patient:
    x = data.blobs(128, 40, 6)[0]

    def loss(out: dict[str, Tensor], targets: Tensor) -> Tensor:
        mean, log_variance = out["mean"], out["log_variance"]
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return F.mse_loss(out["x"], targets) + divergence / targets.shape[1]

    return Patient(VAE(), (x, x), loss, adam())


class Experts(nn.Module):
    """A soft mixture of small experts on a residual stream."""

    def __init__(self, width: int = 48, experts: int = 4):
        super().__init__()
        self.stem, self.norm = nn.Linear(64, width), nn.LayerNorm(width)
        self.gate = nn.Linear(width, experts)
        self.experts = nn.ModuleList(mlp(width, 64, width, act=nn.GELU) for _ in range(experts))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = self.norm(x)
        share = self.gate(inner).softmax(-1)
        mixed = torch.stack([expert(inner) for expert in self.experts], 1)
        return self.head(x + (share.unsqueeze(-1) * mixed).sum(1))


@seeded
def mixture_of_experts() -> Patient:
    return Patient(Experts(), data.digits(128), None, adam())
