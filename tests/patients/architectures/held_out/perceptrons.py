"""Networks of linear layers that are no plain stack."""

import itertools
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from patients.architectures.family import NORMED, Family, gaussian

WIDTH, BATCH = 256, 64


class Highway(nn.Module):
    """Gates between a transform and the identity (Srivastava et al. 2015, equation 3)."""

    def __init__(self, width: int):
        super().__init__()
        self.transform, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(x))
        return gate * F.relu(self.transform(x)) + (1 - gate) * x


def highway(*, width: int = WIDTH, layers: int = 20) -> nn.Sequential:
    return nn.Sequential(*[Highway(width) for _ in range(layers)], nn.Linear(width, 10))


def regularized(*, width: int = WIDTH, layers: int = 10) -> nn.Sequential:
    """Batch norm and dropout in every layer."""
    stack: list[nn.Module] = []
    for _ in range(layers):
        stack += [nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*stack, nn.Linear(width, 10))


ACTIVATIONS = (
    nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardtanh,
    nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink,
    nn.LogSigmoid, nn.ReLU6, nn.RReLU, nn.GELU, nn.Sigmoid,
)  # fmt: skip


def activations(*, width: int = WIDTH) -> nn.Sequential:
    """A layer with each activation there is, and a gated one at the end."""
    stack: list[nn.Module] = []
    for act in ACTIVATIONS:
        layer = nn.Linear(width, width)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        stack += [layer, nn.LayerNorm(width), act()]
    return nn.Sequential(*stack, nn.Linear(width, 2 * width), nn.GLU(), nn.Linear(width, 10))


def self_normalizing(*, width: int = WIDTH, layers: int = 20) -> nn.Sequential:
    """SELU with LeCun's initialization and alpha dropout (Klambauer et al. 2017)."""
    stack: list[nn.Module] = []
    for _ in range(layers):
        layer = nn.Linear(width, width)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        nn.init.zeros_(layer.bias)
        stack += [layer, nn.SELU(), nn.AlphaDropout(0.05)]
    return nn.Sequential(*stack, nn.Linear(width, 10))


class Residual(nn.Module):
    """Pre-norm residual perceptron; `scale` multiplies the branch, zero in ReZero."""

    def __init__(self, width: int, scale: float | None = None):
        super().__init__()
        self.norm = nn.LayerNorm(width) if scale is None else nn.Identity()
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.scale = None if scale is None else nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        branch = self.outer(F.gelu(self.inner(self.norm(x))))
        return x + branch if self.scale is None else x + self.scale * branch


def residual(*, width: int = WIDTH, layers: int = 40, scale: float | None = None) -> nn.Sequential:
    blocks = [Residual(width, scale) for _ in range(layers)]
    return nn.Sequential(*blocks, nn.LayerNorm(width), nn.Linear(width, 10))


class Siamese(nn.Module):
    """One encoder for two inputs; distance and product are read."""

    def __init__(self, *, width: int = WIDTH):
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(4):
            layers += [nn.Linear(width, width), nn.ReLU()]
        self.encoder, self.head = nn.Sequential(*layers), nn.Linear(2 * width, 10)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.encoder(left), self.encoder(right)
        return self.head(torch.cat([(a - b).abs(), a * b], -1))


