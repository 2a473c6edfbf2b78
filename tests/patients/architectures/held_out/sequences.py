"""Sequences: recurrence, dilated kernels, and attention written by hand."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from patients.architectures.family import Family, gaussian, tokens


class Translator(nn.Module):
    """GRU encoder and decoder with additive attention (Bahdanau et al. 2015)."""

    def __init__(self, *, width: int = 192, words: int = 500):
        super().__init__()
        self.source, self.target = nn.Embedding(words, width), nn.Embedding(words, width)
        self.encoder = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.cell = nn.GRUCell(2 * width, width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.score, self.head = nn.Linear(width, 1), nn.Linear(2 * width, words)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, _ = self.encoder(self.source(source))
        keys, state = self.key(memory), memory.mean(1)
        outputs = []
        for word in self.target(target).unbind(1):
            scores = self.score(torch.tanh(keys + self.query(state)[:, None]))
            context = (scores.softmax(1) * memory).sum(1)
            state = self.cell(torch.cat([word, context], -1), state)
            outputs.append(self.head(torch.cat([state, context], -1)))
        return torch.stack(outputs, 1)


class Gated(nn.Module):
    """Causal dilated kernels, tanh times sigmoid, residual and skip (van den Oord et al. 2016)."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.pad = dilation
        self.signal = nn.Conv1d(width, width, 2, dilation=dilation)
        self.gate = nn.Conv1d(width, width, 2, dilation=dilation)
        self.residual, self.skip = nn.Conv1d(width, width, 1), nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        padded = F.pad(x, (self.pad, 0))
        out = torch.tanh(self.signal(padded)) * torch.sigmoid(self.gate(padded))
        return x + self.residual(out), self.skip(out)


class WaveNet(nn.Module):
    def __init__(self, *, width: int = 96, levels: int = 6, stacks: int = 2):
        super().__init__()
        self.stem = nn.Conv1d(1, width, 1)
        self.layers = nn.ModuleList(Gated(width, 2**i) for i in [*range(levels)] * stacks)
        self.out1, self.out2 = nn.Conv1d(width, width, 1), nn.Conv1d(width, 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        total = 0
        for layer in self.layers:
            x, skip = layer(x)
            total = total + skip
        return self.out2(F.relu(self.out1(F.relu(total))))


class TextCNN(nn.Module):
    """Kernels of three sizes, the maximum over time, dropout (Kim 2014)."""

    def __init__(self, *, width: int = 128, words: int = 500):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.kernels = nn.ModuleList(nn.Conv1d(width, 100, size) for size in (3, 4, 5))
        self.dropout, self.head = nn.Dropout(), nn.Linear(300, 5)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids).transpose(1, 2)
        found = [F.relu(kernel(x)).amax(-1) for kernel in self.kernels]
        return self.head(self.dropout(torch.cat(found, 1)))


class Tagger(nn.Module):
    """Two bidirectional LSTM layers, every step read."""

    def __init__(self, *, width: int = 128):
        super().__init__()
        self.lstm = nn.LSTM(
            width, width, num_layers=2, batch_first=True, bidirectional=True, dropout=0.2
        )
        self.head = nn.Linear(2 * width, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0])


class Unrolled(nn.Module):
    """A cell called step by step, so that every step is a site; the last one is read."""

    def __init__(self, cell: type[nn.RNNCellBase], *, width: int = 192):
        super().__init__()
        self.cell, self.head = cell(width, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        zero = x.new_zeros(len(x), self.cell.hidden_size)
        state = (zero, zero) if isinstance(self.cell, nn.LSTMCell) else zero
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Speech(nn.Module):
    """Strided 2d kernels over a spectrogram, two GRU layers, layer norm (Deep Speech 2)."""

    def __init__(self, *, width: int = 160, bands: int = 40):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(1, 32, (11, 7), (2, 1), (5, 3)), nn.Hardtanh(0, 20),
            nn.Conv2d(32, 32, (11, 7), (2, 1), (5, 3)), nn.Hardtanh(0, 20),
        )  # fmt: skip
        self.gru = nn.GRU(32 * (bands // 4), width, 2, batch_first=True, bidirectional=True)
        self.norm, self.head = nn.LayerNorm(2 * width), nn.Linear(2 * width, 29)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convs(x).permute(0, 3, 1, 2).flatten(2)
        return self.head(self.norm(self.gru(x)[0])).log_softmax(-1)


class Seq2Seq(nn.Module):
    """torch's nn.Transformer with a causal decoder."""

    def __init__(self, *, width: int = 192, layers: int = 4, words: int = 500):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.position = nn.Parameter(0.02 * torch.randn(64, width))
        self.transformer = nn.Transformer(width, 6, layers, layers, 4 * width, batch_first=True)
        self.head = nn.Linear(width, words)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        source = self.embed(source) + self.position[: source.shape[1]]
        target = self.embed(target) + self.position[: target.shape[1]]
        return self.head(self.transformer(source, target, tgt_mask=mask, tgt_is_causal=True))


class Attention(nn.Module):
    """Causal attention by hand, of one of three kinds.

    alibi: softmax with a linear bias by distance (Press et al. 2022); window: of 9 steps; linear:
    features elu + 1 instead of the softmax (Katharopoulos et al. 2020).
    """

    def __init__(self, width: int, heads: int, kind: str):
        super().__init__()
        self.heads, self.kind = heads, kind
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, -1)
        )
        mixed = self.linear(q, k, v) if self.kind == "linear" else self.softmax(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def softmax(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length = q.shape[2]
        steps = torch.arange(length)
        distance = steps[:, None] - steps
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if self.kind == "alibi":
            slopes = 2.0 ** -torch.arange(1, self.heads + 1).float()
            scores = scores - slopes[:, None, None] * distance
            hidden = distance < 0
        else:
            hidden = (distance < 0) | (distance > 8)
        return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v

    def linear(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = F.elu(q) + 1, F.elu(k) + 1
        products = torch.einsum("bhid,bhjd->bhij", q, k).tril()
        return torch.einsum("bhij,bhjd->bhid", products / products.sum(-1, keepdim=True), v)


class Decoder(nn.Module):
    """Pre-norm layers around an attention."""

    def __init__(
        self, kind: str, *, width: int = 192, layers: int = 6, heads: int = 6, words: int = 500
    ):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers + 1))
        self.attend = nn.ModuleList(Attention(width, heads, kind) for _ in range(layers))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(layers)
        )
        self.head = nn.Linear(width, words)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        for place, (attend, mlp) in enumerate(zip(self.attend, self.mlps, strict=True)):
            x = x + attend(self.norms[2 * place](x))
            x = x + mlp(self.norms[2 * place + 1](x))
        return self.head(self.norms[-1](x))


