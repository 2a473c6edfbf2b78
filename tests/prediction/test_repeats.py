"""Points of a sweep that share their first layers say what each would say by itself."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isograd.prediction.ops.linear import Linear
from isograd.prediction.repeats import Following
from isograd.prediction.sweeping import Point, Sweep, sweep


def plain(depth: int) -> nn.Module:
    layers = [m for _ in range(depth) for m in (nn.Linear(12, 12), nn.Tanh())]
    return nn.Sequential(*layers)


def headed(depth: int) -> nn.Module:
    return nn.Sequential(plain(depth), nn.Linear(12, 3))


def in_place(depth: int) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(12, 12) for _ in range(depth)])
            self.head = nn.Linear(12, 3 + depth)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = x + 0.5 * layer(x).relu_()
                x += 1.0
            return self.head(x)  # type: ignore[no-any-return]

    return Net()


def normed(depth: int) -> nn.Module:
    def block() -> list[nn.Module]:
        return [nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1)]

    body = [m for _ in range(depth) for m in block()]
    return nn.Sequential(nn.Unflatten(1, (4, 1, 3)), *body, nn.Flatten(), nn.Linear(12, 2))


def attentive(depth: int, heads: int = 3) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(
                nn.MultiheadAttention(12, heads, batch_first=True) for _ in range(depth)
            )
            self.last = nn.MultiheadAttention(12, 2, batch_first=True)
            self.register_buffer("mask", torch.ones(7, 7).triu(1).bool())

        def forward(self, x: Tensor) -> Tensor:
            x = x[:, None] + torch.arange(7.0)[:, None]
            for block in (*self.blocks, self.last):
                x = x + block(x, x, x, attn_mask=self.mask)[0]
            return x.mean(1)

    return Net()


def shared(depth: int) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(12, 12)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(depth):
                x = x + torch.relu(self.layer(x))
            return x

    return Net()


def other_from_the_third_on(depth: int) -> nn.Module:
    inits = [0.5, 0.5, 0.1 * depth, 0.3, 0.2]
    layers = []
    for index in range(depth):
        layer = nn.Linear(12, 12)
        nn.init.normal_(layer.weight, std=inits[index])
        layers.append(layer)
    return nn.Sequential(*layers)


def copied(depth: int) -> nn.Module:
    """Layers of their own up to three, then copies of one."""
    one = nn.Linear(12, 12)
    layers = [deepcopy(one) if depth > 3 else nn.Linear(12, 12) for _ in range(depth)]
    return nn.Sequential(*(m for layer in layers for m in (layer, nn.Tanh())))


def recurrent(depth: int) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.LSTM(12, 12, batch_first=True) for _ in range(depth))

        def forward(self, x: Tensor) -> Tensor:
            x = x[:, None].expand(-1, 3, -1)
            for layer in self.layers:
                x = layer(x)[0]
            return x[:, -1]

    return Net()


def gated(depth: int) -> nn.Module:
    """Functions whose rules call others, and first layers of other names and numbers."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for index in range(depth):
                self.add_module(f"from_the_end_{depth - index}", nn.Linear(12, 24))
                self.add_module(f"slope_{index}", nn.PReLU())
            self.head = nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            for index in range(depth):
                layer = self.get_submodule(f"from_the_end_{depth - index}")
                x = self.get_submodule(f"slope_{index}")(nn.functional.glu(layer(x)))
            return self.head(x)  # type: ignore[no-any-return]

    return Net()


ALL = (
    plain, headed, in_place, normed, attentive, shared, other_from_the_third_on, copied, recurrent,
    gated,
)  # fmt: skip


def numbers(point: Point) -> dict[str, float]:
    return {key: value for key, value in asdict(point).items() if isinstance(value, (int, float))}


def by_itself(monkeypatch: pytest.MonkeyPatch, factory: Any, batch: Any, **more: Any) -> Sweep:
    with monkeypatch.context() as patch:
        patch.setattr(Following, "again", lambda *_: None)
        options = {"name": "depth", "values": [2, 4, 3, 5], **more}
        return sweep(factory, batch, **options)


def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every product that is computed."""
    seen: list[int] = []
    apply = Linear.apply

    def counted(self: Linear, *args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return apply(self, *args, **kwargs)

    monkeypatch.setattr(Linear, "apply", counted)
    return seen


@pytest.mark.parametrize("factory", ALL, ids=lambda f: f.__name__)
@pytest.mark.parametrize("targets", [False, True], ids=["probes", "loss"])
def test_shared_layers_change_nothing(
    factory: Callable[[int], nn.Module], targets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(6, 12, generator=torch.Generator().manual_seed(1))
    batch = (x, torch.tensor([0, 1, 1, 0, 0, 1])) if targets else x
    alone = by_itself(monkeypatch, factory, batch, records=True)
    for records in (False, True):
        together = sweep(factory, batch, "depth", [2, 4, 3, 5], records=records)
        for one, other in zip(together.points, alone.points, strict=True):
            assert numbers(one) == pytest.approx(numbers(other), rel=1e-12), one.value
            assert (one.record is None) != records
            if one.record is not None and other.record is not None:
                assert one.record.sites == other.record.sites
                assert one.record.parameters == other.record.parameters
                assert dict(one.record.facts) == dict(other.record.facts)
                assert one.record.series == other.record.series


def test_what_a_change_leaves_alone_is_shared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    x, values = torch.randn(6, 12), ["4=normal:0.3", "4=normal:0.1"]
    alone = by_itself(monkeypatch, lambda: plain(3), x, name="init", values=values)
    seen = count(monkeypatch)
    together = sweep(lambda: plain(3), x, "init", values)
    assert len(seen) == 3 + 1 + 1  # as it is; twice the last layer, which is another one
    for one, other in zip(together.points, alone.points, strict=True):
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-12)


def test_the_first_layers_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = count(monkeypatch)
    x = torch.randn(6, 12)
    sweep(headed, x, "depth", range(1, 11))
    assert len(seen) == 10 + 10  # ten layers, ten heads
    seen.clear()
    by_itself(monkeypatch, headed, x)
    assert len(seen) == 2 + 4 + 3 + 5 + 4


@pytest.mark.parametrize("factory", [plain, headed, in_place, normed, shared])
def test_points_are_the_same_without_gradients_of_weights(
    factory: Callable[[int], nn.Module],
) -> None:
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
    whole, alone = (sweep(factory, x, "depth", [1, 3, 2], records=r) for r in (True, False))
    for one, other in zip(whole.points, alone.points, strict=True):
        assert asdict(one) | {"record": None} == asdict(other)
