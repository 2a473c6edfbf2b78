"""Light: what needs no numbers answers without torch, numpy or rich."""

import subprocess
import sys
from pathlib import Path

import pytest

from isograd.rules import RULES

HEAVY = ("torch", "numpy", "scipy", "rich", "sklearn", "matplotlib")
PROGRAM = """
import sys
from isograd.cli import main
try:
    main(sys.argv[1:])
finally:
    print("loaded:", *(set(sys.modules) & {heavy}), file=sys.stderr)
"""


def run(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("{heavy}", repr(set(HEAVY)))
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--version",
        "check --help",
        "demo --help",
        "doctor --help",
        "explain --help",
        "predict --help",
        "report --help",
        "rules --help",
        "runs --help",
        "runs .",
        "tail --help",
        "watch --help",
        "theory --help",
        "theory phase --help",
        "rules",
        "rules --format json",
        f"explain {next(iter(RULES)).code}",
    ],
)
def test_answers_come_without_heavy_imports(words: str) -> None:
    ended = run(*words.split())
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == "loaded:\n"
    assert ended.stdout


@pytest.mark.parametrize(
    "words",
    [
        "chek",
        "check",
        "check net.py",
        "check nothing.py:make",
        f"check {'n' * 300}.py:make",
        f"check net.py:make --data {'n' * 300}",
        "check net.py:mkae",
        "check plain.py:number",
        "check plain.py:broken",
        "check syntax.py:make",
        "check net.py:make --data digts",
        "check net.py:make --data none.npz",
        "check net.py:make --data text.npz",
        "check net.py:make --data text.safetensors",
        "check net.py:make --data nte.py:batches",
        "check net.py:make --loss mse",
        "check net.py:make --optimizer adma",
        "check net.py:make --lr 0.1",
        "check net.py:make --lr -1",
        "check net.py:make --device gpu",
        "check net.py:make --dtype float8",
        "check net.py:make --select XX1",
        "check net.py:make --format pdf",
        "check net.py:make --output nowhere/report.html",
        "check plain.py:number --data digits",
        "explain IG000",
        "predict",
        "predict net.py",
        "predict net.py:mkae",
        "predict net.py:make --input 32,3",
        "predict net.py:make --input float32[8,64]x",
        "predict net.py:make --input int64[8,64]",
        "predict net.py:make --input float32[8,0]",
        "predict net.py:make --input float32[8,64]<9",
        "predict net.py:make --input float32[8,64] --data digits",
        "predict net.py:make --data digts",
        "predict net.py:make --input float32[8,64] --loss mse",
        "predict net.py:make --input float32[8,64] --set depth",
        "predict net.py:make --input float32[8,64] --set depth=1 --set depth=2",
        "predict net.py:make --input float32[8,64] --init kaiming",
        "predict net.py:make --input float32[8,64] --init normal:x",
        "predict net.py:make --input float32[8,64] --init critical:2",
        "predict net.py:make --input float32[8,64] --activation gleu",
        "predict net.py:make --input float32[8,64] --residual-scale nan",
        "predict net.py:make --input float32[8,64] --sweep depth",
        "predict net.py:make --input float32[8,64] --sweep depth=1:9:1",
        "predict net.py:make --input float32[8,64] --sweep init=kaiming",
        "predict net.py:make --input float32[8,64] --sweep depth=1,2 --set depth=3",
        "predict net.py:make --input float32[8,64] --sweep depth=1,2 --explain 0",
        "predict net.py:make --input float32[8,64] --sweep depth=1,2 --format html",
        "predict net.py:make --input float32[8,64] --sweep depth=1,2 --figure depth.pdf",
        "predict net.py:make --input float32[8,64] --figure depth.png",
        "predict net.py:make --input float32[8,64] --explain 0 --save run.isograd",
        "predict net.py:make --input float32[8,64] --select XX1",
        "predict net.py:make --input float32[8,64] --output nowhere/report.html",
        "report none.isograd",
        "report text.npz",
        "rules --no-such-flag",
        "theory phases",
        "theory phase",
        "theory phase tanh",
        "theory phase tanh --weight-var nan",
        "theory phase tanh --weight-var 0",
        "theory phase tanh --weight-var 1 --bias-var -1",
        "theory phase tanh --weight-var 1 --figure phase.pdf",
        "theory phase tanh --weight-var 1 --figure nowhere/phase.png",
        "theory phase tanh --weight-var 1 --param slope",
        "theory phase nothing.py:act --weight-var 1",
        "theory gains",
        "theory gains tanh --all",
        "theory gains --all --param alpha=1",
        "theory diagram tanh --weight-var 3",
        "theory diagram tanh --weight-var 3:1",
        "theory diagram tanh --bias-var 0:1:1",
        "theory spectrum tanh",
        "theory spectrum tanh --depth 0",
    ],
)
def test_bad_input_is_one_line_without_heavy_imports(folder: Path, words: str) -> None:
    (folder / "plain.py").write_text("number = 3\ndef broken():\n    raise ValueError('a\\nb')\n")
    (folder / "syntax.py").write_text("def make(:\n")
    (folder / "text.npz").write_text("text")
    (folder / "text.safetensors").write_text("text")
    ended = run(*words.split(), folder=folder)
    assert ended.returncode == 2
    error, loaded = ended.stderr.splitlines()
    assert error.startswith("isograd: error: ")
    assert loaded == "loaded:"
    assert ended.stdout == ""
