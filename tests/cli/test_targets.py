"""Targets: what is found, and what each wrong one is told."""

import sys
from pathlib import Path

import pytest
import torch

from isograd.cli import _targets
from isograd.errors import TargetError


def model(text: str) -> tuple[torch.nn.Module, object]:
    return _targets.model(_targets.locate(text))


@pytest.mark.parametrize("name", ["make", "model", "Net", "Zoo.small"])
def test_a_model_is_found(folder: Path, name: str) -> None:
    found, batch = model(f"net.py:{name}")
    assert found[-1].out_features == 10
    assert batch is None


def test_a_factory_may_bring_its_batch(folder: Path) -> None:
    found, (inputs, targets) = model("net.py:with_batch")
    assert found(inputs).shape == (5, 10)
    assert targets.tolist() == [0, 1, 2, 3, 4]


def test_modules_are_found_from_the_current_folder(folder: Path) -> None:
    package = folder / "zoo_of_tests"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text("from net import make\n")
    try:
        assert isinstance(model("zoo_of_tests.nets:make")[0], torch.nn.Module)
    finally:
        for name in ("net", "zoo_of_tests", "zoo_of_tests.nets"):
            sys.modules.pop(name, None)


def test_the_files_own_folder_is_importable_and_the_path_comes_back(folder: Path) -> None:
    below = folder / "below"
    below.mkdir()
    (below / "helper_of_net.py").write_text("from torch import nn\nnet = nn.Linear(3, 5)\n")
    (below / "main.py").write_text("def make():\n    from helper_of_net import net\n    return net")
    before = list(sys.path)
    try:
        assert model("below/main.py:make")[0].out_features == 5
    finally:
        sys.modules.pop("helper_of_net", None)
    assert sys.path == before


def test_a_file_named_like_a_module_does_not_replace_it(folder: Path) -> None:
    import types

    (folder / "types.py").write_text("import torch\nmodel = torch.nn.Linear(3, 5)\n")
    model("types.py:model")
    assert sys.modules["types"] is types


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net.py", r"'net.py' does not name an object; write path/to/file.py:name or package"),
        ("net.py:", "does not name an object"),
        (":make", "does not name an object"),
        ("nte.py:make", r"nte.py: no such file \(looked in .*\); did you mean net.py"),
        ("nothing/net.py:make", "no such file"),
        ("./:make", "is a folder"),
        ("no_such_module:make", "no module named 'no_such_module' can be imported from"),
        ("json.nothing:make", "no module named 'json.nothing'"),
        ("..:make", "no such file|no module named|is a folder"),
        ("net.py:mkae", r"net.py: has no 'mkae'; did you mean make"),
        ("net.py:Zoo.large", r"net.py:Zoo.large: 'Zoo' has no 'large'; there is small"),
        (
            "net.py:WIDTH",
            r"net.py:WIDTH: is an object of type int, not a model; name a torch.nn.Module",
        ),
        ("net.py:number", r"net.py:number: returned an object of type int, not a model"),
        ("net.py:of_width", r"net.py:of_width: needs the arguments width; name a factory"),
        ("net.py:broken", r"net.py:26: broken\(\) raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_wrong_target_says_where_what_and_what_to_do(
    folder: Path, text: str, message: str
) -> None:
    with pytest.raises(TargetError, match=message) as caught:
        model(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"x = (\n", r"bad.py:1: not valid Python: '\(' was never closed"),
        (b"x = '\xff'\n", r"bad.py.*(not valid|cannot be read as) Python"),
        (b"x = 1\n\nimport no_such\n", r"bad.py:3: importing it raised ModuleNotFoundError"),
        (b"raise SystemExit('stop')\nx = 1\n", r"bad.py:1: importing it raised SystemExit: stop"),
        (b"from os.path import *\n", r"bad.py:x: bad.py has no 'x'"),
        (b"\n\ndef x():\n    raise ValueError\n", r"bad.py:4: x\(\) raised ValueError; make"),
    ],
)
def test_a_source_that_does_not_run_is_told_by_line(
    folder: Path, source: bytes, message: str
) -> None:
    (folder / "bad.py").write_bytes(source)
    with pytest.raises(TargetError, match=message):
        model("bad.py:x")


def test_names_made_while_running_are_not_refused_unseen(folder: Path) -> None:
    (folder / "late.py").write_text(
        "from torch import nn\nglobals()['ma' + 'de'] = nn.Linear(3, 5)"
    )
    assert model("late.py:made")[0].out_features == 5


def test_what_needs_no_torch_is_told_from_what_may(folder: Path) -> None:
    (folder / "plain.py").write_text("import json\nfrom os import path\nx = 1\n")
    (folder / "inner.py").write_text("def x():\n    import torch\n")
    assert not _targets.locate("plain.py:x").needs_more
    assert _targets.locate("inner.py:x").needs_more
