"""What a prediction costs: CPU time of construction and prediction on one thread, and memory.

    python benchmarks/prediction_speed.py [NAME ...] [--runs 3]

Every run is a process of its own, so that nothing is at hand; imports are not counted. The fastest
run is held against the limit: load only adds. Memory is the peak of the process beyond what it
holds once torch and the model's classes are imported. Returns 1 if a limit is exceeded.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


@dataclass(frozen=True)
class Case:
    """One thing to predict. `prepare` imports, and returns what is timed."""

    what: str
    prepare: Callable[[], Callable[[], Any]]
    seconds: float
    """Largest CPU time."""
    megabytes: float | None = None
    """Largest growth of the process."""


def gpt2() -> Callable[[], Any]:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    ids = torch.randint(50257, (4, 128))
    return recorded(lambda: GPT2LMHeadModel(GPT2Config(use_cache=False)), {"input_ids": ids})


def llama70b() -> Callable[[], Any]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32000, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
        num_attention_heads=64, num_key_value_heads=8, use_cache=False,
    )  # fmt: skip
    ids = torch.randint(32000, (1, 128))
    return recorded(lambda: LlamaForCausalLM(config), {"input_ids": ids})


def resnet50() -> Callable[[], Any]:
    import torch

    from patients.architectures.resnets import resnet50

    return recorded(resnet50, torch.randn(8, 3, 64, 64))


def depths() -> Callable[[], Any]:
    """20 depths of a plain stack, from 5 to 100 layers."""
    import torch
    from torch import nn

    from isograd.prediction.ops import by_function
    from isograd.prediction.sweeping import sweep

    by_function()  # imports the rules

    def stack(layers: int) -> nn.Sequential:
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts += [nn.Linear(512, 512), nn.ReLU()]
        return nn.Sequential(*parts)

    batch = torch.randn(16, 512)
    return lambda: sweep(stack, batch, "layers", range(5, 101, 5))


def recorded(build: Callable[[], Any], batch: Any) -> Callable[[], Any]:
    """Builds without memory and predicts."""
    from isograd import predict, recording
    from isograd.prediction.ops import by_function

    by_function()  # imports the rules

    def task() -> Any:
        with recording():
            model = build()
        return predict(model, batch)

    return task


CASES = {
    "gpt2": Case("GPT-2 small on meta, 4 x 128 tokens", gpt2, 0.6),
    "llama-70b": Case("Llama-70B on meta, 1 x 128 tokens", llama70b, 3.0, 300),
    "resnet50": Case("ResNet-50 on meta, 8 x 3 x 64 x 64", resnet50, 0.5),
    "depths": Case("a plain stack at 20 depths, 5 to 100 layers", depths, 0.2),
}


def peak_megabytes() -> float:
    """Largest memory that this process ever held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def run_once(name: str) -> None:
    """Prints CPU seconds and growth in MB, as JSON: what a process of its own does."""
    import torch

    torch.set_num_threads(1)
    task = CASES[name].prepare()
    torch.randn(8, 8) @ torch.randn(8, 8)  # the first product loads its library
    before, began = peak_megabytes(), time.process_time()
    task()
    print(json.dumps([time.process_time() - began, peak_megabytes() - before]))


def measured(name: str, runs: int) -> tuple[float, float, float]:
    """Fastest and slowest CPU time, and the largest growth, of several processes."""
    command = [sys.executable, __file__, "--once", name]
    results = [json.loads(subprocess.check_output(command)) for _ in range(runs)]
    seconds, megabytes = zip(*results, strict=True)
    return min(seconds), max(seconds), max(megabytes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--once", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        run_once(options.once)
        return 0
    if unknown := set(options.names) - set(CASES):
        parser.error(f"no case is called {', '.join(sorted(unknown))}; see --help")
    print("| prediction | CPU s, fastest | slowest | limit | MB grown | limit | holds |")
    print("|---|---|---|---|---|---|---|")
    late = 0
    for name in options.names or CASES:
        case = CASES[name]
        fastest, slowest, grown = measured(name, options.runs)
        limit = "" if case.megabytes is None else f"{case.megabytes:.0f}"
        held = fastest <= case.seconds and grown <= (case.megabytes or float("inf"))
        late += not held
        cells = f"{fastest:.2f} | {slowest:.2f} | {case.seconds} | {grown:.0f} | {limit}"
        print(f"| {case.what} | {cells} | {'yes' if held else 'no'} |", flush=True)
    return int(late > 0)


if __name__ == "__main__":
    sys.exit(main())
