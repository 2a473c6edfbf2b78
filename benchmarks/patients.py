"""Checks every network of tests/patients, ill and well, and prints verdict, cause and time.

    python benchmarks/patients.py [--markdown FILE]

The well ones are checked with their optimizer and 10 steps of rehearsal.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import torch

import isograd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from patients.asked import ASKED
from patients.ill import ILL
from patients.patient import Patient
from patients.zoo import HEALTHY


def checked(patient: Patient, optimizer: object, steps: int) -> tuple[isograd.Diagnosis, float]:
    began = time.process_time()
    diagnosis = isograd.check(
        patient.model, patient.batch, patient.loss, optimizer=optimizer, steps=steps
    )
    return diagnosis, time.process_time() - began


def row(name: str, expected: str, diagnosis: isograd.Diagnosis, seconds: float) -> str:
    loud = [f for f in diagnosis.findings if f.severity.value != "info"]
    said = f"{loud[0].cause} ({loud[0].code}, {loud[0].severity.value})" if loud else "healthy"
    right = said.split()[0] == expected
    record = diagnosis.reading.seen
    depth = max((site.depth for site in record.sites), default=0)
    mark = "yes" if right else "no"
    return f"| {name} | {depth} | {expected} | {said} | {mark} | {seconds:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    lines = [
        "| network | depth | expected | diagnosis | right | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for name, case in (ILL | ASKED).items():
        lines.append(row(name, case.cause, *checked(case.build(), case.optimizer, case.steps)))
        print(lines[-1], flush=True)
    for name, build in HEALTHY.items():
        patient = build()
        lines.append(row(name, "healthy", *checked(patient, patient.optimizer, 10)))
        print(lines[-1], flush=True)
    right = sum(line.split("|")[5].strip() == "yes" for line in lines[2:])
    lines.append(f"\n{right} of {len(lines) - 2} right.\n")
    print(lines[-1])
    if options.markdown:
        options.markdown.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
