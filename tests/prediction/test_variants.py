"""Variants: other weights, activations and residual branches, against models that are built so."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isograd.errors import InputError
from isograd.prediction import changes
from isograd.prediction.assembling import assemble
from isograd.prediction.changes import Change, activations, inits
from isograd.prediction.tracing import build
from isograd.prediction.variants import _SWAPPED, traced
from isograd.records import Record
from isograd.theory import critical

IN, WIDTH, OUT = 11, 37, 5
TEXT = f"float32[13,{IN}]"


class Block(nn.Module):
    def __init__(self, act: type[nn.Module] = nn.ReLU, scale: float = 1.0) -> None:
        super().__init__()
        self.fc, self.act, self.scale = nn.Linear(WIDTH, WIDTH), act(), scale

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.scale * self.act(self.fc(x))
        return out


class Net(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.stem = nn.Linear(IN, WIDTH)
        self.blocks = nn.Sequential(*(Block(**options) for _ in range(3)))
        self.head = nn.Linear(WIDTH, OUT)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(self.stem(x)))
        return out


def predicted(make: Callable[[], nn.Module] | nn.Module, change: Change | None = None) -> Record:
    return look(make, change or Change())[0]


def look(make: Callable[[], nn.Module] | nn.Module, change: Change) -> tuple[Record, list[str]]:
    with traced(build(make), TEXT, change) as (found, notes):
        return assemble(found), notes


def drawn(make: Callable[[Tensor], Any]) -> Callable[[], nn.Module]:
    def model() -> nn.Module:
        net = Net()
        for module in net.modules():
            if isinstance(module, nn.Linear):
                make(module.weight)
        return net

    return model


def near(first: Record, second: Record) -> None:
    assert first.sites == second.sites
    for key in ("forward.rms", "backward.rms", "forward.correlation", "weight.rms"):
        assert first.series[key] == pytest.approx(second.series[key], rel=1e-9, nan_ok=True), key


@pytest.mark.parametrize(
    ("word", "make"),
    [
        ("kaiming_normal", nn.init.kaiming_normal_),
        ("kaiming_uniform:0.2", lambda w: nn.init.kaiming_uniform_(w, a=0.2)),
        ("xavier_normal", nn.init.xavier_normal_),
        ("xavier_uniform:1.5", lambda w: nn.init.xavier_uniform_(w, gain=1.5)),
        ("orthogonal", nn.init.orthogonal_),
        ("normal:0.02", lambda w: nn.init.normal_(w, std=0.02)),
        ("normal", lambda w: nn.init.normal_(w, std=0.02)),
        ("trunc_normal:0.1", lambda w: nn.init.trunc_normal_(w, std=0.1, a=-0.2, b=0.2)),
        ("uniform:0.3", lambda w: nn.init.uniform_(w, -0.3, 0.3)),
        ("lecun", lambda w: nn.init.normal_(w, std=w.shape[1] ** -0.5)),
        ("Lecun:2", lambda w: nn.init.normal_(w, std=2 * w.shape[1] ** -0.5)),
        ("zeros", nn.init.zeros_),
    ],
)
def test_an_initialization_is_as_if_built_so(word: str, make: Callable[[Tensor], Any]) -> None:
    near(predicted(Net, Change(init=inits([word]))), predicted(drawn(make)))


def test_every_initialization_that_is_named_is_there() -> None:
    for name in changes.INITS:
        assert predicted(Net, Change(init=inits([name]))).has("forward.rms"), name


def test_only_what_a_pattern_names() -> None:
    change = Change(init=inits(["normal:0.5", "head=zeros", "blocks.1.*=uniform:0.3"]))
    record = predicted(Net, change)
    rms = dict(zip((p.name for p in record.parameters), record.series["weight.rms"], strict=True))
    assert rms["stem.weight"] == rms["blocks.0.fc.weight"] == pytest.approx(0.5)
    assert rms["blocks.1.fc.weight"] == pytest.approx(0.3 / math.sqrt(3))
    assert rms["head.weight"] == 0


def test_critical_is_what_the_theory_says_of_the_activation_that_follows() -> None:
    def plain() -> nn.Module:
        layers = [one for _ in range(4) for one in (nn.Linear(WIDTH, WIDTH), nn.Mish())]
        return nn.Sequential(nn.Linear(IN, WIDTH), nn.Tanh(), *layers, nn.Linear(WIDTH, OUT))

    record = predicted(plain, Change(init=inits(["critical"])))
    rms = dict(zip((p.name for p in record.parameters), record.series["weight.rms"], strict=True))
    mish, tanh = critical("mish"), critical("tanh")
    assert rms["0.weight"] == pytest.approx(math.sqrt((tanh.weight_var or 0) / IN))
    assert rms["0.bias"] == 0
    assert rms["2.weight"] == pytest.approx(math.sqrt((mish.weight_var or 0) / WIDTH))
    assert rms["2.bias"] == pytest.approx(math.sqrt(mish.bias_var or 0))
    with pytest.raises(InputError, match="init: sigmoid has no critical initialization"):
        predicted(lambda: Net(act=nn.Sigmoid), Change(init=inits(["critical"])))


def test_transposed_weights_keep_their_fans() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(IN, WIDTH))
            nn.init.normal_(self.weight)

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    record = predicted(Turned, Change(init=inits(["kaiming_normal"])))
    assert record.value("weight.rms", 0) == pytest.approx(math.sqrt(2 / IN))


@pytest.mark.parametrize(("name", "act"), [("gelu", nn.GELU), ("leaky_relu", nn.LeakyReLU)])
def test_an_activation_is_as_if_built_so(name: str, act: type[nn.Module]) -> None:
    near(predicted(Net, Change(activation=activations([name]))), predicted(lambda: Net(act=act)))


def test_every_activation_that_is_named_is_there() -> None:
    names = {name.replace("_", "") for name in changes.ACTIVATIONS}
    assert names == set(_SWAPPED)


def test_some_activations_and_what_is_left_alone() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.gate = Net(), nn.Sigmoid()

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.net(x)) * self.gate(x[:, :1])

    def told(*words: str) -> list[str]:
        return look(Mixed, Change(activation=activations(words)))[1]

    assert told("silu") == [
        "activation: 3 modules are now SiLU",
        "activation: 1 modules are as they were, such as gate",
        "activation: 1 functions that a forward calls are as they were, such as forward:tanh",
    ]
    assert told("*.1.act=silu", "gate=tanh")[:2] == [
        "activation: 1 modules are now SiLU",
        "activation: 1 modules are now Tanh",
    ]
    with pytest.raises(
        InputError, match="no activation module is called 'body'; there is gate, net"
    ):
        told("body=silu")
    with pytest.raises(InputError, match="the model has no activation modules"):
        look(lambda: nn.Linear(IN, 2), Change(activation=activations(["silu"])))


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_a_residual_scale_is_as_if_built_so(scale: float) -> None:
    change, built = Change(residual_scale=scale), predicted(lambda: Net(scale=scale))
    record = predicted(Net, change)
    assert record.sites == built.sites
    adds = [i for i, site in enumerate(record.sites) if site.kind == "add"]
    assert len(adds) == 3
    for key in ("forward.rms", "backward.rms", "forward.branch_ratio"):
        for index in adds:
            assert record.value(key, index) == pytest.approx(built.value(key, index)), key
    grads = "weight.grad_rms"
    assert record.series[grads] == pytest.approx(built.series[grads])
    with pytest.raises(InputError, match="no addition that closes an identity skip"):
        look(lambda: nn.Linear(IN, 2), change)


def test_a_real_model_is_left_as_found() -> None:
    net = Net()
    kept = {name: (id(p), p.detach().clone()) for name, p in net.named_parameters()}
    modules = [id(module) for module in net.modules()]
    change = Change(inits(["critical"]), activations(["gelu"]), 0.5)
    first, second = predicted(net, change), predicted(Net, change)
    assert [id(module) for module in net.modules()] == modules
    for name, parameter in net.named_parameters():
        assert id(parameter) == kept[name][0]
        assert torch.equal(parameter, kept[name][1])
    near(first, second)  # every weight and bias has a new law, so that the old ones do not matter
    with pytest.raises(InputError):
        look(net, Change(activation=activations(["gelu", "none=relu"])))
    assert [id(module) for module in net.modules()] == modules


@pytest.mark.parametrize(
    ("make", "words", "said"),
    [
        (inits, ["kaiming"], "--init: no 'kaiming'; did you mean kaiming_normal"),
        (inits, ["normal:x"], "normal takes a number, its standard deviation"),
        (inits, ["normal:-1"], "normal takes a number"),
        (inits, ["zeros:1"], "zeros takes no number"),
        (inits, ["=zeros"], "has no pattern in front of ="),
        (activations, ["gleu"], "--activation: no 'gleu'; did you mean gelu"),
        (activations, ["relu:2"], "relu takes no number"),
    ],
)
def test_words_that_are_no_change(
    make: Callable[[Sequence[str]], Any], words: list[str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        make(words)
