"""Calls of modules that an earlier run of a sweep has made are looked up, and only these."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isograd.prediction.repeats import Following
from isograd.prediction.replaying import Replays
from isograd.prediction.sweeping import sweep

VALUES = [2, 4, 3, 5]


def stack(second: Callable[[int], nn.Module], name: Callable[[int], str] = lambda _: "1") -> Any:
    """A stack whose second module depends on what is swept."""

    def factory(value: int) -> nn.Module:
        first, last = nn.Linear(6, 6), nn.Linear(6, 6)
        parts = {"0": first, name(value): second(value), "2": nn.Tanh(), "3": last}
        return nn.Sequential(OrderedDict(parts))

    return factory


def hooked(value: int) -> nn.Module:
    made = nn.Tanh()
    made.register_forward_hook(lambda module, given, out: out * value)
    return made


def in_eval(value: int) -> nn.Module:
    return nn.Dropout(0.4).train(value % 2 == 0)


def own_forward(value: int) -> nn.Module:
    made = nn.Tanh()
    made.forward = lambda x: x * value  # type: ignore[method-assign]
    return made


def weighted(value: int) -> nn.Module:
    made = nn.Linear(6, 6)
    nn.init.normal_(made.weight, std=0.1 * value)
    return made


def tied(value: int) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
            if value == 4:
                self.two.weight = self.one.weight

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.two(torch.relu(self.one(x)))
            return y

    return Net()


def again(value: int) -> nn.Module:
    """One activation that is called a second time, or another one."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act, self.other = nn.Linear(6, 6), nn.ReLU(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(x) if value % 2 else self.other(x)
            y: Tensor = self.act(self.fc(x))
            return y

    return Net()


ODD = {
    "setting": stack(lambda value: nn.LeakyReLU(0.1 * value)),
    "bias": stack(lambda value: nn.Linear(6, 6, bias=value % 2 == 0)),
    "no bias": stack(lambda value: nn.Linear(6, 6, bias=value % 2 == 1)),
    "law": stack(weighted),
    "name": stack(lambda _: nn.Linear(6, 6), lambda value: f"at_{value}"),
    "mode": stack(in_eval),
    "hook": stack(hooked),
    "forward": stack(own_forward),
    "in place": stack(lambda value: nn.ReLU(inplace=value % 2 == 0)),
    "handed through": stack(lambda value: nn.Identity() if value % 2 else nn.Tanh()),
    "tied": tied,
    "called again": again,
}


@pytest.mark.parametrize("kind", ODD)
def test_what_differs_is_not_taken_for_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(2))
    with monkeypatch.context() as patch:
        patch.setattr(Following, "again", lambda *_: None)
        alone = sweep(ODD[kind], x, "value", VALUES, records=True)
    together = sweep(ODD[kind], x, "value", VALUES, records=True)
    for one, other in zip(together.points, alone.points, strict=True):
        assert one.record is not None
        assert other.record is not None
        assert one.record.sites == other.record.sites
        assert one.record.series == other.record.series
        assert dict(one.record.facts) == dict(other.record.facts)


def test_what_is_the_same_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    take = Replays._take

    def counted(self: Replays, kept: Any, module: nn.Module) -> None:
        seen.append(kept.module.path)
        take(self, kept, module)

    monkeypatch.setattr(Replays, "_take", counted)

    def plain(depth: int) -> nn.Module:
        return nn.Sequential(*(m for _ in range(depth) for m in (nn.Linear(6, 6), nn.Tanh())))

    sweep(plain, torch.randn(5, 6), "depth", [2, 4, 3])
    assert seen == [str(k) for k in (*range(4), *range(6))]


def test_modules_are_left_as_they_were() -> None:
    made: list[nn.Module] = []

    def factory(value: int) -> nn.Module:
        made.append(nn.Sequential(nn.Linear(6, value), nn.ReLU()))
        return made[-1]

    sweep(factory, torch.randn(5, 6), "value", [3, 4])
    plain, chain = vars(nn.ReLU()).keys(), vars(nn.Sequential()).keys()
    assert all(vars(model[1]).keys() == plain for model in made)  # type: ignore[index]
    assert all(vars(model).keys() == chain for model in made)
