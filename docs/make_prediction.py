"""Computes the tables of docs/prediction.md again and draws its figures.

python docs/make_prediction.py [--figures-only]

Needs the measured tables of benchmarks/measured and the architectures of tests/patients.
"""

import argparse
import math
import re
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

PAGE = Path(__file__).with_name("prediction.md")
IMAGES = Path(__file__).with_name("images") / "prediction"
MARKED = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
NAMED = (
    "mlp30-relu-default mlp30-relu-he mlp30-tanh-default mlp30-tanh-he mlp30-gelu-default "
    "mlp30-gelu-he mlp30-sigmoid-default mlp30-sigmoid-he vgg16 vgg16bn resnet18 resnet50 "
    "densenet121 mobilenetv2 efficientnet-b0 convnext-t vit-b16-head.02 encoder12-prenorm-fresh "
    "encoder12-prenorm-copied encoder12-postnorm-fresh encoder12-postnorm-copied gpt2 bert llama8 "
    "t5-small rnn50 lstm50 gru50"
).split()
SHOWN = {"gpt2": "GPT-2", "resnet50": "ResNet-50", "encoder12-postnorm-copied": "12 copied layers"}
BLUE, ORANGE = "#0072B2", "#D55E00"


@dataclass(frozen=True)
class Row:
    """One architecture: relative errors of rms over its layers, sorted, and CPU seconds."""

    name: str
    sites: int
    forward: list[float]
    backward: list[float]
    weight: list[float]
    seconds: float
    predictable: bool

    @staticmethod
    def at(errors: list[float], share: float) -> float:
        """The error that a share of the layers stays below."""
        return errors[min(len(errors) - 1, int(share * len(errors)))] if errors else math.nan


def judged(name: str) -> Row:
    """Predicts one architecture and compares it with its measured table."""
    from isograd.prediction.predicting import predict
    from patients.architectures.table import FAMILIES
    from prediction_measuring import load

    family, table = FAMILIES[name], load(name)
    began = time.process_time()
    record = predict(family.build, family.batch(0), loss=family.loss)
    seconds = time.process_time() - began
    places = {site.name: index for index, site in enumerate(record.sites)}
    weights = {parameter.name: index for index, parameter in enumerate(record.parameters)}

    def errors(rows: Any, key: str, where: dict[str, int]) -> list[float]:
        found = []
        for row in rows:
            side = "gradient" if "weight" in key else key.partition(".")[0]
            measured = getattr(row, side).rms
            guess = record.value(key, where[row.name]) if row.name in where else None
            if measured and guess:
                found.append(abs(guess / measured - 1))
        return sorted(found)

    modules = [row for row in table.sites if row.is_module]
    heavy = [row for row in table.parameters if row.is_weight]
    return Row(
        name,
        len(modules),
        errors(modules, "forward.rms", places),
        errors(modules, "backward.rms", places),
        errors(heavy, "weight.grad_rms", weights),
        seconds,
        bool(record.fact("prediction.predictable", True)),
    )


