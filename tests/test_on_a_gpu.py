"""The whole product on a GPU where there is one; the same on the CPU, so that it stays runnable."""

import copy
import functools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isograd
from isograd.remedies import REMEDIES, Plan, Remedy
from isograd.remedies._examples import classes, plain
from isograd.sites import batches
from isograd.sites.batches import beside
from patients.ill import stack

WHERE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Batch = tuple[Tensor, Tensor]


def images() -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(32, 3, 16, 16, generator=generator)
    return x, torch.arange(32) % 10


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1),
        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def sent(batch: Batch) -> Batch:
    x, y = batch
    return x.to(WHERE), y.to(WHERE)


def state() -> list[Tensor]:
    drawn = [torch.get_rng_state()]
    return drawn + (torch.cuda.get_rng_state_all() if WHERE.type == "cuda" else [])


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    "key", ["forward.rms", "forward.mean", "backward.rms", "weight.rms", "weight.grad_rms"]
)
def test_a_measurement_is_that_of_the_cpu(key: str) -> None:
    model = small().eval()  # dropout draws other numbers on another device
    here = isograd.measure(model, images())
    there = isograd.measure(copy.deepcopy(model).to(WHERE), images())  # as a loader yields them
    assert [s.name for s in here.sites] == [s.name for s in there.sites]
    compared = 0
    for index, site in enumerate(here.sites):
        a, b = here.value(key, index), there.value(key, index)
        assert (a is None) == (b is None), site.name
        if a is not None and b is not None:
            compared += 1
            assert b == pytest.approx(a, rel=2e-3, abs=1e-6), site.name
    assert compared


def test_a_check_leaves_model_and_random_numbers_as_found() -> None:
    model = small().to(WHERE)
    before, drawn = copy.deepcopy(model), state()
    found = isograd.check(model, sent(images()))
    assert same(before, model)
    assert all(map(torch.equal, drawn, state()))
    assert found.healthy
    ill = stack(20, nn.Sigmoid).to(WHERE)
    x = torch.randn(64, 64, device=WHERE)
    assert not isograd.check(ill, (x, torch.arange(64, device=WHERE) % 10)).healthy


def test_a_prediction_does_not_know_where_the_model_is() -> None:
    model, (x, _) = plain(6), classes()
    here = isograd.predict(model, x)
    there = isograd.predict(copy.deepcopy(model).to(WHERE), x.to(WHERE))
    for index in range(len(here.sites)):
        for key in ("forward.rms", "backward.rms"):
            assert there.value(key, index) == pytest.approx(here.value(key, index), rel=1e-5)


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda r: r.code)
def test_a_remedy_changes_the_model_where_it_is(remedy: Remedy) -> None:
    case = remedy.sick()
    model = case.model.to(WHERE)
    case = replace(case, model=model, batch=beside(case.batch, model))
    plan = remedy.plan(case)
    assert isinstance(plan, Plan)
    before = copy.deepcopy(model)
    change = plan.apply(model)
    if plan.code:
        changed = replace(case, model=change.model, loss=change.loss or case.loss)
        loss = isograd.measure(changed.model, changed.batch, changed.loss).fact("loss.value")
        assert loss is None or math.isfinite(float(loss))
    places = {t.device.type for t in (*change.model.parameters(), *change.model.buffers())}
    assert places <= {WHERE.type}
    change.undo()
    assert same(before, model)


def test_a_deep_network_is_repaired() -> None:
    torch.manual_seed(0)
    model = stack(10, nn.ReLU, width=48).to(WHERE)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(12 * 64, 64, generator=generator)
    y = (x @ torch.randn(64, 10, generator=generator)).argmax(1)
    batches = list(zip(x.split(64), y.split(64), strict=True))  # as a loader yields them
    drawn = state()
    done = isograd.repair(
        model,
        batches[0],
        optimizer=functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9),
        data=batches,
        budget=300,
    )
    assert all(map(torch.equal, drawn, state()))
    assert done.verdict == "repaired"
    assert {p.device.type for p in done.model.parameters()} == {WHERE.type}
    names = {"model": copy.deepcopy(model), "loss": None}
    torch.manual_seed(0)
    exec(done.remedies and done.code, names)


@pytest.mark.filterwarnings("ignore:TensorFloat32:UserWarning", "ignore:.*script_method:")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_watched_training_is_the_same(dtype: torch.dtype, compiled: bool, tmp_path: Path) -> None:
    if compiled and WHERE.type == "cpu":
        pytest.skip("compiled trainings on the CPU have tests of their own")

    def train(watched: bool) -> tuple[nn.Module, object]:
        torch.compiler.reset()
        model = small().to(WHERE)
        call = torch.compile(model) if compiled else model
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        scaler = torch.amp.GradScaler(WHERE.type, enabled=dtype == torch.float16)
        x, y = sent(images())
        torch.manual_seed(5)
        seen = None
        if watched:
            seen = isograd.watch(call, optimizer, every=3, run=tmp_path / "a.isograd").__enter__()
        for _ in range(30):
            optimizer.zero_grad()
            with torch.autocast(WHERE.type, dtype, enabled=dtype != torch.float32):
                loss = F.cross_entropy(call(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        if seen is not None:
            seen.__exit__(None, None, None)
        return model, seen

    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        bare, _ = train(False)
        model, seen = train(True)
    finally:
        torch.use_deterministic_algorithms(before)
    if compiled:  # a graph with taps is fused in another way, and rounds elsewhere
        pairs = zip(bare.parameters(), model.parameters(), strict=True)
        assert all(torch.allclose(a, b, rtol=0.05, atol=0.02) for a, b in pairs)
    else:
        assert same(bare, model)
    assert isinstance(seen, isograd.Watch)
    last = seen.diagnosis.reading.seen
    gradients = [last.value("weight.grad_rms", i) for i in last.weight_sites()]
    assert any(g is not None and 1e-7 < g < 10 for g in gradients)  # the loss scale is out


def test_a_nan_is_traced() -> None:
    model = small().to(WHERE)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    x, y = sent(images())
    with isograd.watch(model, optimizer, sinks=()) as seen:
        for step in range(12):
            if step == 8:
                with torch.no_grad():
                    model[4].weight[0, 0, 0, 0] = float("inf")  # type: ignore[index,operator,union-attr]
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert "4" in str(seen.explain_nan())


def test_the_command_line_takes_a_device(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from isograd.cli import main

    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef make():\n"
        "    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))\n"
    )
    x, y = torch.randn(16, 8), torch.arange(16) % 4
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    target = f"{tmp_path / 'nets.py'}:make"
    with pytest.raises(SystemExit) as end:
        main(["check", target, "--data", str(tmp_path / "data.npz"), "--device", WHERE.type])
    assert end.value.code in (0, 1), capsys.readouterr().err


def test_a_batch_goes_where_the_model_is() -> None:
    """Whatever it is made of; to a device that every machine has."""
    pair = nn.utils.rnn.pack_sequence([torch.ones(3, 2), torch.ones(1, 2)])
    batch = {"x": torch.ones(2), "more": (torch.ones(1), [torch.ones(3), "name"]), "packed": pair}
    meta = torch.device("meta")
    there = batches.sent(batch, meta)
    assert there["x"].device == there["more"][1][0].device == there["packed"].data.device == meta
    assert (there["more"][1][1], batch["x"].device.type) == ("name", "cpu")
    assert beside(batch, nn.Linear(2, 2)) is batch
