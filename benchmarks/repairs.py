"""Repairs every set-up of a folder of practitioners' cases and says what came of it.

    python benchmarks/repairs.py FOLDER [--seeds 3] [--first-seed 0] [--only Q01 Q03] [--write]

FOLDER is as in benchmarks/cases.py. Each variant is trained as its case says; an ill one counts
where it ends clearly above the documented fix that does worst. It is then repaired, with three
quarters of the steps of its training for all trials together, and the outcome is trained likewise.
Results are losses at the end on 2,000 samples in evaluation mode; times are of the CPU. --write
puts the numbers into benchmarks/measured/repairs.json and the table into docs/repair.md.
"""

import argparse
import json
import math
import re
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import isograd
from cases import ACCEPTED, ILL, WELL, _load
from isograd.remedies import REMEDIES

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "repair.md"
STORED = HERE / "measured" / "repairs.json"
UNMENDABLE = {"GRAPH_CUT", "DATA_BUG"}
"""What stands in the user's own code or data, and no change of model or optimizer mends."""
CLOSE, NEXT_TO_NOTHING = 0.10, 0.01
"""As good as the fix: within 10 % of its loss, or 1 % of what there was to learn: of losses near
zero, which fall by decades to the end, a ratio says nothing."""


def main() -> int:
    options = _options()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    setups = _load(options.folder / "setups.py")
    _warm_up(setups)
    rows = []
    for case in setups.load():
        if options.only and case["id"] not in options.only:
            continue
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for row in _case(setups, case, seed, options.budget):
                rows.append(row)
                print(_line(row), flush=True)
    summary = summarize(rows)
    print("\n".join(f"{name}: {text}" for name, text in summary.items()))
    if options.write:
        stored = [{k: v for k, v in row.items() if k != "skipped"} for row in rows]
        STORED.write_text(json.dumps({"summary": summary, "rows": stored}, indent=1) + "\n")
        _into_page(rows, summary)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=0.75, help="steps over those of a training")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


def _warm_up(setups: Any) -> None:
    """What is imported at first use must not count as time of a repair or of a training."""
    every = (v for case in setups.load() for v in setups.variants(case).items())
    config = {**next(config for name, config in every if name.startswith(ILL)), "steps": 40}
    setups.train(setups.build(config), config)
    _repair(setups.build(config), config, 0, 1.0)


def _repair(setup: Any, config: dict[str, Any], seed: int, budget: float) -> isograd.Repair:
    return isograd.repair(
        setup.model,
        next(setup.batches()),
        setup.loss,
        optimizer=setup.make_optimizer,
        data=setup.batches(),
        budget=round(budget * config.get("steps", 200)),
        seed=seed,
    )


def _case(setups: Any, case: dict[str, Any], seed: int, budget: float) -> list[dict[str, Any]]:
    variants = setups.variants(case)
    fix = next(c for name, c in variants.items() if name.startswith(WELL))
    names = [n for n in variants if n.startswith(("fixed", "pre_"))]
    names = names or [n for n in variants if n.startswith(WELL)]
    trained: dict[tuple[str, int], dict[str, float]] = {}

    def run(name: str, steps: int) -> dict[str, float]:
        if (name, steps) not in trained:
            config = {**variants[name], "steps": steps}
            trained[name, steps] = _trained(setups, config, seed, fix)
        return trained[name, steps]

    rows = []
    for name, config in variants.items():
        ill = name.startswith(ILL)
        if not ill and not name.startswith(WELL):
            continue
        steps = config.get("steps", 200)
        own, fixes = run(name, steps), [run(n, steps) for n in names]
        target, start = max(t["result"] for t in fixes), min(t["start"] for t in (own, *fixes))
        setup = setups.build(config, seed=seed)  # which is no part of a training either
        began = time.process_time()
        done = _repair(setup, config, seed, budget)
        seconds = time.process_time() - began
        again = _trained(setups, config, seed, fix, done) if done.changed else own
        after = again["result"]
        each = max(t["seconds"] / t["steps"] for t in fixes)  # a broken run may end early
        each = own["seconds"] / own["steps"] if own["steps"] == steps else each
        rows.append(
            {
                "case": case["id"],
                "variant": name,
                "seed": seed,
                "ill": ill,
                "mendable": not UNMENDABLE & set(case["diagnosis"]),
                "reproduces": not _reaches(own["result"], target, start),
                "verdict": done.verdict,
                "remedies": list(done.remedies),
                "before": own["result"],
                "after": after,
                "fix": target,
                "best_fix": min(t["result"] for t in fixes),
                "repaired": _reaches(after, target, start),
                "addressed": _addresses(case, done),
                "seconds": seconds,
                "training_seconds": each * steps,
                "steps": done.cost.steps,
                "skipped": [[one.remedy, one.reason] for one in done.skipped],
            }
        )
    return rows


