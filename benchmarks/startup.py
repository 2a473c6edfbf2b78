"""Start-up: CPU time of commands that need no numbers, and of command-line libraries.

python benchmarks/startup.py             every light answer; the limit is 0.2 s
python benchmarks/startup.py libraries   a one-option program in each library installed
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT = 0.2
RUNS = 9

ANSWERS = (
    "--help",
    "--version",
    "check --help",
    "rules",
    "rules --format json",
    "explain IG101",
    "check nothing.py:make",
    "check net.py:nothing",
    "check net.py:make --data digts",
    "check net.py:make --data bad.npz",
    "check net.py:make --optimizer adma",
    "check net.py:make --select XX1",
    "explain XX1",
    "report none.isograd",
)

LIBRARIES = {
    "argparse": "import argparse; p = argparse.ArgumentParser(); p.add_argument('--n', type=int)\n"
    "p.parse_args(['--n', '3'])",
    "click": "import click\n@click.command()\n@click.option('--n', type=int)\ndef f(n): pass\n"
    "f(['--n', '3'], standalone_mode=False)",
    "typer": "import typer\na = typer.Typer()\n@a.command()\ndef f(n: int = 0): pass\n"
    "a(['--n', '3'], standalone_mode=False)",
    "cyclopts": "import cyclopts\na = cyclopts.App()\n@a.default\ndef f(n: int = 0): pass\n"
    "a(['--n', '3'], result_action='return_value')",
}


def cpu_seconds(command: list[str], folder: str) -> float:
    """User and system time of the fastest of several runs: load only ever adds."""
    times = []
    for _ in range(RUNS):
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr is not None
            told = process.stderr.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if b"Traceback" in told:
            raise SystemExit(told.decode())
        times.append(used.ru_utime + used.ru_stime)
    return min(times)


def main() -> int:
    """Prints the table; 1 if an answer is over the limit."""
    libraries = sys.argv[1:] == ["libraries"]
    programs = (
        {name: ["-c", program] for name, program in LIBRARIES.items() if installed(name)}
        if libraries
        else {f"isograd {words}": ["-m", "isograd", *words.split()] for words in ANSWERS}
    )
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "net.py").write_text("import torch\ndef make():\n    return torch.nn.ReLU()\n")
        Path(folder, "bad.npz").write_text("no zip")
        nothing = cpu_seconds([sys.executable, "-c", ""], folder)
        print(f"{nothing:6.3f} s  python itself")
        for name, words in programs.items():
            seconds = cpu_seconds([sys.executable, *words], folder)
            slowest = max(slowest, seconds)
            print(f"{seconds:6.3f} s  {name}")
    return int(slowest > LIMIT and not libraries)


def installed(name: str) -> bool:
    """Whether a library can be imported."""
    return (
        subprocess.run(
            [sys.executable, "-c", f"import {name}"], stderr=subprocess.DEVNULL, check=False
        ).returncode
        == 0
    )


if __name__ == "__main__":
    raise SystemExit(main())