def table(names: list[str]) -> str:
    """Accuracy per architecture, as Markdown."""
    lines = [
        "| architecture | layers | forward | backward | weight gradient | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        row = judged(name)
        cells = [
            f"{100 * row.at(side, 0.5):.1f} / {100 * row.at(side, 0.9):.1f} %"
            if row.predictable
            else "not predictable"
            for side in (row.forward, row.backward, row.weight)
        ]
        lines.append(f"| {name} | {row.sites} | {' | '.join(cells)} | {row.seconds:.1f} |")
    return "\n".join(lines) + "\n"


def others() -> list[str]:
    """Every measured architecture that no rule was developed on."""
    from patients.architectures.table import FAMILIES

    found = sorted(path.stem for path in (ROOT / "benchmarks" / "measured").glob("*.json"))
    return [
        name for name in found if name in FAMILIES and name not in NAMED and FAMILIES[name].held_out
    ]


def spread() -> str:
    """Shares of all other architectures within given errors."""
    forward: list[float] = []
    backward: list[float] = []
    refused: list[str] = []
    for name in others():
        try:
            row = judged(name)
        except Exception as error:
            refused.append(f"{name} ({str(error).splitlines()[0][:60]})")
            continue
        if row.predictable:
            forward.append(row.at(row.forward, 0.5))
            backward.append(row.at(row.backward, 0.5))
        else:
            refused.append(f"{name} (not predictable)")

    def within(errors: list[float], limit: float) -> str:
        good = sum(error <= limit for error in errors)
        return f"{good} of {len(errors)}"

    return (
        f"Median error over the layers, forward: at most 1 % in {within(forward, 0.01)} "
        f"architectures, at most 5 % in {within(forward, 0.05)}. Backward: at most 5 % in "
        f"{within(backward, 0.05)}, at most 20 % in {within(backward, 0.2)}. "
        f"Refused or called unpredictable: {len(refused)}.\n"
    )


def depth_figure(path: Path) -> None:
    """Measured and predicted rms by layer, three architectures."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from isograd.prediction.predicting import predict
    from patients.architectures.table import FAMILIES
    from prediction_measuring import load

    style = {"font.size": 12, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):
        figure, planes = plt.subplots(2, 3, figsize=(13, 6.4), sharex="col", layout="constrained")
        for column, (name, title) in enumerate(SHOWN.items()):
            family, measured = FAMILIES[name], load(name)
            record = predict(family.build, family.batch(0), loss=family.loss)
            places = {site.name: index for index, site in enumerate(record.sites)}
            rows = [row for row in measured.sites if row.is_module and row.name in places]
            for plane, side in zip(planes[:, column], ("forward", "backward"), strict=True):
                x = [record.sites[places[row.name]].depth for row in rows]
                seen = [getattr(row, side).rms for row in rows]
                at = [places[row.name] for row in rows]
                guess = [record.value(f"{side}.rms", i) for i in at]
                band = [record.value(f"{side}.band", i) or 0.0 for i in at]
                low = [g * math.exp(-2 * b) for g, b in zip(guess, band, strict=True)]
                high = [g * math.exp(2 * b) for g, b in zip(guess, band, strict=True)]
                plane.vlines(x, low, high, color=BLUE, alpha=0.35, linewidth=4)
                plane.plot(x, guess, "_", color=BLUE, markersize=7, markeredgewidth=2)
                plane.plot(x, seen, ".", color=ORANGE, markersize=5)
                plane.set_yscale("log")
            planes[0, column].set_title(title)
            planes[1, column].set_xlabel("depth (weight layers)")
        planes[0, 0].set_ylabel("rms of outputs")
        planes[1, 0].set_ylabel("rms of gradients")
        planes[0, 0].plot([], [], "_", color=BLUE, markeredgewidth=3, label="predicted, ±2 bands")
        planes[0, 0].plot([], [], ".", color=ORANGE, label="measured")
        planes[0, 0].legend(frameon=False, fontsize=10)
        figure.suptitle("Predicted from the architecture alone, and measured", fontsize=14)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)
        plt.close(figure)


def width_figure(path: Path) -> None:
    """How far single draws are from the prediction, by width."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from torch import nn

    import isograd
    from isograd.prediction.predicting import predict

    def stack(width: int) -> nn.Sequential:
        parts: list[nn.Module] = []
        for _ in range(10):
            layer = nn.Linear(width, width)
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
            parts += [layer, nn.ReLU()]
        return nn.Sequential(*parts)

    widths, draws = [32, 64, 128, 256, 512, 1024], 24
    bands: dict[str, list[float]] = {"forward": [], "backward": []}
    spreads: dict[str, list[float]] = {"forward": [], "backward": []}
    for width in widths:
        batch = torch.randn(16, width, generator=torch.Generator().manual_seed(1))
        guess = predict(lambda n=width: stack(n), batch)
        last = len(guess.sites) - 2
        logs: dict[str, list[float]] = {"forward": [], "backward": []}
        for seed in range(draws):
            torch.manual_seed(seed)
            seen = isograd.measure(stack(width), batch, seed=seed)
            for side, at in (("forward", last), ("backward", 0)):
                ratio = (seen.value(f"{side}.rms", at) or 1) / (guess.value(f"{side}.rms", at) or 1)
                logs[side].append(math.log(ratio) ** 2)
        for side, at in (("forward", last), ("backward", 0)):
            bands[side].append(guess.value(f"{side}.band", at) or 0.0)
            spreads[side].append(math.sqrt(sum(logs[side]) / draws))
    style = {"font.size": 12, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):
        figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
        for side, color in (("forward", BLUE), ("backward", ORANGE)):
            axes.loglog(widths, bands[side], color=color, linewidth=2.2, label=f"{side}: band")
            axes.loglog(widths, spreads[side], "o", color=color, label=f"{side}: {draws} draws")
        axes.set_xlabel("width")
        axes.set_ylabel("deviation of ln rms")
        axes.set_title("The band is what single draws of the weights differ by\n(10 ReLU layers)")
        axes.legend(frameon=False)
        figure.savefig(path, dpi=130)
        plt.close(figure)


def filled(text: str, parts: dict[str, str]) -> str:
    """The page with its marked parts replaced."""
    return MARKED.sub(lambda m: m[1] + parts.get(m[2], "") + m[3], text)


def main() -> None:
    """Draws the figures, and fills the tables of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures-only", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    depth_figure(IMAGES / "depth.png")
    width_figure(IMAGES / "width.png")
    if not options.figures_only:
        parts = {"accuracy": table(NAMED), "others": spread()}
        PAGE.write_text(filled(PAGE.read_text(), parts))


if __name__ == "__main__":
    main()
