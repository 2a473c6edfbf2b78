"""`isograd repair`: exit codes, forms, and words that are refused before anything runs."""

import re
from pathlib import Path

import pytest

from isograd.cli import main

DEEP = """
from torch import nn
def deep():
    layers = [m for _ in range(12) for m in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(64, 10))
def shallow():
    return nn.Sequential(nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 10))
class Cut(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
    def forward(self, x):
        return self.c(self.b(self.a(x).relu()).relu().detach())
"""


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["repair", *words])
    return int(str(ended.value.code))


@pytest.fixture
def net(tmp_path: Path) -> str:
    path = tmp_path / "net.py"
    path.write_text(DEEP)
    return str(path)


SGD = ("--data", "digits", "--optimizer", "sgd", "--lr", "0.05", "--momentum", "0.9")


def test_what_is_repaired_is_told_with_its_code(
    net: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"{net}:deep", *SGD, "--budget", "300", "--allow", "init") == 0
    told = capsys.readouterr().out
    assert told.startswith("✓ repaired: init-")
    assert "nn.init." in told
    assert re.search("over [345] seeds", told)


def test_what_is_healthy_is_left_alone(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"{net}:shallow", *SGD) == 0
    assert "leave it as it is" in capsys.readouterr().out


def test_a_gain_beside_an_error_is_exit_code_1(
    net: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"{net}:Cut", "--data", "digits", "--optimizer", "adam", "--lr", "1e-3") == 1
    assert capsys.readouterr().out.startswith("! better, but not repaired: optimizer-lr")


def test_nothing_helps_is_exit_code_1(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"{net}:deep", *SGD, "--budget", "12", "--allow", "optimizer") == 1
    assert "not allowed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--budget", "soon"), "--budget soon: give a number"),
        (("--budget", "0"), "--budget 0"),
        (("--budget", "0s"), "--budget 0s"),
        (("--allow", "magic"), "--allow: there is no 'magic'"),
        (("--allow", ","), "--allow: names nothing"),
        (("--output", "x.sarif"), "a repair is written as"),
        (("--lr", "0.1"), "--lr needs an optimizer"),
    ],
)
def test_a_bad_word_is_refused(
    net: str, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"{net}:deep", "--data", "digits", *words) == 2
    assert told in capsys.readouterr().err
