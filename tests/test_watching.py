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
from isograd.probe.live.taps import Taps
from isograd.probe.live.watcher import Watcher
from isograd.sinks import Sink
from isograd.watching import Watch
from isograd.watching._desk import Desk


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


NAN = float("nan")


def test_a_bad_input_is_found() -> None:
    model = healthy()
    x, y = data()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with isograd.watch(model, optimizer, sinks=(), on_finding=None) as watch:
        for step in range(12):
            batch = x.clone()
            if step == 9:
                batch[3, 4] = NAN
            optimizer.zero_grad()
            F.cross_entropy(model(batch), y).backward()
            optimizer.step()
    said = watch.explain_nan()
    assert said is not None
    assert "Step 9: the first non-finite value came out of linear in 0" in said
    assert "1 non-finite" in said
    assert "The loss is non-finite since step 9" in said
    assert "in the looks before" in said
    assert "on rank" not in watch.diagnosis.findings[0].message  # there is one process


class Root(nn.Module):
    """A square root in the middle, whose slope at zero is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(20, 16), nn.Linear(16, 3)
        self.low = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.b((self.a(x).abs() * self.low).sqrt())


def test_a_backward_that_divides_by_zero_is_found() -> None:
    model = Root()

    def each(step: int) -> None:
        model.low = 0.0 if step == 4 else 1.0

    with isograd.watch(model, sinks=(), every=1, on_finding=None) as watch:
        train(model, steps=5, each=each)
    said = watch.explain_nan()
    assert said is not None
    assert "Step 4: the first non-finite gradient came out of sqrt" in said


def test_a_loss_that_takes_the_logarithm_of_zero_is_found() -> None:
    model = nn.Sequential(nn.Linear(20, 3), nn.ReLU())
    torch.manual_seed(0)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return -(out.gather(1, y[:, None])).log().mean()

    with isograd.watch(model, sinks=(), on_finding=None) as watch:
        train(model, steps=2, loss=loss)
    said = watch.explain_nan()
    assert said is not None
    assert "came out of log in the loss" in said


def test_weights_that_a_masked_gradient_poisoned_are_named() -> None:
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 3))
    spare = nn.Parameter(torch.ones(3))
    model.register_parameter("spare", spare)

    def each(step: int) -> None:
        if step == 5:
            spare.data.fill_(NAN)

    with isograd.watch(model, sinks=(), every=1, on_finding=None) as watch:
        train(model, steps=8, each=each)
    said = watch.explain_nan()
    assert said is not None
    assert "spare" in said
    assert "while the loss is finite" in said


def by_hand(out: Tensor, y: Tensor) -> Tensor:
    return ((y - out) ** 2).mean()


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("loss", [F.mse_loss, by_hand])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_targets_that_stretch_the_outputs_are_found(loss: Any, axes: int) -> None:
    """Of (64, 1) and (64,) every output meets every target; with (64, 1, 1) it is on purpose."""
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 1))
    _, y = data()
    targets = y.float().reshape(*(1,) * (axes == 3), -1, *(1,) * (axes > 1))

    def each(out: Tensor, _: Tensor) -> Tensor:
        return loss(out[:, None] if axes == 3 else out, targets)

    with isograd.watch(model, sinks=(), on_finding=None) as watch:
        train(model, steps=2, loss=each)
    assert watch.failure is None
    assert ("IG607" in {finding.code for finding in watch.diagnosis.findings}) == (axes == 1)


def test_targets_of_one_call_are_not_those_of_the_step() -> None:
    model, (x, y) = healthy(), data()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with isograd.watch(model, sinks=(), on_finding=None) as watch:
        for _ in range(2):
            optimizer.zero_grad()
            for one in range(8):
                F.cross_entropy(model(x[one : one + 1]), y[one : one + 1]).backward()
            optimizer.step()
    assert watch.reading.seen.fact("batch.size") == 8
    assert "IG608" not in {finding.code for finding in watch.diagnosis.findings}


def test_an_optimizer_of_another_model_is_told() -> None:
    model = healthy()
    other = torch.optim.SGD(healthy().parameters(), 0.1)
    watch = isograd.watch(model, other, sinks=()).open()
    other.step()
    with pytest.warns(IsogradWarning, match="the optimizer holds no parameter of") as told:
        watch.close()
    assert told[0].filename == __file__  # the line of the loop, none of isograd's
    assert repr(watch) == "<Watch: 0 steps, 0 alarms stand>"


def test_finite_runs_have_nothing_to_explain() -> None:
    model = healthy()
    with isograd.watch(model, sinks=(), on_finding=None) as watch:
        assert watch.explain_nan() is None
        assert watch.record is None
        train(model, steps=3)
    assert watch.explain_nan() is None


def boom(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("injected")


PLACES = (
    [
        (Watcher, name)
        for name in (
            "_open _entering _left _step_ended _next _look _pass_on _arrived _tell _locate".split()
        )
    ]
    + [
        (Reader, name)
        for name in (
            "arm entering left backward_begins backward_ended before after look record rest".split()
        )
    ]
    + [(Taps, name) for name in "attach detach _returned _read _gradient _compare".split()]
    + [(Desk, name) for name in "looked lost judge _tell _begin _flush".split()]
)


@pytest.mark.filterwarnings("ignore::isograd.errors.IsogradWarning")
@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize(("owner", "name"), PLACES)
def test_a_fault_anywhere_leaves_training_running(
    owner: type, name: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(healthy(), steps=20)
    original, calls = getattr(owner, name), []

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            boom()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)
    model = healthy()
    watch = isograd.watch(model, sinks=(), every=1, on_finding=None)
    watch.open()
    found = train(model, steps=20)
    monkeypatch.undo()
    watch.close()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    hooks = [m._forward_hooks or m._forward_pre_hooks for m in model.modules()]
    assert not any(hooks)


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
        ({"model": 3}, "expected a torch.nn.Module, found a int"),
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
