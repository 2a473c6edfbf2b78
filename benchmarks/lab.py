"""How much faster networks train together than one after another.

python benchmarks/lab.py
"""

import argparse
import copy
import statistics
import time

import torch
from torch import nn

from isograd.lab.fleet import Fleet
from isograd.lab.networks import mlp

PLAIN = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
}


def one_after_another(nets: list[nn.Module], x: torch.Tensor, y: torch.Tensor, kind: str) -> None:
    """The loop that everybody writes, with torch's optimizers as they come."""
    for net in nets:
        optimizer = PLAIN[kind](net.parameters())
        for inputs, labels in zip(x, y, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), labels).backward()
            optimizer.step()


def together(nets: list[nn.Module], x: torch.Tensor, y: torch.Tensor, kind: str) -> None:
    """The same as one fleet."""
    fleet = Fleet(nets, lr=0.01, optimizer=kind)
    for inputs, labels in zip(x, y, strict=True):
        fleet.step(inputs, labels)


def main() -> None:
    """Prints CPU times of interleaved pairs, one thread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=32)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    nets: list[nn.Module] = [
        mlp(given.width, given.width, given.depth, 10, seed=s) for s in range(given.networks)
    ]
    print(f"{given.networks} networks of {given.depth} x {given.width}, {given.steps} steps, CPU s")
    print("optimizer  batch  one by one  together  ratio")
    for kind in ("sgd", "adam"):
        for batch in (16, 32, 64, 128):
            x = torch.randn(given.steps, batch, given.width)
            y = torch.randint(10, (given.steps, batch))
            together(nets, x[:2], y[:2], kind)
            pairs = []
            for _ in range(given.pairs):
                start = time.process_time()
                one_after_another(copy.deepcopy(nets), x, y, kind)
                middle = time.process_time()
                together(nets, x, y, kind)
                pairs.append((middle - start, time.process_time() - middle))
            apart, joined = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"{kind:9}  {batch:5}  {apart:10.2f}  {joined:8.2f}  {ratio:5.1f}", flush=True)


if __name__ == "__main__":
    main()
