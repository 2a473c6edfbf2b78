"""What measure() costs beside a bare forward and backward: CPU time, interleaved, one thread.

    python benchmarks/measure.py [--rounds 5]

Prints per model the medians of both and the median of the ratios of each pair. Needs transformers.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import isograd


def resnet18(samples: int = 8, size: int = 224) -> tuple[nn.Module, object]:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=64,
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        num_labels=1000,
    )
    pixels, labels = torch.randn(samples, 3, size, size), torch.randint(0, 1000, (samples,))
    batch = {"pixel_values": pixels, "labels": labels}
    return ResNetForImageClassification(config).train(), batch


def gpt2() -> tuple[nn.Module, object]:
    from transformers import GPT2Config, GPT2LMHeadModel

    ids = torch.randint(0, 50257, (2, 128))
    return GPT2LMHeadModel(GPT2Config()).train(), {"input_ids": ids, "labels": ids}


def mlp() -> tuple[nn.Module, object]:
    layers = [nn.Linear(784, 512), nn.ReLU()]
    for _ in range(18):
        layers += [nn.Linear(512, 512), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(512, 10))
    return model, (torch.randn(256, 784), torch.randint(0, 10, (256,)))


def seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def compare(model: nn.Module, batch: object, rounds: int) -> tuple[float, float, float]:
    def bare() -> None:
        if isinstance(batch, dict):
            loss = model(**batch).loss
        else:
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        model.zero_grad()

    def measured() -> None:
        isograd.measure(model, batch)

    bare(), measured()
    pairs = [(seconds(bare), seconds(measured)) for _ in range(rounds)]
    plain, probed = (statistics.median(column) for column in zip(*pairs, strict=True))
    return plain, probed, statistics.median(b / a for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| model | bare forward + backward, s | measure, s | ratio |")
    print("|---|---|---|---|")
    for name, make in (
        ("ResNet-18, 8 x 3 x 224 x 224", resnet18),
        ("ResNet-18, 32 x 3 x 32 x 32", lambda: resnet18(32, 32)),
        ("GPT-2 small (124 M), 2 x 128 tokens", gpt2),
        ("MLP 20 x 512, batch 256", mlp),
    ):
        plain, probed, ratio = compare(*make(), rounds)
        print(f"| {name} | {plain:.2f} | {probed:.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
