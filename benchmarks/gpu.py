"""Watching on a GPU: how fast a tensor is read, what GPT-2's training pays, and who waits for whom.

    python benchmarks/gpu.py [--device cuda] [--write]      # on a GPU
    python benchmarks/gpu.py --device cpu --tiny            # the same program, small, anywhere

Three parts. The bandwidth of one pass over 1 GiB of bfloat16, against that with which the device
copies (the read half of it). The time of training steps of GPT-2 small in bfloat16, eager and
compiled, watched over bare, in interleaved pairs (medians). And the calls that wait for the device
in steps that are not looked at, as the profiler counts them, beside those of a bare step.
"""

import argparse
import datetime
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

import isograd
from isograd.statistics import Place, Table

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "aten::item")


class Clock:
    """Seconds on a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def time(self, action: Callable[[], Any], times: int = 1) -> float:
        self.wait()
        start = time.perf_counter()
        for _ in range(times):
            action()
        self.wait()
        return (time.perf_counter() - start) / times


def bandwidth(clock: Clock, tiny: bool) -> dict[str, float]:
    """GB/s of one statistics pass, of `sum`, and of the read half of a copy."""
    entries = 1 << (20 if tiny else 29)
    x = torch.randn(entries, device=clock.device).bfloat16()
    y = torch.empty_like(x)
    table = Table([Place()], clock.device)
    found = {}
    for name, action in (
        ("copy, read half", lambda: y.copy_(x)),
        ("torch.sum", lambda: x.sum()),
        (f"pass, {table.backend.code}", lambda: table.read(0, x)),
    ):
        for _ in range(3):
            action()
        seconds = statistics.median(clock.time(action) for _ in range(11))
        found[name] = x.nbytes / seconds / 1e9
    return found


def gpt2(device: torch.device, tiny: bool) -> tuple[nn.Module, torch.Tensor]:
    from transformers import GPT2Config, GPT2LMHeadModel

    size = {"n_layer": 2, "n_head": 2, "n_embd": 32, "vocab_size": 100} if tiny else {}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**size, use_cache=False)).to(device)
    shape = (2, 16) if tiny else (8, 1024)
    return model, torch.randint(model.config.vocab_size, shape, device=device)


class Training:
    def __init__(self, device: torch.device, *, tiny: bool, compiled: bool) -> None:
        self.model, self.ids = gpt2(device, tiny)
        self.call = torch.compile(self.model) if compiled else self.model
        fused = device.type == "cuda"
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-4, fused=fused)

    def step(self) -> None:
        self.optimizer.zero_grad()
        with torch.autocast(self.ids.device.type, torch.bfloat16):
            loss = self.call(input_ids=self.ids, labels=self.ids).loss
        loss.backward()
        self.optimizer.step()


def costs(clock: Clock, *, tiny: bool, compiled: bool, pairs: int, warm: int) -> dict[str, float]:
    """Step time watched over bare: at every step, and by default."""
    found = {}
    for row, every in (("every step", 1), ("default", None)):
        bare = Training(clock.device, tiny=tiny, compiled=compiled)
        seen = Training(clock.device, tiny=tiny, compiled=compiled)
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            stack.enter_context(
                isograd.watch(
                    seen.call,
                    seen.optimizer,
                    every=every,
                    run=Path(folder) / "run.isograd",
                    on_finding=None,
                )
            )
            for one in (bare, seen):
                for _ in range(warm):
                    one.step()
            times = [(clock.time(seen.step, 4), clock.time(bare.step, 4)) for _ in range(pairs)]
        found[row] = statistics.median(watched / alone for watched, alone in times)
        found["ms a step, bare"] = 1e3 * statistics.median(alone for _, alone in times)
    return found


def waits(device: torch.device, *, tiny: bool) -> dict[str, int]:
    """Calls that wait for the device: in ten bare steps, in ten watched ones without a look."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    found = {}
    for row in ("bare", "not looked at"):
        training = Training(device, tiny=tiny, compiled=False)
        with ExitStack() as stack:
            if row != "bare":
                stack.enter_context(
                    isograd.watch(
                        training.call, training.optimizer, every=10_000, sinks=(), on_finding=None
                    )
                )
            for _ in range(20):  # the first look is over, and what it left behind is read
                training.step()
            with profile(activities=activities) as seen:
                for _ in range(10):
                    training.step()
        counts = {event.key: event.count for event in seen.key_averages()}
        found[row] = sum(counts.get(name, 0) for name in WAITS)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--warm", type=int, default=50)
    parser.add_argument("--write", action="store_true", help="into benchmarks/measured/gpu.json")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU here; --device cpu --tiny runs the same program, small")
    clock, tiny = Clock(device), options.tiny
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    found: dict[str, Any] = {"device": name, "date": datetime.date.today().isoformat()}
    found["torch"], found["tiny"] = str(torch.__version__), tiny
    found["GB/s"] = bandwidth(clock, tiny)
    for compiled in (False, True):
        key = "compiled" if compiled else "eager"
        found[key] = costs(
            clock, tiny=tiny, compiled=compiled, pairs=options.pairs, warm=options.warm
        )
    found["waits in ten steps"] = waits(device, tiny=tiny)
    print(json.dumps(found, indent=2))
    if options.write:
        path = Path(__file__).parent / "measured" / "gpu.json"
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
