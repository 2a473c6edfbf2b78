"""Trains plain and residual networks that are too deep, as they are and after one remedy each.

    ISOGRAD_DATA=... python benchmarks/depth.py [--data mnist] [--seeds 3] [--only plain] [--write]

Every network is trained from three seeds on the same batches with Adam at 1e-3 and no tuning (200
layers at 1e-4: a step changes the whole in proportion to the number of layers); what is told is the
accuracy on 2,000 test images, mean and standard deviation over the seeds. Beside the remedies
stand torch's default, `calculate_gain` (with ReLU's for GELU, for which torch has none),
`torch.nn.init.orthogonal_` with that gain, and the `lsuv` package (0.3.0), where it is installed.
--write puts the numbers into benchmarks/measured/depth.json, the tables into docs/depth.md and the
figure into docs/images/depth.svg.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from textwrap import fill
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from isograd import remedies
from isograd.errors import RemedyError
from isograd.lab.fleet import train
from isograd.lab.images import Images, load

HERE = Path(__file__).parent
STORED = HERE / "measured" / "depth.json"
PAGE = HERE.parent / "docs" / "depth.md"
FIGURE = HERE.parent / "docs" / "images" / "depth.svg"

Batch = tuple[torch.Tensor, torch.Tensor]
Treatment = Callable[[nn.Module, Batch, int], nn.Module]
WIDTH, BATCH, STEPS, LEAST = 64, 64, 300, 0.5
"""LEAST: accuracy from which a network counts as trained; chance is 0.1."""

RATES = {"plain": 1e-3, "residual": 1e-3, "very deep": 1e-4}
"""By kind. At 1e-3, none of the treatments trains 200 layers."""

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "sigmoid": nn.Sigmoid}


def plain(act: str, depth: int) -> nn.Module:
    sizes = [784, *[WIDTH] * depth]
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), ACTIVATIONS[act]()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.act = (
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(),
        )
        for layer in (self.first, self.last):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.last(self.act(self.first(self.act(x))))
        return out


def residual(depth: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(784, WIDTH), *[Block() for _ in range(depth)], nn.ReLU(), nn.Linear(WIDTH, 10)
    )


def by_torch(act: str, *, orthogonal: bool) -> Treatment:
    gain = nn.init.calculate_gain("relu" if act == "gelu" else act)

    def treat(model: nn.Module, _: Batch, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                if orthogonal:
                    nn.init.orthogonal_(layer.weight, gain)
                else:
                    nn.init.normal_(layer.weight, std=gain / layer.in_features**0.5)
                nn.init.zeros_(layer.bias)
        return model

    return treat


def by_lsuv(model: nn.Module, batch: Batch, seed: int) -> nn.Module:
    from lsuv.lsuvinit import LSUVinit

    torch.manual_seed(seed)
    treated: nn.Module = LSUVinit(model, batch[0], verbose=False)
    return treated


def by(code: str, **settings: Any) -> Treatment:
    def treat(model: nn.Module, batch: Batch, seed: int) -> nn.Module:
        change = remedies.apply(code, model, batch, F.cross_entropy, seed=seed, **settings)
        return change.model

    return treat


def alone(model: nn.Module, _: Batch, __: int) -> nn.Module:
    return model


def treatments(kind: str, act: str) -> dict[str, Treatment]:
    if kind == "residual":
        codes = ("residual-scale", "residual-zero", "residual-skipinit", "residual-fixup")
        return {"He's initialization, unscaled": alone, **{code: by(code) for code in codes}}
    found: dict[str, Treatment] = {
        "torch's default": alone,
        "calculate_gain": by_torch(act, orthogonal=False),
        "torch orthogonal_": by_torch(act, orthogonal=True),
        "lsuv package": by_lsuv,
        "init-gain": by("init-gain"),
        "init-orthogonal": by("init-orthogonal"),
        "init-critical": by("init-critical"),
        "init-lsuv": by("init-lsuv"),
    }
    if kind == "very deep":
        return {k: v for k, v in found.items() if k not in ("init-gain", "init-lsuv")}
    shaped = "activation-tat" if act == "relu" else "activation-dks"
    return {
        **found,
        shaped: by(shaped),
        **({"activation-swap": by("activation-swap")} if act == "sigmoid" else {}),
        "normalization-insert, batch": by("normalization-insert", kind="batch"),
        "normalization-insert, layer": by("normalization-insert", kind="layer"),
        "normalization-weight": by("normalization-weight"),
        "residual-skips": by("residual-skips"),
        "residual-skips, learned": by("residual-skips", learn=True),
    }


def settings() -> Iterator[tuple[str, str, int]]:
    """(kind, activation, depth) of every network."""
    for act in ("relu", "tanh", "gelu"):
        yield from ((("plain"), act, depth) for depth in (30, 50))
    yield "plain", "sigmoid", 10
    yield "very deep", "tanh", 200
    yield "residual", "relu", 108


def run(data: Images, seeds: int, only: str | None, part: str) -> Iterator[list[dict[str, Any]]]:
    """The rows of one network after the other; networks of one shape are trained together."""
    for kind, act, depth in settings():
        if only and only not in (kind, f"{kind} {act} {depth}"):
            continue
        began = time.process_time()
        models: list[nn.Module] = []
        rows: list[dict[str, Any]] = []
        for name, treat in treatments(kind, act).items():
            if part not in name:
                continue
            row: dict[str, Any] = {"kind": kind, "act": act, "depth": depth, "name": name}
            rows.append(row)
            try:
                made = [treated(data, kind, act, depth, treat, seed) for seed in range(seeds)]
            except (RemedyError, ImportError) as error:
                row["refused"] = str(error)
                continue
            row["at"] = len(models)
            models += made
        trained = train(models, data, steps=STEPS, batch=BATCH, lr=RATES[kind], optimizer="adam")
        for row in rows:
            if "at" in row:
                at = row.pop("at")
                row["accuracy"] = [round(x, 4) for x in trained.accuracy[at : at + seeds].tolist()]
            print(kind, act, depth, row["name"], told(row))
        print(f"{time.process_time() - began:.0f} s", flush=True)
        yield rows


def treated(
    data: Images, kind: str, act: str, depth: int, treat: Treatment, seed: int
) -> nn.Module:
    torch.manual_seed(seed)
    model = residual(depth) if kind == "residual" else plain(act, depth)
    first = next(iter(data.batches(1, 256, seed=seed)))
    return treat(model.train(), first, seed).train()


def key(row: dict[str, Any]) -> tuple[str, str, int, str]:
    return row["kind"], row["act"], row["depth"], row["name"]


def told(row: dict[str, Any]) -> str:
    found = row.get("accuracy")
    if not found:
        return "-"
    spread = stdev(found) if len(found) > 1 else 0.0
    text = f"{100 * mean(found):.0f} ± {100 * spread:.0f}"
    return f"**{text}**" if min(found) > LEAST else text


_HEAD = f"""Networks of width {WIDTH} on {{data}}, {STEPS} steps of Adam at 1e-3 (200 layers: 1e-4)
with batches of {BATCH}, nothing tuned; test accuracy in percent, mean and standard deviation over
{{seeds}} seeds. Bold: every seed is above {100 * LEAST:.0f} % (chance: 10 %). A dash: the remedy
says that it does not apply, with the reason below. The first four rows are what one has without
this package."""


_WHY = """Normalizing layers or weights one by one keeps the size of the signal, not the angle
between samples: it still closes from layer to layer, and beyond some twenty layers all samples look
alike. Batch norm keeps samples apart, and pays with gradients that grow by a fixed factor per layer
(Yang et al. 2019), which 50 layers do not bear without skips."""


def page(rows: list[dict[str, Any]], data: str, seeds: int) -> str:
    """The tables: one row per treatment, one column per network."""
    order = list(settings())
    rows = sorted(rows, key=lambda r: order.index((r["kind"], r["act"], r["depth"])))
    lines = [
        "# Depth",
        "",
        "Made by `python benchmarks/depth.py --write`.",
        "",
        fill(_HEAD.format(data=data.upper(), seeds=seeds), 120),
        "",
        "![Accuracy by treatment](images/depth.svg)",
    ]
    for kind, title in (
        ("plain", "Plain networks"),
        ("very deep", "A plain network of 200 layers"),
        ("residual", "108 residual blocks without norms"),
    ):
        own = [r for r in rows if r["kind"] == kind]
        columns = list(dict.fromkeys((r["act"], r["depth"]) for r in own))
        if not own:
            continue
        lines += ["", f"## {title}", ""]
        lines.append("| | " + " | ".join(f"{act}, {depth}" for act, depth in columns) + " |")
        lines.append("|---" * (len(columns) + 1) + "|")
        for name in dict.fromkeys(r["name"] for r in own):
            cells = [
                next((told(r) for r in own if (r["name"], r["act"], r["depth"]) == (name, *c)), "")
                for c in columns
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", fill(_WHY, 120)]
    refused = [r for r in rows if "refused" in r]
    if refused:
        lines += ["", "## Where a remedy does not apply", ""]
        said = dict.fromkeys(f"- {r['act']}, {r['depth']}: {r['refused']}" for r in refused)
        lines += list(said)
    return "\n".join(lines) + "\n"


def draw(rows: list[dict[str, Any]]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "isograd"
    import matplotlib.pyplot as plt

    order = [(act, depth) for _, act, depth in settings()]
    own = [r for r in rows if r["kind"] == "plain" and "accuracy" in r]
    own.sort(key=lambda r: order.index((r["act"], r["depth"])))
    columns = list(dict.fromkeys((r["act"], r["depth"]) for r in own))
    names = list(dict.fromkeys(r["name"] for r in own))[::-1]
    figure, axes = plt.subplots(1, len(columns), figsize=(11, 4.2), sharey=True)
    for axis, (act, depth) in zip(axes, columns, strict=True):
        for r in own:
            if (r["act"], r["depth"]) == (act, depth):
                height = names.index(r["name"])
                color = "tab:blue" if "-" in r["name"] else "tab:gray"
                axis.plot(r["accuracy"], [height] * len(r["accuracy"]), "o", color=color, ms=4)
        axis.set_title(f"{act}, {depth}", fontsize=9)
        axis.set_xlim(0, 1)
        axis.axvline(0.1, color="lightgray", lw=0.8)
        axis.set_xticks([0.1, 0.5, 0.9])
        axis.tick_params(labelsize=7)
    axes[0].set_yticks(range(len(names)), names)
    figure.supxlabel("test accuracy, a point per seed", fontsize=9)
    figure.tight_layout()
    figure.savefig(FIGURE, metadata={"Date": None})


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", default="mnist")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--only", help="plain, very deep, residual, or one, as 'plain relu 30'")
    options.add_argument("--treatment", help="only treatments whose name holds this")
    options.add_argument("--write", action="store_true")
    options.add_argument("--page", action="store_true", help="write the page from the stored rows")
    chosen = options.parse_args()
    if chosen.page:
        stored = json.loads(STORED.read_text())
    else:
        torch.set_num_threads(1)
        warnings.filterwarnings("ignore")
        data = load(chosen.data).flat().standardized().take(20_000, 2_000)
        kept = json.loads(STORED.read_text())["rows"] if STORED.exists() else []
        stored = {"data": chosen.data, "seeds": chosen.seeds, "rows": kept if chosen.only else []}
        for rows in run(data, chosen.seeds, chosen.only, chosen.treatment or ""):
            done = {key(row) for row in rows}
            stored["rows"] = [row for row in stored["rows"] if key(row) not in done] + rows
            if chosen.write:  # at once: it takes some time
                STORED.write_text(json.dumps(stored, indent=1) + "\n")
    if chosen.write or chosen.page:
        PAGE.write_text(page(stored["rows"], stored["data"], stored["seeds"]))
        draw(stored["rows"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
