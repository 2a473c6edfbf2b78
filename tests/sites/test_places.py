"""Sites: which there are, what they are called, how deep they lie and what feeds them."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isograd.probe.measuring import measure
from isograd.records import Record

X = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(2, 3, 11, 13, generator=torch.Generator().manual_seed(1))


class Made(nn.Module):
    """A module of parts and one function."""

    def __init__(self, function: Any, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def rows(record: Record) -> list[tuple[str, str, int, tuple[str, ...]]]:
    """(name, kind, depth, names of the sites upstream) of every site."""
    names = [site.name for site in record.sites]
    return [
        (site.name, site.kind, site.depth, tuple(names[i] for i in site.inputs))
        for site in record.sites
    ]


def seen(function: Any, *batch: Tensor, **parts: nn.Module) -> Record:
    return measure(Made(function, **parts), (batch or (X,), None))


def test_a_chain() -> None:
    model = nn.Sequential(nn.Linear(7, 11), nn.ReLU(), nn.Dropout(0.5), nn.Linear(11, 5))
    record = measure(model, X)
    assert rows(record) == [
        ("0", "linear", 1, ()),
        ("1", "relu", 1, ("0",)),
        ("2", "dropout", 1, ("1",)),
        ("3", "linear", 2, ("2",)),
    ]
    assert [site.label for site in record.sites] == ["Linear", "ReLU", "Dropout", "Linear"]
    assert [site.shape for site in record.sites] == [(5, 11), (5, 11), (5, 11), (5, 5)]
    assert [site.parameters for site in record.sites] == [(0, 1), (), (), (2, 3)]


def test_a_shared_module_is_a_site_at_each_call() -> None:
    record = seen(lambda m, x: m.fc(F.relu(m.fc(x))), fc=nn.Linear(7, 7))
    assert rows(record) == [
        ("fc", "linear", 1, ()),
        ("forward:relu", "relu", 1, ("fc",)),
        ("fc#2", "linear", 2, ("forward:relu",)),
    ]
    assert record.sites[0].parameters == record.sites[2].parameters == (0, 1)


def test_functions_have_the_name_of_their_module() -> None:
    block = Made(lambda m, x: F.leaky_relu(m.fc(x.tanh())).sigmoid_(), fc=nn.Linear(7, 7))
    record = seen(lambda m, x: m.block(m.block(x)), block=block)
    assert [site.name for site in record.sites] == [
        "block:tanh",
        "block.fc",
        "block:leaky_relu",
        "block:sigmoid",
        "block:tanh#2",
        "block.fc#2",
        "block:leaky_relu#2",
        "block:sigmoid#2",
    ]
    assert [site.depth for site in record.sites] == [0, 1, 1, 1, 1, 2, 2, 2]


def test_a_module_of_one_operation_has_its_own_name() -> None:
    """`Act` computes relu; `Scale` an operation that is no site of its own."""
    record = seen(
        lambda m, x: m.scale(m.act(m.fc(x))),
        fc=nn.Linear(7, 11),
        act=Made(lambda m, x: F.relu(x)),
        scale=Made(lambda m, x: 3 * x),
    )
    assert rows(record) == [
        ("fc", "linear", 1, ()),
        ("act", "relu", 1, ("fc",)),
        ("scale", "module", 1, ("act",)),
    ]
    assert record.sites[1].label == "Made"


def test_a_module_that_hands_its_input_through_is_no_site() -> None:
    record = seen(
        lambda m, x: m.b(m.a(m.fc(x))), fc=nn.Linear(7, 11), a=nn.Identity(), b=Made(lambda m, x: x)
    )
    assert [site.name for site in record.sites] == ["fc"]


def test_depth_is_along_the_longest_path() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        long = m.c(m.b(m.a(x)))
        return m.d(torch.cat([m.e(x), long], 1))

    parts = {name: nn.Linear(7, 7) for name in "abce"}
    record = seen(forward, **parts, d=nn.Linear(14, 5))
    assert rows(record) == [
        ("a", "linear", 1, ()),
        ("b", "linear", 2, ("a",)),
        ("c", "linear", 3, ("b",)),
        ("e", "linear", 1, ()),
        ("d", "linear", 4, ("e", "c")),
    ]


def test_a_constant_is_no_signal() -> None:
    """What does not depend on the inputs adds no depth and is no site."""
    record = seen(
        lambda m, x: m.a(x) + m.b(torch.ones(5, 3)), a=nn.Linear(7, 11), b=nn.Linear(3, 11)
    )
    assert rows(record) == [("a", "linear", 1, ())]


def test_recurrence_and_tables_of_constants() -> None:
    """A table of positions is a site, for it is what enters; a state made of ones is not."""

    def forward(m: Any, x: Tensor) -> Tensor:
        state, _ = m.rnn(torch.ones(5, 3, 2))
        return m.fc(x) + m.table(torch.arange(5)) + state[:, -1]

    record = seen(
        forward,
        fc=nn.Linear(7, 11),
        table=nn.Embedding(6, 11),
        rnn=nn.GRU(2, 11, batch_first=True),
    )
    assert rows(record) == [("fc", "linear", 1, ()), ("table", "embedding", 0, ())]


def test_a_module_that_keeps_others_in_a_list_is_no_operation() -> None:
    class Hiding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = [nn.Linear(7, 11)]

        def forward(self, x: Tensor) -> Tensor:
            return 2 * self.parts[0](x)

    record = seen(lambda m, x: m.last(m.hiding(x)), hiding=Hiding(), last=nn.Linear(11, 5))
    assert [site.name for site in record.sites] == ["hiding.Linear", "last"]


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_scripted_module_is_one_operation() -> None:
    """Out of sight, its depth is told from whether it has a weight."""
    record = seen(
        lambda m, x: m.last(m.act(m.fc(x))),
        fc=torch.jit.script(nn.Linear(7, 11)),
        act=torch.jit.script(nn.Tanh()),
        last=nn.Linear(11, 5),
    )
    assert [(s.name, s.depth) for s in record.sites] == [("fc", 1), ("act", 1), ("last", 2)]


@pytest.mark.parametrize("form", ["x + f", "f + x", "f += x", "x += f", "add", "x.add(alpha=1)"])
def test_a_residual_addition(form: str) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        f = m.b(F.relu(m.a(1 * x)))  # the product keeps nothing, so that x may be overwritten
        if form == "f += x":
            f += x
            return m.head(f)
        if form == "x += f":
            x += f
            return m.head(x)
        ways = {"x + f": lambda: x + f, "f + x": lambda: f + x, "add": lambda: torch.add(x, f)}
        return m.head(ways.get(form, lambda: x.add(f, alpha=1))())

    torch.manual_seed(0)
    stem, a, b = nn.Linear(7, 11), nn.Linear(11, 13), nn.Linear(13, 11)
    record = seen(forward, stem=stem, a=a, b=b, head=nn.Linear(11, 5))
    kinds = [site.kind for site in record.sites]
    assert kinds == ["linear", "linear", "relu", "linear", "add", "linear"]
    add = record.sites[4]
    assert add.name == "forward:add"
    assert {record.sites[i].name for i in add.inputs} == {"stem", "b"}
    assert [site.depth for site in record.sites] == [1, 2, 2, 3, 3, 4]
    with torch.no_grad():
        x = stem(X).double()
        branch = b(a(stem(X)).relu()).double()
    expected = float(branch.square().mean().sqrt() / x.square().mean().sqrt())
    assert record.value("forward.branch_ratio", 4) == pytest.approx(expected, rel=1e-6)
    assert [record.value("forward.branch_ratio", i) for i in (0, 1, 2, 3, 5)] == [None] * 5


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.a(x) + m.b(x),  # two branches of one depth
        lambda m, x: m.b(m.c(x)) + m.a(x),  # a projection, not the signal itself
        lambda m, x: x + x.relu(),  # no weight on the way
        lambda m, x: torch.add(x, m.c(x), alpha=2),  # scaled
        lambda m, x: m.c(x) + m.c(x)[:1],  # stretched
        lambda m, x: x + m.c(x)[:1],
        lambda m, x: m.c(x) + 1.0,
        lambda m, x: m.c(x) + torch.ones(7),
    ],
)
def test_additions_that_close_no_skip(function: Any) -> None:
    parts = {"a": nn.Linear(7, 11), "b": nn.Linear(7, 11), "c": nn.Linear(7, 7)}
    record = seen(function, **parts)
    assert "add" not in {site.kind for site in record.sites}


def test_what_follows_a_skip_has_no_branch() -> None:
    record = seen(
        lambda m, x: m.scale(x + m.a(x)), a=nn.Linear(7, 7), scale=Made(lambda m, x: 3 * x)
    )
    assert [site.kind for site in record.sites] == ["linear", "add", "module"]
    ratios = [record.value("forward.branch_ratio", i) for i in range(3)]
    assert [ratio is None for ratio in ratios] == [True, False, True]


def test_skips_inside_skips() -> None:
    """The depth of a residual stream grows with every branch."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = x + m.a(x)
        return x + m.b(x)

    record = seen(forward, a=nn.Linear(7, 7), b=nn.Linear(7, 7))
    assert rows(record) == [
        ("a", "linear", 1, ()),
        ("forward:add", "add", 1, ("a",)),
        ("b", "linear", 2, ("forward:add",)),
        ("forward:add#2", "add", 2, ("forward:add", "b")),
    ]


