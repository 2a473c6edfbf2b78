"""Points of a sweep that share their first layers say what each would say by itself."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isograd.prediction import sweeping
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


ALL = (plain, headed, in_place, normed, attentive, shared, other_from_the_third_on)


def numbers(point: Point) -> dict[str, float]:
    return {key: value for key, value in asdict(point).items() if isinstance(value, (int, float))}


def by_itself(monkeypatch: pytest.MonkeyPatch, factory: Any, batch: Any, **more: Any) -> Sweep:
    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "_repeated", lambda *_: None)
        return sweep(factory, batch, "depth", [2, 4, 3, 5], **more)


@pytest.mark.parametrize("factory", ALL, ids=lambda f: f.__name__)
@pytest.mark.parametrize("targets", [False, True], ids=["probes", "loss"])
def test_shared_layers_change_no_number(
    factory: Callable[[int], nn.Module], targets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(6, 12, generator=torch.Generator().manual_seed(1))
    batch = (x, torch.tensor([0, 1, 1, 0, 0, 1])) if targets else x
    together = sweep(factory, batch, "depth", [2, 4, 3, 5])
    for one, other in zip(
        together.points, by_itself(monkeypatch, factory, batch).points, strict=True
    ):
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-12), one.value


def test_the_first_layers_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from isograd.prediction.ops.linear import Linear

    seen = []
    apply = Linear.apply

    def counted(self: Linear, *args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return apply(self, *args, **kwargs)

    monkeypatch.setattr(Linear, "apply", counted)
    x = torch.randn(6, 12)
    sweep(headed, x, "depth", range(1, 11))
    assert len(seen) == 10 + 10  # ten layers, ten heads
    seen.clear()
    by_itself(monkeypatch, headed, x)
    assert len(seen) == 2 + 4 + 3 + 5 + 4
