"""Patients that read sequences: recurrence, attention, embeddings, one-dimensional kernels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patients import data
from patients.patient import Patient, adam, adamw, seeded


class Reader(nn.Module):
    """A recurrent layer over (batch, time, features); a linear head reads the last step."""

    def __init__(self, recurrent: nn.RNNBase, classes: int):
        super().__init__()
        self.recurrent = recurrent
        ways = 2 if recurrent.bidirectional else 1
        self.head = nn.Linear(ways * recurrent.hidden_size, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0][:, -1])


def _series(length: int = 12) -> tuple[Tensor, Tensor]:
    x, y = data.signals(64, 6, length, 4)
    return x.transpose(1, 2).contiguous(), y


@seeded
def rnn_tanh() -> Patient:
    return Patient(Reader(nn.RNN(6, 40, batch_first=True), 4), _series(8), None, adam())


@seeded
def lstm_two_layers() -> Patient:
    lstm = nn.LSTM(6, 32, num_layers=2, batch_first=True, dropout=0.1)
    return Patient(Reader(lstm, 4), _series(), None, adam(3e-3))


@seeded
def gru_bidirectional() -> Patient:
    gru = nn.GRU(6, 24, batch_first=True, bidirectional=True)
    return Patient(Reader(gru, 4), _series(), F.cross_entropy, adam(3e-3))


class Unrolled(nn.Module):
    """Recurrent cells called once per time step, the state handed on by hand."""

    def __init__(self):
        super().__init__()
        self.gru, self.lstm = nn.GRUCell(6, 28), nn.LSTMCell(28, 20)
        self.head = nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.new_zeros(len(x), 28), (x.new_zeros(len(x), 20),) * 2
        for step in x.unbind(1):
            first = self.gru(step, first)
            second = self.lstm(first, second)
        return self.head(second[0])


@seeded
def cells_unrolled() -> Patient:
    return Patient(Unrolled(), _series(), None, adam(3e-3))


@seeded
def embedding_bag() -> Patient:
    model = nn.Sequential(nn.EmbeddingBag(120, 32), nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 5))
    return Patient(model, data.topics(96, 20, 120, 5), None, adam(3e-3))


class TextClassifier(nn.Module):
    """Embedding, a convolution over words, the maximum over time."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(100, 32, padding_idx=0)
        self.conv = nn.Conv1d(32, 48, 3, padding=1)
        self.drop, self.head = nn.Dropout1d(0.1), nn.Linear(48, 5)

    def forward(self, ids: Tensor) -> Tensor:
        x = F.relu(self.conv(self.embed(ids).transpose(1, 2)))
        return self.head(self.drop(x).amax(-1))


@seeded
def text_cnn() -> Patient:
    ids, y = data.topics(64, 16, 99, 5)
    return Patient(TextClassifier(), (ids + 1, y), None, adam())


class Encoder(nn.Module):
    """torch's transformer encoder over projected features, averaged over time."""

    def __init__(self, layers: int, norm_first: bool, activation: str = "relu"):
        super().__init__()
        self.project = nn.Linear(6, 32)
        self.position = nn.Parameter(0.02 * torch.randn(12, 32))
        layer = nn.TransformerEncoderLayer(
            32, 4, 64, activation=activation, batch_first=True, norm_first=norm_first
        )
        final = nn.LayerNorm(32) if norm_first else None
        self.encoder = nn.TransformerEncoder(layer, layers, norm=final, enable_nested_tensor=False)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.project(x) + self.position).mean(1))


@seeded
def encoder_post_norm() -> Patient:
    return Patient(Encoder(2, norm_first=False), _series(), None, adam(5e-4))


@seeded
def encoder_pre_norm() -> Patient:
    return Patient(Encoder(4, norm_first=True, activation="gelu"), _series(), None, adamw(1e-3))


class Seq2Seq(nn.Module):
    """torch's nn.Transformer with embeddings on both sides and a causal decoder."""

    def __init__(self, words: int = 60, width: int = 32):
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.position = nn.Parameter(0.02 * torch.randn(16, width))
        self.transformer = nn.Transformer(width, 4, 2, 2, 64, batch_first=True)
        self.head = nn.Linear(width, words)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = self.transformer.generate_square_subsequent_mask(target.shape[1])
        source = self.embed(source) + self.position[: source.shape[1]]
        target = self.embed(target) + self.position[: target.shape[1]]
        out = self.transformer(source, target, tgt_mask=mask, tgt_is_causal=True)
        return self.head(out).transpose(1, 2)


@seeded
def transformer_seq2seq() -> Patient:
    ids = data.tokens(24, 12, 60)
    return Patient(Seq2Seq(), ((ids, ids[:, :-1]), ids[:, 1:]), F.cross_entropy, adam(5e-4))


class AttentionPool(nn.Module):
    """Learned queries attend to the sequence; the answer is normalized and read out."""

    def __init__(self):
        super().__init__()
        self.project, self.query = nn.Linear(6, 32), nn.Parameter(torch.randn(3, 32))
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)
        self.norm, self.head = nn.RMSNorm(96), nn.Linear(96, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        pooled, _ = self.attend(self.query.expand(len(x), -1, -1), x, x, need_weights=False)
        return self.head(self.norm(pooled.flatten(1)))


@seeded
def attention_pool() -> Patient:
    return Patient(AttentionPool(), _series(), None, adam())


@seeded
def conv1d_dilated() -> Patient:
    model = nn.Sequential(
        nn.Conv1d(6, 32, 3, padding=1), nn.BatchNorm1d(32), nn.ReLU(),
        nn.Conv1d(32, 32, 3, padding=2, dilation=2, groups=4), nn.BatchNorm1d(32), nn.ReLU(),
        nn.MaxPool1d(2), nn.Conv1d(32, 48, 3, padding=4, dilation=4), nn.BatchNorm1d(48),
        nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(48, 4),
    )  # fmt: skip
    return Patient(model, data.signals(48, 6, 48, 4), None, adam())
