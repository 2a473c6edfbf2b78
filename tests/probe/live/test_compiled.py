"""Compiled models: taps inside the graphs, the same bits, and the numbers of eager looks."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isograd

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch.compile warns of


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.act = nn.Linear(16, 32), nn.BatchNorm1d(32), nn.GELU()
        self.b, self.drop, self.c = nn.Linear(32, 32), nn.Dropout(0.2), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.a(x)))
        return self.c(x + self.drop(F.relu(self.b(x))))


def wrapped(model: nn.Module, backend: str) -> Callable[..., Any]:
    return torch.compile(model, backend=backend, fullgraph=True)


def in_place(model: nn.Module, backend: str) -> Callable[..., Any]:
    model.compile(backend=backend)
    return model


def one_block(model: Net, backend: str) -> Callable[..., Any]:
    model.b = torch.compile(model.b, backend=backend)
    return model


def around(model: nn.Module, backend: str) -> Callable[..., Any]:
    return torch.compile(lambda x: model(x), backend=backend, fullgraph=True)


def train(
    call: Callable[..., Any], model: nn.Module, steps: int, optimizer: torch.optim.Optimizer
) -> list[float]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 16, generator=generator)
    y = torch.randint(4, (64,), generator=generator)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(call(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def build(way: Callable[..., Any], backend: str) -> tuple[Net, Callable[..., Any], Any]:
    torch.manual_seed(0)
    model = Net()
    call = way(model, backend)
    return model, call, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)


@pytest.mark.parametrize("way", [wrapped, in_place, one_block, around])
@pytest.mark.parametrize("every", [None, 3])
def test_the_same_bits(way: Callable[..., Any], every: int | None) -> None:
    bare, call, optimizer = build(way, "aot_eager")
    torch.manual_seed(3)
    expected = train(call, bare, 200, optimizer)
    torch._dynamo.reset()
    model, call, optimizer = build(way, "aot_eager")
    torch.manual_seed(3)
    watched = call if isinstance(call, nn.Module) else model
    with isograd.watch(watched, optimizer, every=every, sinks=(), on_finding=None) as watch:
        found = train(call, model, 200, optimizer)
    assert watch.failure is None
    assert found == expected
    assert all(
        torch.equal(a, b)
        for a, b in zip(bare.state_dict().values(), model.state_dict().values(), strict=True)
    )
    assert watch.record is not None
    assert watch.record.has("backward.rms")
    assert watch.record.has("weight.update_ratio")


@pytest.mark.slow
def test_inductor_gives_the_same_bits() -> None:
    bare, call, optimizer = build(wrapped, "inductor")
    torch.manual_seed(3)
    expected = train(call, bare, 50, optimizer)
    torch._dynamo.reset()
    model, call, optimizer = build(wrapped, "inductor")
    torch.manual_seed(3)
    with isograd.watch(call, optimizer, every=2, sinks=(), on_finding=None) as watch:
        found = train(call, model, 50, optimizer)
    assert watch.failure is None
    assert found == expected
    assert all(
        torch.equal(a, b) for a, b in zip(bare.parameters(), model.parameters(), strict=True)
    )
    assert watch.record is not None
    assert watch.record.has("backward.rms")


def test_the_numbers_are_those_of_an_eager_look() -> None:
    looks = []
    for way in (wrapped, lambda model, _: model):
        model, call, optimizer = build(way, "aot_eager")
        model.drop.p = 0.0
        with isograd.watch(call, optimizer, every=1, sinks=(), on_finding=None) as watch:
            train(call, model, 3, optimizer)
        assert watch.failure is None
        assert watch.record is not None
        looks.append(watch.record)
    compiled, eager = looks
    names = [site.name for site in eager.sites]
    for row, site in enumerate(compiled.sites):
        other = names.index(site.name)
        for key in ("forward.rms", "forward.count", "forward.mean", "backward.rms", "backward.max"):
            expected = eager.value(key, other)
            assert compiled.value(key, row) == pytest.approx(expected, rel=1e-4, abs=1e-8), key
    assert compiled.series["weight.grad_rms"] == pytest.approx(
        eager.series["weight.grad_rms"], rel=1e-4
    )


def test_what_was_compiled_before_is_compiled_once_more_and_says_so() -> None:
    model, call, optimizer = build(wrapped, "aot_eager")
    train(call, model, 2, optimizer)
    with (
        pytest.warns(isograd.errors.IsogradWarning, match="compiled once more"),
        isograd.watch(call, optimizer, every=1, sinks=(), on_finding=None) as watch,
    ):
        train(call, model, 2, optimizer)
    assert watch.record is not None
    assert watch.record.has("forward.rms")


def test_steps_that_are_not_looked_at_run_the_graph_without_taps() -> None:
    model, call, optimizer = build(wrapped, "aot_eager")
    reads: list[int] = []
    with isograd.watch(call, optimizer, every=5, sinks=(), on_finding=None) as watch:
        taps = watch._desk.watcher._read._taps
        taps.saw = functools.partial(lambda row, _x: reads.append(row))  # type: ignore[union-attr]
        train(call, model, 5, optimizer)
        assert len(reads) == 6
        train(call, model, 5, optimizer)
    assert len(reads) == 12
