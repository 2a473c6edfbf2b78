"""Checks every set-up of a folder of practitioners' cases and prints verdict, cause and time.

    python benchmarks/cases.py FOLDER [--steps 100] [--seeds 1] [--only Q01 Q03] [--markdown FILE]

FOLDER holds `questions.yaml` (cases with a declarative set-up: a base, and variants that fail or
train) and `setups.py`, which builds them. A variant named broken…, still_broken… or post_… counts
as ill, one named fixed…, ok…, healthy… or pre_… as well; others are shown, not counted.
"""

import argparse
import importlib.util
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import isograd

ACCEPTED = {
    "VANISH_DEPTH": "init-too-small gain-mismatch saturating-activation missing-residual "
    "missing-normalization norm-placement",
    "EXPLODE_DEPTH": "init-too-large gain-mismatch exploding-activation missing-normalization "
    "unscaled-residual",
    "FWD_COLLAPSE": "init-too-small gain-mismatch missing-normalization missing-residual",
    "SATURATION": "saturating-activation init-too-large dead-output",
    "DEAD_UNITS": "dead-units narrow-layer lr-too-high",  # that of a step that was too large
    "DEAD_OUTPUT": "dead-output output-activation",
    "SYMMETRY": "init-constant",
    "RES_VARIANCE": "unscaled-residual",
    "LR_TOO_HIGH": "lr-too-high",
    "LR_TOO_LOW": "lr-too-low",
    "INPUT_SCALE": "input-not-normalized",
    "TARGET_SCALE": "target-not-normalized",
    "LOSS_MISMATCH": "loss-mismatch output-activation",
    "LOSS_WEIGHT": "loss-mismatch",
    "SHAPE_BROADCAST": "shape-broadcast",
    "GRAPH_CUT": "graph-cut frozen-parameters",
    "NAN_LOCAL": "local-nan",
    "RECURRENT_CHI": "recurrent-jacobian",
    "NORM_MODE": "norm-mode",
    "NORM_PLACEMENT": "norm-placement",
    "PRECISION": "precision",
    "GAIN_MISMATCH": "gain-mismatch",
    "DATA_BUG": "data-bug",
    "DROPOUT": "dropout-too-high",
}
"""Causes that name each documented diagnosis."""

ILL = ("broken", "still_broken", "post_")
WELL = ("fixed", "ok", "healthy", "pre_")


def main() -> int:
    options = _options()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    setups = _load(options.folder / "setups.py")
    rows = []
    for case in setups.load():
        if options.only and case["id"] not in options.only:
            continue
        wanted = {c for d in case["diagnosis"] for c in ACCEPTED.get(d, "").split()}
        for name, config in setups.variants(case).items():
            for seed in range(options.seeds):
                row = _check(setups, case["id"], name, config, wanted, seed, options)
                rows.append(row)
                print(_line(row), flush=True)
    print(_summary(rows))
    if options.markdown:
        options.markdown.write_text(_markdown(rows))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=100, help="steps of the rehearsal")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--no-optimizer", action="store_true", help="check without the optimizer")
    parser.add_argument("--train", action="store_true", help="also train, to see which reproduce")
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("setups", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["setups"] = module
    spec.loader.exec_module(module)
    return module


def _check(
    setups: Any,
    case: str,
    name: str,
    config: dict[str, Any],
    wanted: set[str],
    seed: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    setup = setups.build(config, seed=seed)
    batch = next(setup.batches())
    steps = min(options.steps, config.get("steps", options.steps))
    with_optimizer = (
        {}
        if options.no_optimizer
        else {"optimizer": setup.make_optimizer, "data": setup.batches(), "steps": steps}
    )
    began = time.process_time()
    diagnosis = isograd.check(setup.model, batch, setup.loss, **with_optimizer)
    seconds = time.process_time() - began
    flagged = [f for f in diagnosis.findings if f.severity.value != "info"]
    first = flagged[0] if flagged else None
    ill = name.startswith(ILL)
    well = name.startswith(WELL)
    right = None
    if ill:
        right = first is not None and first.cause in wanted
    elif well:
        right = first is None
    reproduces = _trains(setups, config, seed) if options.train else None
    return {
        "case": case,
        "variant": name,
        "seed": seed,
        "expect": "ill" if ill else ("well" if well else "-"),
        "flagged": first is not None,
        "right": right,
        "cause": first.cause if first else "",
        "codes": [f.code for f in flagged],
        "message": first.message if first else "",
        "wanted": sorted(wanted),
        "seconds": seconds,
        "trained": reproduces,
    }


def _trains(setups: Any, config: dict[str, Any], seed: int) -> str:
    try:
        losses = setups.train(setups.build(config, seed=seed), config)
    except RuntimeError as error:
        return f"raises {str(error).splitlines()[0]}"
    tail = losses[-20:]
    last = sum(tail) / len(tail)
    return f"{losses[0]:.3g} to {last:.3g}" if math.isfinite(last) else f"{losses[0]:.3g} to nan"


def _line(row: dict[str, Any]) -> str:
    mark = {None: " ", True: "+", False: "!"}[row["right"]]
    trained = f"  loss {row['trained']}" if row["trained"] else ""
    head = f"{mark} {row['case']} {row['variant']:26s} {row['expect']:4s} {row['cause']:22s}"
    codes = ",".join(row["codes"])
    return f"{head} {codes} {row['seconds']:.1f}s{trained}\n      {row['message'][:150]}"


def _summary(rows: list[dict[str, Any]]) -> str:
    ill = [r for r in rows if r["expect"] == "ill"]
    well = [r for r in rows if r["expect"] == "well"]
    return (
        f"ill: {sum(r['flagged'] for r in ill)}/{len(ill)} flagged, "
        f"{sum(bool(r['right']) for r in ill)}/{len(ill)} with the documented cause first; "
        f"well: {sum(r['flagged'] for r in well)}/{len(well)} flagged"
    )


def _markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| case | variant | expected | first cause | codes | right | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        right = {None: "", True: "yes", False: "no"}[row["right"]]
        lines.append(
            f"| {row['case']} | {row['variant']} | {row['expect']} | {row['cause'] or 'none'} | "
            f"{' '.join(row['codes'])} | {right} | {row['seconds']:.1f} |"
        )
    return "\n".join([*lines, "", _summary(rows), ""])


if __name__ == "__main__":
    sys.exit(main())
