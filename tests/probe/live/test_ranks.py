"""Distributed trainings: numbers of the whole batch, and nobody ever waits for anybody."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

import isograd
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


WAYS = {"ddp": ddp, "fsdp": fsdp}


def worker(
    rank: int, world: int, way: str, every: int | None, case: str, folder: str, port: int
) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    call = WAYS[way](make(), world)
    optimizer = torch.optim.SGD(call.parameters(), 0.1)
    x, y = (t.chunk(world)[rank] for t in data())
    if case == "bare" or (case == "alone" and rank):
        loop(call, x, y, optimizer)
        records: list[Record] = []
    else:
        with isograd.watch(call, optimizer, every=every, sinks=(), on_finding=None) as watch:
            if case == "fault" and rank == 1:
                watch._desk.watcher._read.look = None  # type: ignore[assignment,method-assign]
            loop(call, x, y, optimizer)
        assert (watch.failure is not None) == (case == "fault" and rank == 1), watch.failure
        reading = watch.reading
        records = [] if reading is None else [reading.seen, *reading.history]
    weights = [t.full_tensor() if hasattr(t, "full_tensor") else t for t in call.parameters()]
    if rank == 0:
        torch.save((records, [w.detach().clone() for w in weights]), f"{folder}/out")
    dist.barrier()
    dist.destroy_process_group()


def run(
    tmp_path: Path, world: int, way: str, case: str = "", every: int | None = 2
) -> tuple[list[Record], list[Tensor]]:
    port = 29500 + (os.getpid() * 7 + world * 3 + len(case)) % 400
    context = mp.get_context("spawn")
    arguments = (world, way, every, case, str(tmp_path), port)
    processes = [context.Process(target=worker, args=(rank, *arguments)) for rank in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    found: tuple[list[Record], list[Tensor]] = torch.load(tmp_path / "out", weights_only=False)
    return found


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


@pytest.mark.parametrize(("world", "way"), [(2, "ddp"), (4, "ddp"), (2, "fsdp")])
def test_the_numbers_are_those_of_one_process(tmp_path: Path, world: int, way: str) -> None:
    records, _ = run(tmp_path, world, way)
    expected = alone()
    assert [r.step for r in records] == [r.step for r in expected]
    for one, other in zip(records, expected, strict=True):
        assert one.facts["loss.value"] == pytest.approx(other.facts["loss.value"], rel=1e-5)
        assert one.facts["batch.size"] == BATCH
        for key in MERGED:
            columns = [
                [float("nan") if n is None else n for n in r.series[key]] for r in (one, other)
            ]
            assert columns[0] == pytest.approx(columns[1], rel=1e-3, abs=1e-8, nan_ok=True), key
    assert records[-1].value("forward.dead", 3) == expected[-1].value("forward.dead", 3)


def test_two_hundred_bits_and_a_budget(tmp_path: Path) -> None:
    _, expected = run(tmp_path, 2, "ddp", "bare")
    records, weights = run(tmp_path, 2, "ddp", "budget", every=None)
    assert all(torch.equal(a, b) for a, b in zip(weights, expected, strict=True))
    assert [r.step for r in records][:2] == [0, 1]
    assert len(records) >= 3
    assert all(r.facts["batch.size"] == BATCH for r in records)


@pytest.mark.parametrize("case", ["alone", "fault"])
def test_nobody_waits_for_a_process_that_says_nothing(tmp_path: Path, case: str) -> None:
    _, expected = run(tmp_path, 2, "ddp", "bare")
    records, weights = run(tmp_path, 2, "ddp", case)
    assert all(torch.equal(a, b) for a, b in zip(weights, expected, strict=True))
    assert [r.step for r in records] == list(range(0, STEPS, 2))
    assert all(r.facts["watch.absent"] == [1] for r in records)
    assert all(r.facts["batch.size"] == BATCH // 2 for r in records)
