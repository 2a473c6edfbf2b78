"""explain(): the operations of one place, and that their numbers follow from one another."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from isograd.errors import PredictionError
from isograd.prediction.explanation import Explanation, explain
from isograd.prediction.tracing import Trace, trace

IN, WIDTH, HIDDEN, OUT, SAMPLES = 11, 37, 53, 5, 13


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.mlp(self.norm(x))
        return out


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(IN, WIDTH)
        self.block = nn.ModuleList(Block() for _ in range(3))
        self.twice = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, OUT)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.block:
            x = block(x)
        x = self.twice(torch.tanh(self.twice(x)))
        out: Tensor = self.head(x)
        return out


@pytest.fixture(scope="module")
def traced() -> Trace:
    return trace(Net, f"float32[{SAMPLES},{IN}]")


def names(found: Explanation) -> list[tuple[str, str]]:
    return [(one.name, one.module) for one in found.operations]


def test_the_operations_of_a_module_in_order(traced: Trace) -> None:
    found = explain(traced, "block.1")
    assert found.label == "Block"
    assert names(found) == [
        ("layer_norm", "block.1.norm"),
        ("linear", "block.1.mlp.0"),
        ("gelu", "block.1.mlp.1"),
        ("linear", "block.1.mlp.2"),
        ("add", "block.1"),
    ]
    assert all(one.source for one in found.operations)


def test_each_operation_begins_where_another_ended(traced: Trace) -> None:
    norm, first, gelu, second, add = explain(traced, "block.1").operations
    assert norm.inputs[0].name == "block.0:add"
    assert first.inputs[0].maker == 0
    assert first.inputs[0].energy == norm.outputs[0].energy
    assert gelu.inputs[0].maker == 1
    assert second.inputs[0].maker == 2
    assert [term.name for term in add.inputs] == ["block.0:add", "block.1.mlp.2"]
    assert add.outputs[0].energy == pytest.approx(
        norm.inputs[0].energy + second.outputs[0].energy, rel=1e-12
    )


def test_a_weight_layer_says_how_many_summands_it_has(traced: Trace) -> None:
    _, first, gelu, second, _ = explain(traced, "block.1").operations
    assert first.count == pytest.approx(WIDTH)
    assert second.count == pytest.approx(HIDDEN)
    assert gelu.count is None
    signal, weight, bias = first.inputs
    assert (weight.name, weight.kind, weight.law) == ("block.1.mlp.0.weight", "weight", "uniform")
    assert weight.energy == pytest.approx(1 / (3 * WIDTH))
    assert first.outputs[0].energy == pytest.approx(
        WIDTH * signal.energy * weight.energy + bias.energy, rel=1e-9
    )


def test_the_gradient_is_handed_on_and_adds_up(traced: Trace) -> None:
    norm, first, gelu, second, add = explain(traced, "block.1").operations
    assert gelu.outputs[0].gradient == second.inputs[0].handed
    # E (W^T g)^2 = outputs E w^2 E g^2, of independent weights
    expected = WIDTH * second.inputs[1].energy * (second.outputs[0].gradient or 0.0)
    assert second.inputs[0].handed == pytest.approx(expected, rel=1e-9)
    skip, branch = add.inputs
    assert skip.handed == branch.handed == add.outputs[0].gradient
    # What goes past the branch and what goes through it are all that arrives.
    assert skip.gradient == pytest.approx((skip.handed or 0.0) + (norm.inputs[0].handed or 0.0))
    assert first.inputs[1].handed is not None


def test_a_site_is_one_operation(traced: Trace) -> None:
    found = explain(traced, "block.2:add")
    assert (found.label, names(found)) == ("add", [("add", "block.2")])


def test_calls_of_a_shared_module_are_told_apart(traced: Trace) -> None:
    assert names(explain(traced, "twice")) == [("linear", "twice")] * 2
    (second,) = explain(traced, "twice#2").operations
    assert second.inputs[0].name == "forward:tanh"


def test_the_whole_model(traced: Trace) -> None:
    found = explain(traced, "")
    assert found.label == "Net"
    assert len(found.operations) == len(traced.run.steps)


def test_layout_is_told_apart_from_arithmetic() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(IN, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(x.flatten(0, 1)).unflatten(0, (3, -1)).transpose(0, 1) * 2
            return out

    found = explain(trace(Folded, f"float32[3,7,{IN}]"), "")
    assert [one.moved for one in found.operations] == [True, False, True, True, False]
    assert found.operations[-1].inputs[0].name == "fc"


def test_what_was_sampled_says_so() -> None:
    class Sorted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.logcumsumexp(x, -1)

    (one,) = explain(trace(Sorted, f"float32[3,{IN}]"), "").operations
    assert one.sampled
    assert math.isfinite(one.outputs[0].energy)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("block.1.mpl", r"no module or site 'block.1.mpl'; did you mean block.1.mlp"),
        ("mlp", r"did you mean block.0.mlp or"),
        ("block.1:ad", r"did you mean block.1:add"),
        ("zzz", r"there is stem, block, block.0"),
        ("stem#2", r"no module or site 'stem#2'"),
    ],
)
def test_an_unknown_path_names_close_ones(traced: Trace, path: str, said: str) -> None:
    with pytest.raises(PredictionError, match=said):
        explain(traced, path)


def test_a_module_that_does_nothing_is_told() -> None:
    def idle() -> nn.Module:
        return nn.Sequential(nn.Linear(IN, OUT), nn.Identity())

    with pytest.raises(PredictionError, match="'1' does nothing to a signal"):
        explain(trace(idle, f"float32[3,{IN}]"), "1")


def test_explaining_changes_no_number(traced: Trace) -> None:
    look: Callable[[], Explanation] = lambda: explain(traced, "block.1")  # noqa: E731
    assert look() == look()
