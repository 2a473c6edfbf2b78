"""ViT-B/16 (Dosovitskiy et al. 2021, section 3.1 and table 1)."""

from functools import partial

import torch
from torch import Tensor, nn

from patients.architectures.family import NORMED, Family, images


class Block(nn.Module):
    """Pre-norm self-attention and perceptron, each added to what came in (equations 2 and 3)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.dropout = nn.Dropout(0.0)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.0),
            nn.Linear(4 * width, width), nn.Dropout(0.0),
        )  # fmt: skip
        for layer in (self.mlp[0], self.mlp[3]):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.dropout(self.attention(y, y, y, need_weights=False)[0])
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches and a class token, which is read out."""

    def __init__(
        self,
        *,
        head_std: float = 0.0,
        size: int = 96,
        patch: int = 16,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
    ):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        positions = (size // patch) ** 2 + 1
        self.positions = nn.Parameter(torch.empty(1, positions, width).normal_(std=0.02))
        self.dropout = nn.Dropout(0.0)
        self.layers = nn.Sequential(*[Block(width, heads) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 1000)
        fan_in = 3 * patch * patch
        nn.init.trunc_normal_(self.patches.weight, std=fan_in**-0.5)
        nn.init.zeros_(self.patches.bias)
        nn.init.normal_(self.head.weight, std=head_std)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = self.layers(self.dropout(x + self.positions))
        return self.head(self.norm(x)[:, 0])


SMALL = {"size": 12, "patch": 4, "width": 24, "layers": 2, "heads": 3}

FAMILIES = {
    "vit-b16": Family(
        ViT, images(8, 96), SMALL, images(2, 12), seeds=8, target=NORMED,
        note="96 px; head zero, so that only it has gradients",
    ),
    "vit-b16-head.02": Family(
        partial(ViT, head_std=0.02), images(8, 96), SMALL, images(2, 12), seeds=16, target=NORMED,
        note="96 px; head of std 0.02",
    ),
}  # fmt: skip
