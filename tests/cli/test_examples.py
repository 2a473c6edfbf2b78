"""The examples give the verdicts that they promise."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.mark.parametrize(
    ("target", "more", "code", "told"),
    [
        ("networks.py:sigmoid", "--data digits", 1, "saturating-activation"),
        ("networks.py:relu", "--data digits", 1, "gain-mismatch"),
        (
            "networks.py:residual",
            "--data digits --optimizer adam --lr 1e-3 --steps 50",
            0,
            "healthy",
        ),
        ("transformer.py:gpt2", "", 0, "healthy"),
    ],
)
def test_an_example_network(
    isograd: Callable[..., Any], target: str, more: str, code: int, told: str
) -> None:
    ended = isograd("check", f"{EXAMPLES}/{target}", *more.split())
    assert ended.code == code
    assert told in ended.out.splitlines()[0]


IMAGES = "--input float32[64,784]"


@pytest.mark.parametrize(
    ("factory", "words", "code", "told"),
    [
        ("mlp", f"{IMAGES} --set depth=40", 1, "gain-mismatch"),
        ("mlp", f"{IMAGES} --sweep depth=5:50:4", 1, "healthy at depth 5"),
        ("mlp", f"{IMAGES} --init kaiming_normal", 0, "healthy"),
        ("stream", f"{IMAGES} --sweep residual-scale=0.1,1", 1, "healthy at residual-scale 0.1"),
        ("llama", "--input int64[1,16]<32000 --set layers=2", 0, "healthy"),
    ],
)
def test_an_example_before_training(
    isograd: Callable[..., Any], factory: str, words: str, code: int, told: str
) -> None:
    ended = isograd("predict", f"{EXAMPLES}/before_training.py:{factory}", *words.split())
    assert ended.code == code
    assert told in ended.out.splitlines()[0]


def test_the_example_test_passes() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "trainable.py"]
    ended = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, check=False)
    assert "1 passed" in ended.stdout, ended.stdout