def _trained(
    setups: Any,
    config: dict[str, Any],
    seed: int,
    fix: dict[str, Any],
    done: isograd.Repair | None = None,
) -> dict[str, float]:
    setup = setups.build(config, seed=seed)
    # By the loss of the documented fix: that of the ill one may be at fault, or a sum.
    measure = setups.build(fix, seed=seed).loss
    if done is not None:
        measure = measure if done.loss is setup.loss else done.loss
        setup.model, setup.loss = done.model, done.loss
        setup.make_optimizer = lambda _: done.optimizer
    start = _result(setup, measure)
    began = time.process_time()
    try:
        steps = len(setups.train(setup, config))
    except RuntimeError:
        return {"result": math.inf, "start": start, "seconds": 1.0, "steps": 1}
    seconds = time.process_time() - began
    return {"result": _result(setup, measure), "start": start, "seconds": seconds, "steps": steps}


def _result(setup: Any, measure: Any) -> float:
    """Loss in evaluation mode."""
    setup.model.eval()
    with torch.no_grad():
        value = float(measure(setup.model(setup.x[:2000]), setup.y[:2000]))
    setup.model.train()
    return value if math.isfinite(value) else math.inf


def _reaches(result: float, fix: float, start: float) -> bool:
    return result <= max(fix * (1 + CLOSE), fix + NEXT_TO_NOTHING * max(start - fix, 0.0))


def _addresses(case: dict[str, Any], done: isograd.Repair) -> bool | None:
    if not done.changed:
        return None
    wanted = {cause for d in case["diagnosis"] for cause in ACCEPTED.get(d, "").split()}
    return any(wanted & set(REMEDIES[code].addresses) for code in done.remedies)


def _line(row: dict[str, Any]) -> str:
    good = row["repaired"] if row["ill"] else row["verdict"] == "healthy"
    counts = row["mendable"] and row["reproduces"] if row["ill"] else True
    mark = " " if not counts else "+" if good else "!"
    what = " + ".join(row["remedies"]) or row["verdict"]
    ratio = row["seconds"] / row["training_seconds"]
    told = "".join(f"\n      {code}: {why}" for code, why in row["skipped"]) if mark == "!" else ""
    return (
        f"{mark} {row['case']} {row['variant']:24s} seed {row['seed']} {what:32s} "
        f"{row['before']:.3g} -> {row['after']:.3g} (fix {row['best_fix']:.3g} to "
        f"{row['fix']:.3g})  x{ratio:.2f} of a training{told}"
    )


def summarize(rows: list[dict[str, Any]]) -> dict[str, str]:
    """The shares that count, in words."""
    ill = [r for r in rows if r["ill"] and r["mendable"] and r["reproduces"]]
    well = [r for r in rows if not r["ill"]]
    mended = [r for r in ill if r["verdict"] == "repaired"]
    ratios = sorted(r["seconds"] / r["training_seconds"] for r in ill)

    def share(part: int, whole: int) -> str:
        return f"{part} of {whole}" + (f" ({part / whole:.0%})" if whole else "")

    return {
        "repaired": share(sum(r["repaired"] for r in ill), len(ill)),
        "by a change that addresses the documented cause": share(
            sum(bool(r["addressed"]) for r in mended), len(mended)
        ),
        "healthy ones left alone": share(sum(r["verdict"] == "healthy" for r in well), len(well)),
        "time of a repair over that of one training": (
            f"median {ratios[len(ratios) // 2]:.2f}, largest {ratios[-1]:.2f}" if ratios else "-"
        ),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The table of the ill variants, a line for each over all seeds."""
    lines = [
        "| case | variant | changed by | before | after | documented fixes | as good | time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["ill"]:
            groups.setdefault((row["case"], row["variant"]), []).append(row)
    for (case, variant), group in groups.items():
        changes = sorted({" + ".join(r["remedies"]) or r["verdict"] for r in group})
        counted = [r for r in group if r["reproduces"] and r["mendable"]]
        good = f"{sum(r['repaired'] for r in counted)} of {len(counted)}" if counted else "–"
        ratio = max(r["seconds"] / r["training_seconds"] for r in group)
        fix = _range([x for r in group for x in (r["fix"], r["best_fix"])])
        cells = [
            case, variant, "; ".join(changes), _range([r["before"] for r in group]),
            _range([r["after"] for r in group]), fix, good, f"{ratio:.2f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return low if low == high else f"{low} to {high}"


def _into_page(rows: list[dict[str, Any]], summary: dict[str, str]) -> None:
    seeds = len({r["seed"] for r in rows})
    told = "\n".join(f"- {name}: {text}" for name, text in summary.items())
    text = f"{told}\n\nOver {seeds} seeds.\n\n{table(rows)}"
    page = PAGE.read_text()
    marks = r"(<!-- repairs -->\n).*?(<!-- end -->)"
    PAGE.write_text(re.sub(marks, lambda m: f"{m[1]}{text}\n{m[2]}", page, flags=re.DOTALL))


if __name__ == "__main__":
    sys.exit(main())
