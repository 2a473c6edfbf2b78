"""Networks to predict: factories whose arguments can be set and swept, none of them ever built.

isograd predict examples/before_training.py:mlp --input 'float32[64,784]' --set depth=40
isograd predict examples/before_training.py:mlp --input 'float32[64,784]' --sweep depth=5:50:10
isograd predict examples/before_training.py:mlp --input 'float32[64,784]' --init kaiming_normal
isograd predict examples/before_training.py:stream --input 'float32[64,784]' \
    --sweep residual-scale=0.1,0.3,1
isograd predict examples/before_training.py:llama --input 'int64[1,128]<32000 -> int64[1,128]<32000'
"""

from torch import Tensor, nn


def mlp(depth: int = 20, width: int = 512, activation: str = "ReLU") -> nn.Module:
    """A plain stack at torch's default initialization, which no depth survives."""
    layers: list[nn.Module] = [nn.Linear(784, width)]
    for _ in range(depth - 2):
        layers += [getattr(nn, activation)(), nn.Linear(width, width)]
    return nn.Sequential(*layers, getattr(nn, activation)(), nn.Linear(width, 10))


class Block(nn.Module):
    """x + MLP(x), without a norm: the stream grows with every block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        for layer in (self.mlp[0], self.mlp[2]):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Adds to the stream."""
        grown: Tensor = x + self.mlp(x)
        return grown


def stream(depth: int = 30, width: int = 512) -> nn.Module:
    """Thirty blocks whose branches are as large as the stream they add to."""
    blocks = [Block(width) for _ in range(depth)]
    return nn.Sequential(nn.Linear(784, width), *blocks, nn.Linear(width, 10))


class Logits(nn.Module):
    """A language model of transformers that returns its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [sample, token, vocabulary]."""
        logits: Tensor = self.model(input_ids=ids).logits
        return logits


def llama(layers: int = 80, width: int = 8192) -> nn.Module:
    """Seventy billion parameters, in the memory of none."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32_000, hidden_size=width, intermediate_size=7 * width // 2,
        num_hidden_layers=layers, num_attention_heads=width // 128,
        num_key_value_heads=8, use_cache=False,
    )  # fmt: skip
    return Logits(LlamaForCausalLM(config))