def test_torchs_attention_counts_as_two_layers() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    record = seen(
        lambda m, x: m.out(m.attention(x, x, x)[0]),
        torch.randn(2, 5, 8),
        attention=attention,
        out=nn.Linear(8, 3),
    )
    assert rows(record) == [
        ("attention", "attention", 2, ()),
        ("out", "linear", 3, ("attention",)),
    ]


def test_embedding_and_recurrence() -> None:
    record = seen(
        lambda m, ids: m.out(m.lstm(m.table(ids))[0][:, -1]),
        torch.arange(15).reshape(3, 5),
        table=nn.Embedding(17, 7),
        lstm=nn.LSTM(7, 11, batch_first=True),
        out=nn.Linear(11, 4),
    )
    assert rows(record) == [
        ("table", "embedding", 0, ()),
        ("lstm", "recurrent", 1, ("table",)),
        ("out", "linear", 2, ("lstm",)),
    ]


@pytest.mark.parametrize(
    ("use", "name", "whole"),
    [
        (lambda x, w: x @ w, "forward:matmul", True),
        (lambda x, w: x @ w.T.T, "forward:matmul", False),
        (lambda x, w: torch.einsum("ni,io->no", x, w), "forward:einsum", True),
        (lambda x, w: F.linear(x, w.t()), "forward:linear", True),
        (lambda x, w: F.linear(x, w.mT), "forward:linear", True),
        (lambda x, w: torch.mm(x, w.transpose(0, 1).t()), "forward:mm", False),
        (lambda x, w: x @ (w * 2), "forward:matmul", False),
    ],
)
def test_a_product_with_a_weight_is_a_layer(use: Any, name: str, whole: bool) -> None:
    model = Made(lambda m, x: use(x, m.w))
    model.w = nn.Parameter(torch.randn(7, 11))
    record = measure(model, X)
    assert rows(record) == [(name, "linear", 1, ())]
    assert record.sites[0].parameters == ((0,) if whole else ())