class Readers(nn.Module):
    """Learned queries read a longer input by cross-attention (Perceiver, Jaegle et al. 2021)."""

    def __init__(self, *, width: int = 192, queries: int = 12, layers: int = 3):
        super().__init__()
        self.queries = nn.Parameter(0.02 * torch.randn(queries, width))
        self.cross = nn.MultiheadAttention(width, 6, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 6, 2 * width, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x, q = self.norm1(x), self.queries.expand(len(x), -1, -1)
        x = q + self.cross(self.norm2(q), x, x, need_weights=False)[0]
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


class SpatialGate(nn.Module):
    """Half of the channels gates the other after mixing over time (gMLP, Liu et al. 2021)."""

    def __init__(self, width: int, length: int):
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(width), nn.Linear(width, 4 * width)
        self.gate_norm = nn.LayerNorm(2 * width)
        self.mix, self.outer = nn.Conv1d(length, length, 1), nn.Linear(2 * width, width)
        nn.init.normal_(self.mix.weight, std=1e-6)
        nn.init.ones_(self.mix.bias)

    def forward(self, x: Tensor) -> Tensor:
        u, v = F.gelu(self.inner(self.norm(x))).chunk(2, -1)
        return x + self.outer(u * self.mix(self.gate_norm(v)))


def gated_mlp(*, width: int = 128, layers: int = 8, length: int = 32) -> nn.Sequential:
    blocks = [SpatialGate(width, length) for _ in range(layers)]
    return nn.Sequential(*blocks, nn.LayerNorm(width), nn.Linear(width, 10))


def pairs(batch: int, length: int, other: int, words: int = 500):
    """Source and target tokens."""

    def draw(generator: Generator) -> dict[str, Tensor]:
        return {
            "source": torch.randint(words, (batch, length), generator=generator),
            "target": torch.randint(words, (batch, other), generator=generator),
        }

    return draw


_held_out = partial(Family, seeds=64, held_out=True)
_words = partial(_held_out, inputs=tokens(8, 48, 500), small_inputs=tokens(2, 11, 500))
_THIN = {"width": 24}

FAMILIES: dict[str, Family] = {
    "gru-translator": _held_out(Translator, pairs(8, 16, 12), _THIN, pairs(2, 5, 3)),
    "wavenet": _held_out(WaveNet, gaussian(8, 1, 160), {"width": 8}, gaussian(2, 1, 9)),
    "text-cnn": _words(TextCNN, small=_THIN),
    "bilstm-tagger": _held_out(Tagger, gaussian(8, 30, 128), _THIN, gaussian(2, 5, 24)),
    **{
        f"{name}-unrolled50": _held_out(
            partial(Unrolled, cell), gaussian(16, 50, 192), _THIN, gaussian(2, 5, 24),
            seeds=256, note="every step is a site",
        )
        for name, cell in (("rnn", nn.RNNCell), ("lstm", nn.LSTMCell), ("gru", nn.GRUCell))
    },
    "deep-speech": _held_out(Speech, gaussian(8, 1, 40, 30), _THIN, gaussian(2, 1, 40, 7)),
    "transformer-seq2seq": _held_out(Seq2Seq, pairs(8, 32, 24), _THIN, pairs(2, 5, 3)),
    "decoder-alibi": _words(partial(Decoder, "alibi"), small=_THIN | {"layers": 2}),
    "decoder-window": _words(partial(Decoder, "window"), small=_THIN | {"layers": 2}),
    "decoder-linear": _words(partial(Decoder, "linear"), small=_THIN | {"layers": 2}),
    "perceiver": _held_out(Readers, gaussian(8, 60, 192), _THIN, gaussian(2, 7, 24)),
    "gmlp": _held_out(gated_mlp, gaussian(8, 32, 128), {"width": 24, "length": 7},
                      gaussian(2, 7, 24)),
}  # fmt: skip
