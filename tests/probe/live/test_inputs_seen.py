"""Every look tells of its inputs, and a change of their scale is found once."""

import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isograd
from isograd.records import Record
from isograd.watching import _desk


@pytest.fixture(autouse=True)
def _judged_at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_desk, "JUDGING", 1e9)  # these steps are too short to pay for it


def train(
    batches: Iterator[Tensor], model: nn.Module | None = None, steps: int = 60, every: int = 4
) -> isograd.Watch:
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(13, 24), nn.Tanh(), nn.Linear(24, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    with isograd.watch(model, optimizer, every=every, sinks=(), on_finding=None) as watch:
        for _, x in zip(range(steps), batches, strict=False):
            optimizer.zero_grad()
            with torch.no_grad():
                model(100 * x)  # an evaluation, which is not of the step
            out = model(x)
            F.cross_entropy(out, (x.reshape(len(x), -1)[:, 0] > 0).long()).backward()
            optimizer.step()
    return watch


def numbers(record: Record) -> list[float]:
    return [record.facts[f"batch.{key}"] for key in ("mean", "rms", "std")]


def expected(x: Tensor) -> list[float]:
    x = x.double()
    return [x.mean().item(), x.square().mean().sqrt().item(), x.std(correction=0).item()]


def noise(scale: Callable[[int], float] = lambda _: 1.0, *, mean: float = 0.0) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(1)
    for step in range(1000):
        yield scale(step) * torch.randn(32, 13, generator=generator) + mean


def raised(watch: isograd.Watch) -> list[int]:
    return [a.first_step for a in watch.alarms if a.finding.code == "IG611"]


def test_every_look_tells_of_its_inputs() -> None:
    watch = train(noise(mean=0.3), steps=9)
    assert watch.reading is not None
    given = list(noise(mean=0.3))
    for record in (watch.reading.seen, *watch.reading.history):
        assert numbers(record) == pytest.approx(expected(given[record.step]), rel=1e-5)


def test_micro_batches_are_one() -> None:
    model = nn.Linear(5, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x = torch.randn(4, 11, 5)
    with isograd.watch(model, optimizer, every=1, sinks=(), on_finding=None) as watch:
        for _ in range(2):
            optimizer.zero_grad()
            for part in x:
                model(part).square().mean().backward()
            optimizer.step()
    assert watch.record is not None
    assert numbers(watch.record) == pytest.approx(expected(x), rel=1e-5)


@pytest.mark.parametrize(
    "make", [lambda: torch.randint(7, (11, 5)), lambda: torch.eye(11, 7).to_sparse()]
)
def test_inputs_without_a_scale_have_none(make: Callable[[], Tensor]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(7, 3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.sparse.mm(x, self.table) if x.is_sparse else F.embedding(x, self.table)

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with isograd.watch(model, optimizer, every=1, sinks=(), on_finding=None) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            model(make()).square().mean().backward()
            optimizer.step()
    assert watch.failure is None
    assert watch.record is not None
    assert "batch.std" not in watch.record.facts


@pytest.mark.parametrize("scale", [12.0, 1 / 12])
def test_a_loader_that_stops_to_normalize_is_found_once(scale: float) -> None:
    watch = train(noise(lambda step: scale if step >= 30 else 1.0), steps=80)
    assert raised(watch) == [36]  # two looks, of which each second judgement raises
    (alarm,) = (a for a in watch.alarms if a.finding.code == "IG611")
    assert "Between steps 28 and 32" in alarm.finding.message


def test_it_heals_when_the_inputs_are_as_before() -> None:
    watch = train(noise(lambda step: 12.0 if 30 <= step < 46 else 1.0), steps=90)
    assert [a.state for a in watch.alarms if a.finding.code == "IG611"] == ["withdrawn"]


@pytest.mark.parametrize(
    "scale",
    [
        lambda step: 1.0 + step / 40,  # a curriculum
        lambda step: 1.6 if step % 3 else 0.7,  # data sets in turn
        lambda step: 50.0 if step in (32, 36) else 1.0,  # broken batches
        lambda step: 0.8 if step >= 40 else 1.0,  # a stronger augmentation
    ],
)
def test_what_changes_in_healthy_loops_raises_nothing(scale: Callable[[int], float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert raised(train(noise(scale), steps=120)) == []
