"""Small networks on which rules were found wrong: graphs, pairs, keys unlike each other, losses."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from patients.architectures.family import Family, Inputs, gaussian

WIDTH, BATCH = 128, 64


def graph(nodes: int, share: float = 0.1) -> Tensor:
    """Which nodes are neighbors, themselves among them."""
    drawn = torch.rand(nodes, nodes, generator=torch.Generator().manual_seed(3)) < share
    return (drawn | drawn.T).fill_diagonal_(True)


class Messages(nn.Module):
    """Means over incoming edges beside the node's own (GraphSAGE, Hamilton et al. 2017)."""

    source: Tensor
    target: Tensor

    def __init__(self, *, width: int = WIDTH, layers: int = 2, nodes: int = BATCH):
        super().__init__()
        target, source = graph(nodes).nonzero(as_tuple=True)
        self.register_buffer("source", source)
        self.register_buffer("target", target)
        self.own = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.others = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        degree = torch.zeros(len(x)).index_add(0, self.target, torch.ones(len(self.target)))
        for own, others in zip(self.own, self.others, strict=True):
            total = torch.zeros_like(x).index_add(0, self.target, x[self.source])
            x = F.relu(own(x) + others(total / degree[:, None]))
        out: Tensor = self.head(x)
        return out


class GraphAttention(nn.Module):
    """Veličković et al. 2018, equation 3, one head."""

    visible: Tensor

    def __init__(self, *, width: int = WIDTH, layers: int = 2, nodes: int = BATCH):
        super().__init__()
        self.register_buffer("visible", graph(nodes))
        self.maps = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.left = nn.ModuleList(nn.Linear(width, 1, bias=False) for _ in range(layers))
        self.right = nn.ModuleList(nn.Linear(width, 1, bias=False) for _ in range(layers))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        for map_, left, right in zip(self.maps, self.left, self.right, strict=True):
            h = map_(x)
            logits = F.leaky_relu(left(h) + right(h).T, 0.2)
            weights = logits.masked_fill(~self.visible, float("-inf")).softmax(-1)
            x = F.elu(weights @ h)
        out: Tensor = self.head(x)
        return out


class AdditiveAttention(nn.Module):
    """Bahdanau et al. 2015, equation 6, for one query."""

    def __init__(self, *, width: int = WIDTH):
        super().__init__()
        self.asked, self.seen = nn.Linear(width, width), nn.Linear(width, width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.score, self.head = nn.Linear(width, 1, bias=False), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(torch.tanh(self.asked(x[:, 0])))
        seen = torch.tanh(self.seen(x))
        weights = self.score(torch.tanh(query[:, None] + self.key(seen))).softmax(1)
        out: Tensor = self.head((weights * seen).sum(1))
        return out


class Table(nn.Module):
    """TabTransformer: columns of categories attend to each other (Huang et al. 2020)."""

    def __init__(self, *, width: int = 64, columns: int = 6, layers: int = 2):
        super().__init__()
        self.columns = nn.ModuleList(nn.Embedding(20, width) for _ in range(columns))
        layer = partial(nn.TransformerEncoderLayer, width, 4, 2 * width, 0.0, batch_first=True)
        self.blocks = nn.Sequential(*[layer() for _ in range(layers)])
        self.head = nn.Sequential(nn.Linear(columns * width, 128), nn.ReLU(), nn.Linear(128, 2))

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.stack([table(x[:, n]) for n, table in enumerate(self.columns)], 1)
        out: Tensor = self.head(self.blocks(rows).flatten(1))
        return out


def categories(batch: int, columns: int = 6) -> Inputs:
    return lambda generator: torch.randint(0, 20, (batch, columns), generator=generator)


class Contrast(nn.Module):
    """Two encoders and the cross-entropies of their cosines (CLIP, Radford et al. 2021)."""

    def __init__(self, *, width: int = WIDTH):
        super().__init__()
        self.first, self.second = (
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width // 2))
            for _ in range(2)
        )
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        one, two = F.normalize(self.first(a), dim=-1), F.normalize(self.second(b), dim=-1)
        logits, target = self.scale.exp() * one @ two.T, torch.arange(len(one))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class Reconstruction(nn.Module):
    """An autoencoder that returns its loss."""

    def __init__(self, *, width: int = WIDTH):
        super().__init__()
        self.encode = nn.Sequential(
            nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, width // 8)
        )
        self.decode = nn.Sequential(
            nn.Linear(width // 8, width // 2), nn.ReLU(), nn.Linear(width // 2, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.mse_loss(self.decode(self.encode(x)), x)


class Variance(Reconstruction):
    """The same, for the mean square of what it gives."""

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x)).square().mean()


def pair(batch: int, width: int) -> Inputs:
    def drawn(generator: Generator) -> dict[str, Tensor]:
        return {name: torch.randn(batch, width, generator=generator) for name in "ab"}

    return drawn


SMALL = {"small": {"width": 16, "nodes": 9}, "small_inputs": gaussian(9, 16)}
PLAIN = {"small": {"width": 16}, "small_inputs": gaussian(5, 16)}

FAMILIES = {
    "graph-messages": Family(Messages, gaussian(BATCH, WIDTH), seeds=64, **SMALL),
    "graph-attention": Family(GraphAttention, gaussian(BATCH, WIDTH), seeds=64, **SMALL),
    "additive-attention": Family(
        AdditiveAttention, gaussian(16, 12, WIDTH), {"width": 16}, gaussian(3, 5, 16), seeds=128
    ),
    "tab-transformer": Family(
        Table, categories(BATCH), {"width": 16, "layers": 1}, categories(5), seeds=64
    ),
    "contrastive-pairs": Family(Contrast, pair(BATCH, WIDTH), {"width": 16}, pair(5, 16), seeds=64),
    "autoencoder-loss": Family(Reconstruction, gaussian(BATCH, WIDTH), seeds=128, **PLAIN),
    "autoencoder-variance": Family(Variance, gaussian(BATCH, WIDTH), seeds=256, **PLAIN),
}
