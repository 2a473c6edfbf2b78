"""Odd patients: unusual ways to be called, to answer, to hold weights and to be made."""

import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers.utils import ModelOutput

from patients import data
from patients.patient import Patient, seeded

SAMPLES = 24


def points() -> tuple[Tensor, Tensor]:
    """Seven features, five classes."""
    return data.blobs(SAMPLES, 7, 5)


class Answer(nn.Module):
    """Two layers; `answer` turns (hidden, logits) into what the model returns."""

    def __init__(self, answer: Any):
        super().__init__()
        self.first, self.second, self.answer = nn.Linear(7, 11), nn.Linear(11, 5), answer

    def forward(self, x: Tensor) -> Any:
        hidden = torch.tanh(self.first(x))
        return self.answer(hidden, self.second(hidden))


@dataclass
class Prediction:
    """What some models return."""

    hidden: Tensor
    logits: Tensor
    note: None = None


@seeded
def tuple_output() -> Patient:
    model = Answer(lambda hidden, logits: (logits, hidden, None))
    return Patient(model, points(), lambda out, y: F.cross_entropy(out[0], y))


@seeded
def dict_output() -> Patient:
    model = Answer(lambda hidden, logits: {"hidden": hidden, "none": None, "logits": logits})
    return Patient(model, points(), lambda out, y: F.cross_entropy(out["logits"], y))


@seeded
def dataclass_output() -> Patient:
    return Patient(Answer(Prediction), points(), lambda out, y: F.cross_entropy(out.logits, y))


@seeded
def namespace_output() -> Patient:
    model = Answer(lambda hidden, logits: SimpleNamespace(logits=logits))
    return Patient(model, points(), lambda out, y: F.cross_entropy(out.logits, y))


@seeded
def nested_output() -> Patient:
    model = Answer(lambda hidden, logits: [None, {"deep": (hidden, [logits, 3, "word"])}])
    return Patient(model, points(), lambda out, y: F.cross_entropy(out[1]["deep"][1][0], y))


@seeded
def integer_output_besides() -> Patient:
    model = Answer(lambda hidden, logits: (logits.argmax(1), logits, logits > 0))
    return Patient(model, points(), lambda out, y: F.cross_entropy(out[1], y))


@seeded
def same_tensor_twice() -> Patient:
    model = Answer(lambda hidden, logits: (logits, logits))
    return Patient(model, points(), lambda out, y: F.cross_entropy(out[0] + out[1], y))


class KeywordsOnly(nn.Module):
    """Called with keywords; computes its own loss, as Hugging Face models do."""

    def __init__(self, answer: Any):
        super().__init__()
        self.first, self.second, self.answer = nn.Linear(7, 11), nn.Linear(11, 5), answer

    def forward(self, *, features: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.second(F.gelu(self.first(features)))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return self.answer(loss, logits)


@dataclass
class Output(ModelOutput):
    """A Hugging Face output."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    attentions: Tensor | None = None


def _named() -> dict[str, Tensor]:
    x, y = points()
    return {"features": x, "labels": y}


@seeded
def model_output() -> Patient:
    return Patient(KeywordsOnly(lambda loss, logits: Output(loss, logits)), _named())


@seeded
def loss_attribute() -> Patient:
    model = KeywordsOnly(lambda loss, logits: SimpleNamespace(loss=loss, logits=logits))
    return Patient(model, _named())


@seeded
def keyword_inputs_with_targets() -> Patient:
    x, y = points()
    model = KeywordsOnly(lambda _, logits: logits)
    patient = Patient(model, ({"features": x}, y), F.cross_entropy)
    patient.forward = lambda: model(features=x)  # type: ignore[method-assign]
    return patient


@seeded
def loss_only() -> Patient:
    model, batch = KeywordsOnly(lambda loss, _: loss), _named()
    patient = Patient(model, batch)
    patient.objective = lambda: model(**batch)  # type: ignore[method-assign]
    return patient


class TwoInputs(nn.Module):
    """Features and ids; the second argument is an integer tensor, the third is optional."""

    def __init__(self):
        super().__init__()
        self.embed, self.first, self.second = nn.Embedding(9, 6), nn.Linear(7, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor, ids: Tensor, scale: float | None = None) -> Tensor:
        hidden = torch.tanh(self.first(x) + self.embed(ids))
        return self.second(hidden if scale is None else scale * hidden)


@seeded
def several_inputs() -> Patient:
    x, y = points()
    return Patient(TwoInputs(), ((x, torch.randint(9, (SAMPLES,)), 0.5), y), F.cross_entropy)


@seeded
def integer_inputs() -> Patient:
    ids, y = data.topics(SAMPLES, 6, 30, 4)
    model = nn.Sequential(nn.Embedding(30, 8), nn.Flatten(), nn.Linear(48, 4))
    return Patient(model, (ids, y))


@seeded
def batch_of_one() -> Patient:
    x, y = points()
    model = nn.Sequential(nn.Linear(7, 11), nn.ReLU(), nn.Linear(11, 5))
    return Patient(model, (x[:1], y[:1]))


class Packed(nn.Module):
    """An LSTM over sequences of different lengths."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(7, 12, batch_first=True), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.arange(len(x)) % 4 + 2
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.head(out.mean(1))


@seeded
def packed_sequence() -> Patient:
    x, y = points()
    return Patient(Packed(), (x[:, None] + 0.5 * torch.randn(SAMPLES, 6, 7), y))


class Functional(nn.Module):
    """Parameters on the module itself; no submodule at all."""

    def __init__(self):
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.randn(11, 7) / 7**0.5), nn.Parameter(torch.zeros(11))
        self.rest = nn.ParameterDict({"w2": nn.Parameter(torch.randn(11, 5) / 11**0.5)})

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.linear(x, self.w1, self.b1)) @ self.rest["w2"]


