"""datasets: bundled sets are standardized, files are read without running anything in them."""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from isograd import datasets
from isograd.errors import DataError

SHAPES = {
    "breast-cancer": (569, 30, 2),
    "diabetes": (442, 10, None),
    "digits": (1797, 64, 10),
    "iris": (150, 4, 3),
    "wine": (178, 13, 3),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_bundled_set_is_standardized(name: str) -> None:
    samples, features, classes = SHAPES[name]
    x, y = datasets.load(name)
    assert (x.shape, x.dtype) == ((samples, features), torch.float32)
    moments = x.double().var(dim=0, correction=0)
    constant = datasets.load(f"{name}-raw")[0].var(dim=0) == 0
    torch.testing.assert_close(moments, (~constant).double(), atol=1e-5, rtol=0)
    assert x.mean(dim=0).abs().max() < 1e-5
    if classes is None:
        assert (y.shape, y.dtype) == ((samples, 1), torch.float32)
        assert y.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    else:
        assert y.dtype == torch.int64
        assert y.unique().tolist() == list(range(classes))


def test_a_raw_set_is_left_as_it_was_collected() -> None:
    x, y = datasets.load("diabetes-raw")
    assert x[:, 0].min() == 19  # years of age
    assert y.max() == 346
    assert datasets.load("digits-raw")[0].max() == 16  # gray levels


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(DataError, match=r"no data set is named 'digts'; did you mean digits"):
        datasets.load("digts")
    with pytest.raises(DataError, match=r"there is breast-cancer, .*wine-raw"):
        datasets.load("qqq")


def test_missing_scikit_learn_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"pip install 'isograd\[data\]'"):
        datasets.load("iris")


def test_npz_with_inputs_and_targets(tmp_path: Path) -> None:
    x, y = np.arange(15.0).reshape(5, 3), np.arange(5)
    for names in (("x", "y"), ("X", "y"), ("X", "Y"), ("inputs", "targets")):
        np.savez(tmp_path / "a.npz", **dict(zip(names, (x, y), strict=True)))
        inputs, targets = datasets.from_file(tmp_path / "a.npz")
        assert inputs.tolist() == x.tolist()
        assert targets.tolist() == y.tolist()


def test_npz_with_inputs_alone_and_with_named_arguments(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.ones((5, 3)))
    assert datasets.from_file(tmp_path / "a.npz").shape == (5, 3)
    np.savez(tmp_path / "b.npz", query=np.ones((5, 3)), key=np.ones((5, 7)))
    assert {k: tuple(v.shape) for k, v in datasets.from_file(tmp_path / "b.npz").items()} == {
        "query": (5, 3),
        "key": (5, 7),
    }


def test_safetensors_keep_their_number_format(tmp_path: Path) -> None:
    x = torch.randn(5, 3).bfloat16()
    save_file({"x": x, "y": torch.arange(5)}, tmp_path / "a.safetensors")
    inputs, targets = datasets.from_file(tmp_path / "a.safetensors")
    assert torch.equal(inputs, x)
    assert targets.tolist() == [0, 1, 2, 3, 4]


def test_a_pickle_in_an_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object), y=np.ones(1))
    with pytest.raises(DataError, match=r"evil.npz: x.npy holds pickled Python objects"):
        datasets.from_file(path)


def _archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _truncated_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ones((100, 3)))
    return buffer.getvalue()[:500]


def _strings() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array(["a", "b"]))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", b"no zip", "not a readable .npz file"),
        ("a.npz", b"", "not a readable .npz file"),
        ("a.npz", _archive(x=b"plain text"), "something else than arrays"),
        ("a.npz", _archive(x=b"\x93NUMPY\x01\x00\x00\x00"), "not a readable .npz file"),
        ("a.npz", _archive(x=b"\x93NUMPY\x01\x00\x02\x00[]"), "an array has no header"),
        ("a.npz", _archive(**{"x.npy": _truncated_array()}), "an array in it cannot be used"),
        ("a.npz", _archive(), "holds no array"),
        ("a.npz", _strings(), "an array in it cannot be used"),
        ("a.safetensors", b"\xff" * 64, "not a readable .safetensors file"),
        ("a.csv", b"1,2", r"cannot read \.csv"),
        ("data", b"1,2", "cannot read a file without suffix"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        datasets.from_file(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_lengths_that_differ_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((5, 3)), y=np.ones(4))
    with pytest.raises(DataError, match=r"x has shape \(5, 3\) and y \(4,\)"):
        datasets.from_file(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"b\.npz: no such file"):
        datasets.from_file(tmp_path / "b.npz")
