"""Watches the trainings of tests/patients/*courses.py and prints which alarms are raised, when.

    python benchmarks/courses.py [--seeds N] [--only WORD]
    python benchmarks/courses.py --judging

A look is taken every ten steps, and at some of the first. `--judging` times `diagnose()` on a run
of 64 looks at a chain of 50 layers (99 sites), each time with one new look.
"""

import argparse
import math
import random
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from isograd.diagnosis import diagnose
from isograd.rules._examples import chain, run

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from patients.courses import WELL
from patients.ill_courses import ILL
from patients.training import Training, watched


def row(name: str, make: object, steps: int, expected: tuple[str, ...], seed: int) -> str:
    torch.manual_seed(seed)
    began = time.process_time()
    training: Training = make()  # type: ignore[operator]  # a factory
    changes, alarms, _ = watched(training, steps)
    seconds = time.process_time() - began
    raised = [a for a in changes if a.state == "raised"]
    told = ", ".join(
        f"{a.finding.code} {a.finding.severity.value} at {a.last_step}" for a in raised
    )
    right = any(a.finding.code in expected for a in raised) if expected else not raised
    losses = training.losses
    ends = f"{losses[0]:.2f} to {sum(losses[-10:]) / 10:.3g}"
    gone = sum(a.state == "withdrawn" for a in alarms.all)
    return (
        f"| {name} | {steps} | {ends} | {told or 'none'}{f' ({gone} withdrawn)' if gone else ''} "
        f"| {'yes' if right else 'no'} | {seconds:.1f} |"
    )


def judging(looks: int = 64, depth: int = 50) -> float:
    """Median seconds of one judgement in a watched run."""
    columns = {
        "forward.rms": 1.0, "forward.dead": 0.05, "forward.zero": 0.5, "forward.saturated": 0.02,
        "forward.rank": 9.0, "forward.spread": 0.7, "forward.correlation": 0.3,
        "forward.units": 64.0, "backward.rms": 1e-3, "backward.count": 6400.0,
        "backward.band": 0.1, "weight.rms": 0.1, "weight.grad_rms": 1e-3,
        "weight.update_ratio": 1e-3, "weight.gain": 1.4, "weight.gain_fit": 1.414,
    }  # fmt: skip
    facts = {"loss.kind": "cross_entropy", "loss.chance": 2.303, "batch.size": 64}
    draw = random.Random(0)
    made = []
    for k in range(looks + 20):
        noisy = {
            key: [value * math.exp(0.1 * draw.gauss(0, 1)) for _ in range(depth)]
            for key, value in columns.items()
        }
        made.append(chain(depth, series=noisy, facts=facts, step=10 * k))
    # The looks of a watch share their sites, which are then told alike by identity.
    same = {"sites": made[0].sites, "parameters": made[0].parameters}
    made = [replace(look, **same) for look in made]  # type: ignore[arg-type]  # as they are named
    losses = [2.3 * 0.998**k + 0.1 + 0.01 * draw.random() for k in range(1000)]
    times = []
    for new in range(20):
        reading = run(made[0], *made[new + 1 : new + looks], losses=losses)
        began = time.perf_counter()
        diagnose(reading)
        times.append(time.perf_counter() - began)
    return median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--judging", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    if options.judging:
        print(f"one judgement: {1e3 * judging():.1f} ms")
        return
    print("| training | steps | loss | raised | right | CPU s |\n|---|---|---|---|---|---|")
    right = count = 0
    for seed in range(options.seeds):
        cases = [(name, make, steps, ()) for name, (make, steps) in WELL.items()]
        cases += [(name, make, steps, codes) for name, (make, steps, codes) in ILL.items()]
        for case in cases:
            if options.only in case[0]:
                line = row(*case, seed)
                right, count = right + (line.split("|")[5].strip() == "yes"), count + 1
                print(line, flush=True)
    print(f"\n{right} of {count} right.")


if __name__ == "__main__":
    main()