class TiedAutoencoder(nn.Module):
    """Decodes with the transposed matrices of the encoder."""

    def __init__(self, *, width: int = WIDTH):
        super().__init__()
        sizes = (width, width // 2, width // 4)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        for layer in reversed(self.layers):
            x = F.linear(x, layer.weight.T)
        return x


class Variational(nn.Module):
    """Encoder, a Gaussian code drawn from it, decoder (Kingma and Welling 2014)."""

    def __init__(self, *, width: int = WIDTH, code: int = 32):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.mean, self.log_var = nn.Linear(width, code), nn.Linear(width, code)
        self.decode = nn.Sequential(nn.Linear(code, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.encode(x)
        mean, log_var = self.mean(x), self.log_var(x)
        code = mean + torch.randn_like(mean) * torch.exp(0.5 * log_var)
        return self.decode(code), mean, log_var


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(30.0 * x)


def siren(*, width: int = WIDTH, layers: int = 5) -> nn.Sequential:
    """Sines of frequency 30 (Sitzmann et al. 2020, section 3.2)."""
    stack: list[nn.Module] = []
    for index in range(layers):
        layer = nn.Linear(2 if index == 0 else width, width)
        bound = 1 / 2 if index == 0 else (6 / width) ** 0.5 / 30
        nn.init.uniform_(layer.weight, -bound, bound)
        stack += [layer, Sine()]
    return nn.Sequential(*stack, nn.Linear(width, 3))


class Radiance(nn.Module):
    """Sines and cosines of coordinates, and a skip by concatenation (Mildenhall et al. 2020)."""

    def __init__(self, *, width: int = WIDTH, octaves: int = 10):
        super().__init__()
        self.register_buffer("frequencies", 2.0 ** torch.arange(octaves))
        fan_in = 3 * 2 * octaves
        self.first = nn.ModuleList(nn.Linear(width if i else fan_in, width) for i in range(4))
        self.second = nn.ModuleList(
            nn.Linear(width if i else width + fan_in, width) for i in range(4)
        )
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        angles = (x[..., None] * self.frequencies).flatten(-2)
        x = encoded = torch.cat([angles.sin(), angles.cos()], -1)
        for layer in self.first:
            x = F.relu(layer(x))
        x = torch.cat([encoded, x], -1)
        for layer in self.second:
            x = F.relu(layer(x))
        return self.head(x)


class Sets(nn.Module):
    """A sum, or the maximum, over the elements of a set (Zaheer et al. 2017; PointNet)."""

    def __init__(self, *, pool: str, width: int = WIDTH, features: int = 16):
        super().__init__()
        self.pool = pool
        self.each = nn.Sequential(
            nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.all = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.each(x)
        return self.all(x.sum(1) if self.pool == "sum" else x.amax(1))


class Experts(nn.Module):
    """A softmax over experts, all of which run (Jacobs et al. 1991)."""

    def __init__(self, *, width: int = WIDTH, experts: int = 8):
        super().__init__()
        self.gate = nn.Linear(width, experts)
        self.inner = nn.Parameter(torch.randn(experts, width, width) * (2 / width) ** 0.5)
        self.outer = nn.Parameter(torch.randn(experts, width, width) * (1 / width) ** 0.5)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        shares = self.gate(x).softmax(-1)
        inner = F.relu(torch.einsum("bi,eij->bej", x, self.inner))
        outer = torch.einsum("bei,eij->bej", inner, self.outer)
        return self.head(torch.einsum("be,bej->bj", shares, outer))


class GraphConvolution(nn.Module):
    """Means over the neighbors on a ring with chords (Kipf and Welling 2017)."""

    def __init__(self, *, width: int = WIDTH, nodes: int = 24, layers: int = 6):
        super().__init__()
        shifts = torch.stack([torch.eye(nodes).roll(k, 0) for k in (-5, -1, 0, 1, 5)])
        self.register_buffer("adjacency", shifts.sum(0) / len(shifts))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(self.adjacency @ x))
        return self.head(x.mean(1))


class Maxout(nn.Module):
    """The largest of four linear maps (Goodfellow et al. 2013)."""

    def __init__(self, width: int, pieces: int = 4):
        super().__init__()
        self.pieces, self.linear = pieces, nn.Linear(width, pieces * width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(-1, (-1, self.pieces)).amax(-1)


def maxout(*, width: int = WIDTH, layers: int = 8) -> nn.Sequential:
    return nn.Sequential(*[Maxout(width) for _ in range(layers)], nn.Linear(width, 10))


def weight_normed(*, width: int = WIDTH, layers: int = 10) -> nn.Sequential:
    """Direction and length of every unit's weights apart (Salimans and Kingma 2016)."""
    stack: list[nn.Module] = []
    for _ in range(layers):
        stack += [parametrizations.weight_norm(nn.Linear(width, width)), nn.ReLU()]
    return nn.Sequential(*stack, nn.Linear(width, 10))


class Modulated(nn.Module):
    """A condition makes scale and shift of every layer (FiLM, Perez et al. 2018)."""

    def __init__(self, *, width: int = WIDTH, condition: int = 32, layers: int = 6):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.film = nn.ModuleList(nn.Linear(condition, 2 * width) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, 10)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        for layer, film in zip(self.layers, self.film, strict=True):
            scale, shift = film(condition).chunk(2, -1)
            x = x + F.silu(layer(self.norm(x) * (1 + scale) + shift))
        return self.head(x)


class Recommender(nn.Module):
    """Embeddings and numbers, and the products of all pairs (Naumov et al. 2019)."""

    def __init__(self, *, width: int = 64, tables: int = 8, words: int = 100, numbers: int = 13):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(words, width) for _ in range(tables))
        self.bottom = nn.Sequential(
            nn.Linear(numbers, 128), nn.ReLU(), nn.Linear(128, width), nn.ReLU()
        )
        pairs = torch.triu_indices(tables + 1, tables + 1, 1)
        self.register_buffer("first", pairs[0])
        self.register_buffer("second", pairs[1])
        self.top = nn.Sequential(
            nn.Linear(width + pairs.shape[1], 128), nn.ReLU(), nn.Linear(128, 1)
        )

    def forward(self, numbers: Tensor, ids: Tensor) -> Tensor:
        dense = self.bottom(numbers)
        found = [table(ids[:, place]) for place, table in enumerate(self.tables)]
        rows = torch.stack([dense, *found], 1)
        products = (rows @ rows.transpose(1, 2))[:, self.first, self.second]
        return self.top(torch.cat([dense, products], 1))


def two(batch: int, *, left: tuple[str, int], right: tuple[str, int]):
    """Two Gaussian inputs by name."""

    def draw(generator: torch.Generator) -> dict[str, Tensor]:
        return {
            name: torch.randn(batch, width, generator=generator) for name, width in (left, right)
        }

    return draw


def clicks(batch: int, numbers: int = 13, tables: int = 8, words: int = 100):
    def draw(generator: torch.Generator) -> dict[str, Tensor]:
        return {
            "numbers": torch.randn(batch, numbers, generator=generator),
            "ids": torch.randint(words, (batch, tables), generator=generator),
        }

    return draw


def _family(build, width: int = WIDTH, **settings) -> Family:
    settings = {"small": {"width": 16}, "small_inputs": gaussian(5, 16)} | settings
    inputs = settings.pop("inputs", gaussian(BATCH, width))
    return Family(build, inputs, seeds=settings.pop("seeds", 256), held_out=True, **settings)


FAMILIES = {
    "highway20": _family(highway, seeds=64, note="20 layers of width 256"),
    "mlp-bn-dropout": _family(regularized, target=NORMED, note="10 layers of width 256"),
    "mlp-activations": _family(activations, note="every activation once, layer norm between"),
    "mlp-selu": _family(self_normalizing, note="20 layers, alpha dropout"),
    "residual-mlp40": _family(residual, seeds=64, note="40 pre-norm blocks"),
    "rezero40": _family(partial(residual, scale=0.0), seeds=64, note="40 blocks, branches times 0"),
    "siamese": _family(
        Siamese, inputs=two(BATCH, left=("left", WIDTH), right=("right", WIDTH)),
        small_inputs=two(5, left=("left", 16), right=("right", 16)),
    ),
    "tied-autoencoder": _family(TiedAutoencoder),
    "vae": _family(Variational),
    "siren": _family(siren, inputs=gaussian(BATCH, 2), small_inputs=gaussian(5, 2)),
    "nerf": _family(Radiance, inputs=gaussian(BATCH, 3), small_inputs=gaussian(5, 3)),
    "deep-sets": _family(
        partial(Sets, pool="sum"), inputs=gaussian(32, 20, 16), small_inputs=gaussian(5, 3, 16)
    ),
    "pointnet": _family(
        partial(Sets, pool="max"), inputs=gaussian(32, 20, 16), small_inputs=gaussian(5, 3, 16)
    ),
    "soft-experts": _family(Experts),
    "graph-convolution": _family(
        GraphConvolution, inputs=gaussian(16, 24, WIDTH), small_inputs=gaussian(5, 24, 16)
    ),
    "maxout8": _family(maxout),
    "mlp-weight-norm": _family(weight_normed),
    "film": _family(
        Modulated, inputs=two(BATCH, left=("x", WIDTH), right=("condition", 32)),
        small_inputs=two(5, left=("x", 16), right=("condition", 32)),
    ),
    "dlrm": _family(Recommender, inputs=clicks(BATCH), small_inputs=clicks(5)),
}  # fmt: skip