def test_a_product_of_parameters_makes_no_layer_of_them() -> None:
    """A weight of low rank: its factors multiply no signal themselves."""
    model = Made(lambda m, x: F.linear(x, m.up @ m.down))
    model.up, model.down = nn.Parameter(torch.randn(11, 2)), nn.Parameter(torch.randn(2, 7))
    record = measure(model, X)
    assert rows(record) == [("forward:linear", "linear", 1, ())]
    assert [parameter.kind for parameter in record.parameters] == ["other", "other"]


def test_a_product_of_two_signals_is_none() -> None:
    record = seen(lambda m, x: m.a(x) @ m.a(x).T, a=nn.Linear(7, 11))
    assert [site.kind for site in record.sites] == ["linear", "linear"]


def test_relu6_is_told_from_hardtanh() -> None:
    model = nn.Sequential(nn.ReLU6(), nn.Hardtanh(), nn.Hardtanh(0.0, 6.0), nn.Hardtanh(-2.0, 6.0))
    kinds = [site.kind for site in measure(model, X).sites]
    assert kinds == ["relu6", "hardtanh", "relu6", "hardtanh"]


def test_the_operations_inside_norms_are_not_sites() -> None:
    class RMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(7))

        def forward(self, x: Tensor) -> Tensor:
            return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)

    class NewGELU(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * x**3)))

    record = seen(lambda m, x: m.act(m.norm(x)), norm=RMSNorm(), act=NewGELU())
    assert rows(record) == [("norm", "rms_norm", 0, ()), ("act", "gelu", 0, ("norm",))]


def test_units_are_channels_behind_convolutions_and_features_elsewhere() -> None:
    """One unit of the convolution and two features of the layer are off."""
    torch.manual_seed(0)
    conv, fc = nn.Conv2d(3, 5, 3), nn.Linear(7, 11)
    with torch.no_grad():
        conv.bias.fill_(9.0)
        fc.bias.fill_(9.0)
        conv.bias[2], fc.bias[1], fc.bias[3] = -9.0, -9.0, -9.0
    record = measure(nn.Sequential(conv, nn.ReLU(), nn.Flatten(2)), IMAGES)
    assert record.value("forward.dead", 1) == pytest.approx(1 / 5)
    record = measure(nn.Sequential(fc, nn.ReLU()), X)
    assert record.value("forward.dead", 1) == pytest.approx(2 / 11)
    tokens = torch.randn(2, 3, 7)
    record = measure(nn.Sequential(fc, nn.ReLU()), tokens)
    assert record.value("forward.dead", 1) == pytest.approx(2 / 11)


def test_a_parametrized_layer_has_its_own_name_and_class() -> None:
    layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(7, 11))
    record = seen(lambda m, x: m.fc(x), fc=layer)
    assert [(s.name, s.label, s.kind) for s in record.sites] == [("fc", "Linear", "linear")]


def test_a_custom_function_is_seen_as_its_module() -> None:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return 2 * gradient

    record = seen(
        lambda m, x: m.b(m.twice(m.a(x))),
        a=nn.Linear(7, 11),
        b=nn.Linear(11, 3),
        twice=Made(lambda m, x: Double.apply(x)),
    )
    assert rows(record) == [
        ("a", "linear", 1, ()),
        ("twice", "module", 1, ("a",)),
        ("b", "linear", 2, ("twice",)),
    ]


def test_a_call_that_raises_and_is_caught_leaves_no_frame() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        try:
            m.bad(x)
        except RuntimeError:
            x = x.tanh()
        return m.good(x)

    record = seen(forward, bad=nn.Linear(9, 11), good=nn.Linear(7, 5))
    assert rows(record) == [
        ("forward:tanh", "tanh", 0, ()),
        ("good", "linear", 1, ("forward:tanh",)),
    ]
