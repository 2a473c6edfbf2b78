"""--data: a batch to look at, and batches to rehearse on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from isograd.cli import _batches
from isograd.errors import DataError, TargetError


def load(text: str, batch_size: int = 7, seed: int = 0) -> _batches.Data:
    return _batches.source(text, batch_size=batch_size, seed=seed)()


def test_a_sorted_set_is_drawn_in_random_order_and_every_run_alike() -> None:
    data = load("iris", batch_size=32)
    inputs, targets = data.batch
    assert inputs.shape == (32, 4)
    assert len(targets.unique()) == 3  # the first 50 of the set are all of one class
    assert torch.equal(inputs, load("iris", batch_size=32).batch[0])
    assert not torch.equal(inputs, load("iris", batch_size=32, seed=1).batch[0])


def test_batches_cover_the_set_once_in_full_batches() -> None:
    batches = list(load("iris", batch_size=32).batches or ())
    assert [len(x) for x, _ in batches] == [32] * 4
    rows = torch.cat([x for x, _ in batches])
    assert len(rows.unique(dim=0)) >= 120  # iris holds a few samples twice


def test_a_set_smaller_than_a_batch_is_one_batch(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(15.0).reshape(5, 3), y=np.arange(5))
    data = load(str(tmp_path / "a.npz"))
    assert data.batch[1].sort().values.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(data.batch[0][:, 0], 3.0 * data.batch[1])  # rows stay together


def test_named_arrays_are_drawn_together(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", query=np.arange(11), key=np.arange(11) * 2)
    batch = load(str(tmp_path / "a.npz")).batch
    assert torch.equal(batch["key"], 2 * batch["query"])
    assert len(batch["query"]) == 7


def test_arrays_of_different_lengths_are_one_batch(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", source=np.ones(11), target=np.ones(5))
    data = load(str(tmp_path / "a.npz"))
    assert (len(data.batch["source"]), data.batches) == (11, None)
    np.savez(tmp_path / "b.npz", temperature=np.float64(3.0))
    assert load(str(tmp_path / "b.npz")).batch["temperature"] == 3


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(5, 3),
        (torch.ones(5, 3), torch.ones(5)),
        [torch.ones(5, 3), torch.ones(5)],
        {"x": torch.ones(5, 3)},
        ((torch.ones(5, 3), torch.ones(5, 2)), torch.ones(5)),
    ],
)
def test_a_batch_is_told_from_batches(value: object) -> None:
    data = _batches.split(value, "f")
    assert data.batches is None
    assert not isinstance(data.batch, list)


def test_a_loader_starts_anew_and_a_generator_loses_nothing(folder: Path) -> None:
    samples = torch.utils.data.TensorDataset(torch.arange(12.0)[:, None], torch.arange(12))
    data = _batches.split(torch.utils.data.DataLoader(samples, batch_size=5), "f")
    assert data.batch[1].tolist() == [0, 1, 2, 3, 4]
    assert [len(y) for _, y in data.batches or ()] == [5, 5, 2]
    data = load("net.py:batches")
    assert [len(y) for _, y in data.batches or ()] == [5, 3]


def test_data_goes_where_the_model_is() -> None:
    model = nn.Linear(3, 5).double()
    batch = {"x": torch.ones(2, 3), "ids": torch.ones(2).long(), "more": (torch.ones(2), "word")}
    data = _batches.fit(_batches.Data(batch, [batch], cast=True), model, None)
    for moved in (data.batch, *(data.batches or ())):
        assert moved["x"].dtype is torch.float64
        assert moved["ids"].dtype is torch.int64
        assert moved["more"][0].dtype is torch.float64
        assert moved["more"][1] == "word"


def test_a_factorys_batch_keeps_its_type_unless_one_is_asked_for() -> None:
    model = nn.Linear(3, 5).double()
    data = _batches.Data(torch.ones(2, 3))
    assert _batches.fit(data, model, None).batch.dtype is torch.float32
    assert _batches.fit(data, model, torch.float64).batch.dtype is torch.float64
    assert _batches.fit(data, nn.ReLU(), None).batch.dtype is torch.float32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digts", r"--data: no data set is named 'digts'; did you mean digits.*; or name a file"),
        ("none.npz", r"none.npz: no such file"),
        ("net.py", r"net.py: cannot read .py"),
        ("net.py:number", r"--data net.py:number: gave type int; give a batch"),
        ("builtins:list", r"--data builtins:list: is empty; it must give at least one batch"),
        ("net.py:of_width", r"needs the arguments width"),
        ("nte.py:batches", r"--data: nte.py: no such file"),
    ],
)
def test_wrong_data_is_refused(folder: Path, text: str, message: str) -> None:
    with pytest.raises((DataError, TargetError), match=message):
        load(text)


def test_batches_that_raise_are_told_by_line(folder: Path) -> None:
    (folder / "bad.py").write_text("def batches():\n    yield 1 / 0\n")
    with pytest.raises(TargetError, match=r"bad.py:2: drawing its first batch raised ZeroDiv"):
        load("bad.py:batches")
