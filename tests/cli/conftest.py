"""A command line to call in this process, and a folder with a network in it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from isograd.cli import main

sys.path.insert(0, str(Path(__file__).parent.parent / "storage"))  # made runs

NET = """\
import torch
from torch import nn

WIDTH = 13


class Net(nn.Sequential):
    def __init__(self, width=WIDTH):
        super().__init__(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 10))


class Zoo:
    small = Net(7)


def make():
    return Net()


def with_batch():
    return Net(), (torch.randn(5, 64), torch.arange(5))


def broken():
    width = 3
    return Net(width / 0)


def of_width(width):
    return Net(width)


def number():
    return 3


def batches():
    for size in (5, 3):
        yield torch.randn(size, 64), torch.arange(size)


def loss(outputs, targets):
    return (outputs.sum(1) - targets).square().mean()


model = Net()
"""


@dataclass
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def isograd(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs `isograd …` in this process."""

    def run(*words: str) -> Ended:
        with pytest.raises(SystemExit) as caught:
            main(words)
        captured = capsys.readouterr()
        return Ended(caught.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which holds net.py."""
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path
