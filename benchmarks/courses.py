"""Watches the trainings of tests/patients/courses.py and prints which alarms are raised, and when.

    python benchmarks/courses.py [--seeds N] [--only WORD] [--all]

`--all` shows information too. A look is taken every ten steps, and at the first ones.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from patients.courses import ILL, WELL, Training, watched


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
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
