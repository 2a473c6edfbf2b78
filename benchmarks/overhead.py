"""What watching costs: CPU time of training steps, watched over bare, in interleaved pairs.

    python benchmarks/overhead.py [--models mlp,resnet20,transformer] [--rows …] [--pairs 15]

Every row trains its own copy of the model; a pair is one block of steps bare and one block of the
row, next to each other in time. The median over pairs of the ratio of CPU times counts.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import isograd


class Residual(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU()
        self.skip = (
            nn.Identity()
            if inside == outside
            else nn.Sequential(nn.Conv2d(inside, outside, 1, stride), nn.BatchNorm2d(outside))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(self.skip(x) + y)


def mlp() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    layers: list[nn.Module] = []
    for _ in range(20):
        layers += [nn.Linear(512, 512), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(512, 10))
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model, torch.randn(256, 512), torch.randint(10, (256,))


def resnet20() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU()]
    inside = 16
    for width, stride in ((16, 1), (32, 2), (64, 2)):
        for block in range(3):
            layers.append(Residual(inside, width, stride if block == 0 else 1))
            inside = width
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return model, torch.randn(64, 3, 32, 32), torch.randint(10, (64,))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, 256)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True, norm_first=True)
            for _ in range(6)
        )
        self.head = nn.Linear(256, 1000)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x).flatten(0, 1)


def transformer() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    return Transformer(), torch.randint(1000, (16, 128)), torch.randint(1000, (16 * 128,))


MODELS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor, torch.Tensor]]] = {
    "mlp": mlp,
    "resnet20": resnet20,
    "transformer": transformer,
}

Step = Callable[[], None]


class Training:
    """One copy of a model under training."""

    def __init__(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
        self.model = copy.deepcopy(model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 1e-3, momentum=0.9)
        self.x, self.y = x, y

    def step(self) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(self.x), self.y).backward()
        self.optimizer.step()


@contextmanager
def bare(one: Training, folder: Path) -> Iterator[Step]:
    yield one.step


@contextmanager
def no_op_hooks(one: Training, folder: Path) -> Iterator[Step]:
    """A forward hook and a tensor hook per module that do nothing: the floor of any hooks."""

    def hook(module: nn.Module, args: Any, out: Any) -> None:
        if isinstance(out, torch.Tensor) and out.requires_grad:
            out.register_hook(lambda gradient: None)

    handles = [m.register_forward_hook(hook) for m in one.model.modules() if not list(m.children())]
    yield one.step
    for handle in handles:
        handle.remove()


@contextmanager
def every_step(one: Training, folder: Path) -> Iterator[Step]:
    with isograd.watch(
        one.model, one.optimizer, run=folder / "every.isograd", every=1, on_finding=None
    ):
        yield one.step


@contextmanager
def default(one: Training, folder: Path) -> Iterator[Step]:
    with isograd.watch(one.model, one.optimizer, run=folder / "default.isograd", on_finding=None):
        yield one.step


@contextmanager
def wandb_watch(one: Training, folder: Path) -> Iterator[Step]:
    import wandb

    run = wandb.init(mode="offline", dir=folder, settings=wandb.Settings(silent=True))
    run.watch(one.model, log="all", log_freq=1)

    def step() -> None:
        one.step()
        run.log({})

    yield step
    run.finish()


@contextmanager
def tensorboard(one: Training, folder: Path) -> Iterator[Step]:
    from torch.utils.tensorboard import SummaryWriter

    writer, count = SummaryWriter(folder / "tensorboard"), 0
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            if isinstance(out, torch.Tensor):
                outputs[name] = out.detach()

        return hook

    handles = [
        m.register_forward_hook(keep(n))
        for n, m in one.model.named_modules()
        if not list(m.children())
    ]

    def step() -> None:
        nonlocal count
        one.step()
        for name, parameter in one.model.named_parameters():
            writer.add_histogram(f"weights/{name}", parameter.detach(), count)
            if parameter.grad is not None:
                writer.add_histogram(f"gradients/{name}", parameter.grad, count)
        for name, out in outputs.items():
            writer.add_histogram(f"outputs/{name}", out, count)
        count += 1

    yield step
    for handle in handles:
        handle.remove()
    writer.close()


@contextmanager
def anomaly(one: Training, folder: Path) -> Iterator[Step]:
    def step() -> None:
        with torch.autograd.set_detect_anomaly(True, check_nan=True):
            one.step()

    yield step


@contextmanager
def underflow(one: Training, folder: Path) -> Iterator[Step]:
    from transformers.debug_utils import DebugUnderflowOverflow

    DebugUnderflowOverflow(one.model, max_frames_to_save=100)
    yield one.step


@contextmanager
def delve(one: Training, folder: Path) -> Iterator[Step]:
    from delve import SaturationTracker  # type: ignore[import-not-found]

    tracker = SaturationTracker(
        str(folder / "delve"), save_to="csv", modules=one.model, device="cpu"
    )

    def step() -> None:
        one.step()
        tracker.add_saturations()

    yield step
    tracker.close()


ROWS: dict[str, Any] = {
    "no-op hooks": no_op_hooks,
    "isograd every step": every_step,
    "isograd default": default,
    "wandb.watch": wandb_watch,
    "TensorBoard histograms": tensorboard,
    "anomaly mode": anomaly,
    "HF underflow debugging": underflow,
    "delve": delve,
}


def compare(name: str, rows: list[str], pairs: int, steps: int, warm: int) -> None:
    torch.manual_seed(0)
    model, x, y = MODELS[name]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        taken: dict[str, Step] = {}
        plain = stack.enter_context(bare(Training(model, x, y), folder))
        for row in rows:
            try:
                taken[row] = stack.enter_context(ROWS[row](Training(model, x, y), folder))
            except ImportError as error:
                print(f"{name:12} {row:24} not installed ({error.name})")
        for step in (plain, *taken.values()):
            for _ in range(warm):
                step()
        ratios: dict[str, list[float]] = {row: [] for row in taken}
        seconds = []
        for pair in range(pairs):
            for row, step in taken.items():
                order = (plain, step) if pair % 2 else (step, plain)
                spent = {}
                for one in order:
                    start = time.process_time()
                    for _ in range(steps):
                        one()
                    spent[one] = time.process_time() - start
                ratios[row].append(spent[step] / spent[plain])
                seconds.append(spent[plain] / steps)
        for row, found in ratios.items():
            low, _, high = statistics.quantiles(found, n=4)
            print(
                f"{name:12} {row:24} {statistics.median(found):6.3f}  "
                f"[{low:.3f}, {high:.3f}]  bare step {statistics.median(seconds) * 1e3:.1f} ms",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--warm", type=int, default=40, help="steps before anything counts")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("WANDB_SILENT", "true")
    torch.set_num_threads(1)
    for name in options.models.split(","):
        compare(name, options.rows.split(","), options.pairs, options.steps, options.warm)


if __name__ == "__main__":
    main()