@seeded
def functional_only() -> Patient:
    return Patient(Functional(), points())


@seeded
def parametrized() -> Patient:
    model = nn.Sequential(
        parametrizations.orthogonal(nn.Linear(7, 7)), nn.Tanh(),
        parametrizations.weight_norm(nn.Linear(7, 11)), nn.Tanh(),
        parametrizations.spectral_norm(nn.Linear(11, 5)),
    )  # fmt: skip
    return Patient(model, points())


@seeded
def weight_norm_by_hook() -> Patient:
    """The old weight norm computes the weight in a forward pre-hook, as a plain attribute."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        first = nn.utils.weight_norm(nn.Linear(7, 11))
    second = nn.utils.spectral_norm(nn.Linear(11, 5))
    return Patient(nn.Sequential(first, nn.Tanh(), second), points())


class Tied(nn.Module):
    """One matrix embeds and reads out."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        nn.init.normal_(self.embed.weight, std=0.3)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embed(ids))).transpose(1, 2)


@seeded
def tied_weights() -> Patient:
    ids = data.tokens(SAMPLES, 6, 20)
    return Patient(Tied(), (ids[:, :-1], ids[:, 1:]), F.cross_entropy)


@seeded
def sparse_gradient() -> Patient:
    ids, y = data.topics(SAMPLES, 6, 30, 4)
    model = nn.Sequential(nn.Embedding(30, 8, sparse=True), nn.Flatten(), nn.Linear(48, 4))
    return Patient(model, (ids, y))


def _plain(*, act: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(nn.Linear(7, 11), act or nn.ReLU(), nn.Linear(11, 5))


@seeded
def compiled_eager() -> Patient:
    return Patient(torch.compile(_plain(), backend="eager"), points())


@seeded
def compiled_aot_eager() -> Patient:
    return Patient(torch.compile(_plain(), backend="aot_eager"), points())


@seeded
def compiled_in_place() -> Patient:
    model = _plain()
    model.compile(backend="eager")
    return Patient(model, points())


def _quietly(make: Any, *args: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript itself is deprecated
        return make(*args)


@seeded
def scripted() -> Patient:
    return Patient(_quietly(torch.jit.script, _plain()), points())


@seeded
def traced() -> Patient:
    x, y = points()
    return Patient(_quietly(torch.jit.trace, _plain(), x), (x, y))


@seeded
def scripted_part() -> Patient:
    model = nn.Sequential(nn.Linear(7, 7), _quietly(torch.jit.script, _plain()), nn.Linear(5, 5))
    return Patient(model, points())
