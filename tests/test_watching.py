"""watch(): what it is given, what it says, and that a fault of its own stops no training."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isograd
from isograd.errors import CatalogueError, InputError, IsogradWarning
from isograd.findings import Alarm, Severity
from isograd.probe.live.reader import Reader
from isograd.sinks import Sink
from isograd.watching import Watch


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 20, generator=generator)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def healthy() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)
    )


def sigmoids() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(20, 32)]
    for _ in range(15):
        layers += [nn.Sigmoid(), nn.Linear(32, 32)]
    return nn.Sequential(*layers, nn.Linear(32, 3))


def train(
    model: nn.Module,
    steps: int = 40,
    lr: float = 0.1,
    each: Callable[[int], None] = lambda _: None,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> list[Tensor]:
    optimizer = torch.optim.SGD(model.parameters(), lr)
    x, y = data()
    for step in range(steps):
        each(step)
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


class Kept(Sink):
    """A sink that keeps what it is told."""

    code = "kept"

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def open(self, info: Any) -> None:
        self.told.append(("open", info))

    def record(self, record: Any) -> None:
        self.told.append(("record", record))

    def losses(self, pairs: Any) -> None:
        self.told += [("loss", pair) for pair in pairs]

    def alarms(self, changes: Any) -> None:
        self.told += [("alarm", alarm) for alarm in changes]

    def close(self, diagnosis: Any, outcome: str) -> None:
        self.told.append(("close", (diagnosis, outcome)))

    def of(self, kind: str) -> list[Any]:
        return [what for word, what in self.told if word == kind]


def test_a_healthy_training_gets_no_alarm_and_a_run_file(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a.isograd"
    model = healthy()
    with isograd.watch(model, run=path, on_finding="raise") as watch:
        train(model)
    assert watch.alarms == ()
    assert watch.failure is None
    assert watch.step == 40
    assert [step for step, _ in watch.losses] == list(range(40))
    assert watch.diagnosis is not None
    assert watch.diagnosis.healthy
    assert watch.record is not None
    run = isograd.open_run(path)
    assert run.session.outcome == "finished"
    assert [r.step for r in run.records()][:5] == [0, 1, 2, 4, 8]


@pytest.mark.parametrize("on_finding", ["warn", "callable", None])
def test_what_goes_wrong_is_said_once(on_finding: str | None) -> None:
    said: list[Alarm] = []
    model, sink = sigmoids(), Kept()
    act = said.append if on_finding == "callable" else on_finding
    watch = isograd.watch(model, sinks=[sink], every=2, on_finding=act)
    if on_finding == "warn":
        with pytest.warns(IsogradWarning, match="IG") as warned, watch:
            train(model)
        assert 1 <= len(warned) <= 3
    else:
        with watch:
            train(model)
    (worst,) = [a for a in watch.alarms if a.finding.severity is Severity.ERROR][:1]
    assert worst.finding.cause in ("saturating-activation", "init-too-small")
    assert worst.first_step == 0
    assert worst.last_step >= 30
    assert worst.finding.code in {a.finding.code for a in sink.of("alarm")}
    if on_finding == "callable":
        assert len(said) == len({a.finding.code for a in said})


def test_stop_ends_the_block_and_what_follows_goes_on() -> None:
    model, sink, reached = sigmoids(), Kept(), []
    with (
        pytest.warns(IsogradWarning, match="stopped"),
        isograd.watch(model, sinks=[sink], on_finding="stop") as watch,
    ):
        train(model, each=reached.append)
    assert reached[-1] < 10
    assert sink.of("close")[0][1] == "stopped at a finding"
    assert watch.alarms
    train(model, steps=2)


def test_raise_reaches_the_loop() -> None:
    model, sink = sigmoids(), Kept()
    with (
        pytest.raises(isograd.UntrainableError, match="Cause: "),
        isograd.watch(model, sinks=[sink], on_finding="raise"),
    ):
        train(model)
    assert sink.of("close")[0][1] == "ended by UntrainableError"


def test_what_a_function_of_the_user_raises_reaches_the_loop() -> None:
    class Enough(Exception):
        pass

    def act(alarm: Alarm) -> None:
        raise Enough(alarm.finding.code)

    model = sigmoids()
    with pytest.raises(Enough, match="IG"), isograd.watch(model, sinks=(), on_finding=act):
        train(model)


def test_rules_are_chosen() -> None:
    model = sigmoids()
    with isograd.watch(model, sinks=(), on_finding=None, rules="IG6") as watch:
        train(model, steps=5)
    assert watch.diagnosis is not None
    judged = {v.code for v in watch.diagnosis.verdicts if v.state != "ignored"}
    assert judged
    assert all(code.startswith("IG6") for code in judged)


def test_what_a_second_optimizer_moves_is_not_missing() -> None:
    for both in (True, False):
        model = healthy()
        first = torch.optim.SGD(list(model.parameters())[:2], 0.1)
        second = torch.optim.SGD(list(model.parameters())[2:], 0.1)
        x, y = data()
        with isograd.watch(model, first, sinks=(), on_finding=None) as watch:
            for _ in range(10):
                model.zero_grad()
                F.cross_entropy(model(x), y).backward()
                for optimizer in (first, second) if both else (first,):
                    optimizer.step()
        codes = [alarm.finding.code for alarm in watch.alarms]
        assert ("IG103" in codes) is not both


def boom(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("injected")


def test_a_fault_says_what_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reader, "look", boom)
    model, sink = healthy(), Kept()
    with (
        pytest.warns(IsogradWarning, match="goes on unwatched \\(ZeroDivisionError: injected"),
        isograd.watch(model, sinks=[sink]) as watch,
    ):
        train(model, steps=3)
    assert isinstance(watch.failure, ZeroDivisionError)
    assert [kind for kind, _ in sink.told] == ["open", "close"]


@pytest.mark.filterwarnings("ignore:.*missed 4 records")
def test_a_sink_that_raises_is_left_out(tmp_path: Path) -> None:
    class Broken(Kept):
        def record(self, record: Any) -> None:
            boom()

    model, fine = healthy(), Kept()
    with (
        pytest.warns(IsogradWarning, match="switched off"),
        isograd.watch(model, sinks=[Broken(), fine, "jsonl"], run=tmp_path / "a.isograd") as watch,
    ):
        train(model, steps=5)
    assert watch.failure is None
    assert [r.step for r in fine.of("record")] == [0, 1, 2, 4]
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["kind"] == "run"


@pytest.mark.filterwarnings("ignore:The ..noload.. loader")  # MLflow's own models
def test_all_sinks_at_once_are_told_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isograd.sinks import SINKS

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    kept, bare = Kept(), train(healthy(), steps=20)
    path = tmp_path / "runs" / "all.isograd"
    model = healthy()
    with isograd.watch(model, run=path, every=5, sinks=[*(s.code for s in SINKS), kept]) as watch:
        weights = train(model, steps=20)
    assert watch.failure is None
    assert all(torch.equal(a, b) for a, b in zip(weights, bare, strict=True))
    steps = [record.step for record in kept.of("record")]
    assert steps == [0, 5, 10, 15]
    with isograd.open_run(path) as run:
        assert [r.step for r in run.records()] == steps
        assert len(run.losses()[0]) == 20
    lines = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "record"] == steps
    assert sum(line["kind"] == "loss" for line in lines) == 20
    assert list(path.with_suffix(".tensorboard").glob("events.*"))
    assert (tmp_path / "mlflow.db").exists()
    assert list(tmp_path.rglob("*.wandb"))


def test_memory_is_bounded() -> None:
    model = healthy()
    with isograd.watch(model, sinks=(), every=1, on_finding=None) as watch:
        train(model, steps=300)
    assert watch.reading is not None
    assert len(watch.reading.history) <= 64
    tables = watch._desk.watcher._read._taps
    assert tables is not None
    on_device = sum(t.values.nbytes + t.flags.nbytes for t in (tables.forward, tables.backward))
    assert on_device < 1e6 * len(watch.reading.seen.sites) / 100


def test_no_tensor_outlives_its_step() -> None:
    import gc
    import weakref

    model = healthy()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    _, y = data()
    with isograd.watch(model, optimizer, sinks=(), every=1, on_finding=None):
        for _ in range(3):
            x = torch.randn(64, 20)
            out = model(x)
            F.cross_entropy(out, y).backward()
            optimizer.step()
            gone = [weakref.ref(x), weakref.ref(out)]
            del x, out
            gc.collect()
            assert [ref() for ref in gone] == [None, None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": 3}, "expected a torch.nn.Module, found an int"),
        ({"model": nn.ReLU()}, "no parameter asks for a gradient"),
        ({"optimizer": "sgd"}, "expected a torch.optim.Optimizer, found a str"),
        ({"overhead": 0}, "share of the time"),
        ({"overhead": "2 %"}, "share of the time"),
        ({"every": 0}, "number of steps"),
        ({"every": 1.5}, "number of steps"),
        ({"on_finding": "shout"}, "one of warn, raise, stop"),
        ({"rules": "XX"}, "no rule has the code 'XX'"),
        ({"sinks": [3]}, "give codes"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    given = {"model": healthy(), **arguments}
    with pytest.raises(InputError, match=message):
        isograd.watch(**given)


def test_a_sink_that_nobody_knows() -> None:
    with pytest.raises(CatalogueError, match="paper"):
        isograd.watch(healthy(), sinks=["paper"])


def test_a_watch_is_for_one_training() -> None:
    watch = isograd.watch(healthy(), sinks=())
    with watch, pytest.raises(InputError, match="has begun already"):
        watch.open()
    assert isinstance(watch, Watch)


def test_patches_are_gone_afterwards() -> None:
    before = torch.autograd.backward, torch.amp.GradScaler.step
    model = healthy()
    with isograd.watch(model, sinks=()):
        assert torch.autograd.backward is not before[0]
        train(model, steps=2)
    assert (torch.autograd.backward, torch.amp.GradScaler.step) == before
    assert math.isfinite(sys.float_info.max)
