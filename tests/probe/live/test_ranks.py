"""Distributed trainings: numbers of the whole batch, and nobody ever waits for anybody."""

import math
import os
import socket
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

import isograd
from isograd.findings import Alarm
from isograd.probe.live import ranks
from isograd.records import Record

BATCH, STEPS = 32, 12


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, 8, generator=generator)
    return x, torch.randint(4, (BATCH,), generator=generator)


def make() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)
    )


def loop(call: Callable[..., Tensor], x: Tensor, y: Tensor, optimizer: Any) -> None:
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(call(x), y).backward()
        optimizer.step()


def ddp(model: nn.Sequential, _: int) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model)


def fsdp(model: nn.Sequential, world: int) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (world,))
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def tensor_parallel(model: nn.Sequential, world: int) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    mesh = init_device_mesh("cpu", (world,))
    return parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


WAYS = {"ddp": ddp, "fsdp": fsdp, "tensor": tensor_parallel}


@dataclass(frozen=True)
class Case:
    """One training of several processes."""

    name: str
    way: str = "ddp"
    every: int | None = 2


CASES = {
    2: (
        Case("numbers"),
        Case("sharded", "fsdp"),
        Case("bare"),
        Case("budget", every=None),
        Case("tensor", "tensor"),
        Case("raise"),
        Case("stop"),
        Case("function"),
        Case("fault"),
        Case("alone"),
        Case("again", every=None),
    ),
    4: (Case("numbers"),),
}

Found = tuple[list[Record], list[Tensor]]


class Enough(Exception):
    """What a function of the user raises."""


def enough(alarm: Alarm) -> None:
    raise Enough(alarm.finding.code)


ENDS = {"raise": "raise", "stop": "stop", "function": enough}


def ended(on_finding: Any, world: int) -> tuple[int, str]:
    """Steps after which a loop that goes wrong ends in this process, and by what."""
    torch.manual_seed(0)
    layers = [m for _ in range(12) for m in (nn.Linear(8, 8), nn.Sigmoid())]
    call = ddp(nn.Sequential(*layers, nn.Linear(8, 4)), world)
    optimizer, (x, y) = torch.optim.SGD(call.parameters(), 0.1), data()
    watch = isograd.watch(call, optimizer, every=2, sinks=(), on_finding=on_finding)
    try:
        with watch:
            for _ in range(200):
                optimizer.zero_grad()
                F.cross_entropy(call(x), y).backward()
                optimizer.step()
    except Exception as error:
        return watch.step, type(error).__name__
    return watch.step, ""


def train(case: Case, rank: int, world: int) -> Found:
    call = WAYS[case.way](make(), world)
    optimizer = torch.optim.SGD(call.parameters(), 0.1)
    x, y = data() if case.way == "tensor" else (t.chunk(world)[rank] for t in data())
    records: list[Record] = []
    if case.name == "bare" or (case.name == "alone" and rank):
        loop(call, x, y, optimizer)
    else:
        broken = case.name == "fault" and rank == 1
        with isograd.watch(call, optimizer, every=case.every, sinks=(), on_finding=None) as watch:
            if broken:
                watch._desk.watcher._read.look = None  # type: ignore[assignment,method-assign]
            loop(call, x, y, optimizer)
        assert (watch.failure is not None) == broken, watch.failure
        if watch.reading is not None:
            records = [watch.reading.seen, *watch.reading.history]
    weights = [t.full_tensor() if hasattr(t, "full_tensor") else t for t in call.parameters()]
    return records, [w.detach().clone() for w in weights]


def worker(rank: int, world: int, folder: str, port: int) -> None:
    torch.set_num_threads(1)
    ranks.PATIENCE = 1.0
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {}
        for case in CASES[world]:
            if case.name in ENDS:
                found[case.name] = ended(ENDS[case.name], world)
            else:
                found[case.name] = train(case, rank, world)
            dist.barrier()
    torch.save(found, f"{folder}/out{rank}")
    dist.barrier()
    dist.destroy_process_group()


def results(world: int) -> list[dict[str, Any]]:
    """Every case of so many processes, in one start of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=worker, args=(rank, world, folder, port))
            for rank in range(world)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=200)
            assert process.exitcode == 0
        return [torch.load(f"{folder}/out{rank}", weights_only=False) for rank in range(world)]


def alone() -> list[Record]:
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with isograd.watch(model, optimizer, every=2, sinks=(), on_finding=None) as watch:
        loop(model, *data(), optimizer)
    assert watch.reading is not None
    return [watch.reading.seen, *watch.reading.history]


MERGED = """
    forward.count forward.rms forward.abs_mean forward.min forward.max forward.zero forward.positive
    backward.count backward.rms backward.abs_mean backward.min backward.max
    weight.rms weight.grad_rms weight.update_ratio weight.nonfinite
""".split()


def numbers_are_those_of_one_process(found: Found) -> None:
    records, expected = found[0], alone()
    assert [r.step for r in records] == [r.step for r in expected]
    for one, other in zip(records, expected, strict=True):
        assert one.facts["loss.value"] == pytest.approx(other.facts["loss.value"], rel=1e-5)
        assert one.facts["batch.size"] == BATCH
        for key in MERGED:
            columns = [[math.nan if n is None else n for n in r.series[key]] for r in (one, other)]
            assert columns[0] == pytest.approx(columns[1], rel=1e-3, abs=1e-8, nan_ok=True), key
    assert records[-1].value("forward.dead", 3) == expected[-1].value("forward.dead", 3)


# One test for each number of processes: to start them takes most of the time.


def test_two_processes() -> None:
    found, other = results(2)
    for name in ("numbers", "sharded", "tensor"):
        numbers_are_those_of_one_process(found[name])
    _, expected = found["bare"]
    for name in ("numbers", "budget", "alone", "fault"):
        _, weights = found[name]
        assert all(torch.equal(a, b) for a, b in zip(weights, expected, strict=True)), name
    # Rank 0 decides when all of them look.
    records, _ = found["budget"]
    assert [r.step for r in records][:2] == [0, 1]
    assert len(records) >= 3
    assert all(r.facts["batch.size"] == BATCH for r in records)
    # Also after a training that one of them did not watch.
    records, _ = found["again"]
    assert len(records) >= 3
    assert all("watch.absent" not in r.facts for r in records)
    assert all(r.facts["batch.size"] == BATCH for r in records)
    # Nobody waits for a process that says nothing.
    for name in ("alone", "fault"):
        records, _ = found[name]
        assert [r.step for r in records] == list(range(0, STEPS, 2))
        assert all(r.facts["watch.absent"] == [1] for r in records)
        assert all(r.facts["batch.size"] == BATCH // 2 for r in records)
    # A finding that ends the loop ends it everywhere, after the same step.
    for name, errors in (
        ("raise", ("UntrainableError", "UntrainableError")),
        ("stop", ("", "")),
        ("function", ("Enough", "UntrainableError")),
    ):
        assert found[name][0] == other[name][0] < 20, name
        assert (found[name][1], other[name][1]) == errors


def test_four_processes() -> None:
    numbers_are_those_of_one_process(results(4)[0]["numbers"])
