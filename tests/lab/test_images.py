"""Data sets in every form they are read from, against arrays made here."""

import gzip
import http.server
import struct
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from isograd.errors import DataError
from isograd.lab import fetching, images

Bytes = NDArray[np.uint8]


def draw(*shape: int, seed: int, top: int = 256) -> Bytes:
    return np.random.default_rng(seed).integers(0, top, shape, dtype=np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ISOGRAD_DATA", str(tmp_path))
    monkeypatch.setattr(fetching, "home", lambda: None)
    images.load.cache_clear()
    yield tmp_path
    images.load.cache_clear()


X, Y = draw(7, 28, 28, seed=0), draw(7, seed=1, top=10)
XE, YE = draw(3, 28, 28, seed=2), draw(3, seed=3, top=10)


def assert_read(name: str, x: Bytes, y: Bytes, xe: Bytes, ye: Bytes) -> None:
    """The same pairs of image and label, whatever their order."""
    read = images.load(name)
    for inputs, labels, wanted, classes in (
        (read.inputs, read.labels, x, y),
        (read.test_inputs, read.test_labels, xe, ye),
    ):
        assert inputs.shape == wanted.shape
        assert pairs(inputs.numpy(), labels.numpy()) == pairs(wanted, classes)


def pairs(x: NDArray[Any], y: NDArray[Any]) -> list[tuple[bytes, int]]:
    return sorted((a.astype(np.uint8).tobytes(), int(b)) for a, b in zip(x, y, strict=True))


def test_npz(folder: Path) -> None:
    (folder / "mnist").mkdir()
    np.savez(folder / "mnist" / "train.npz", x=X, y=Y)
    np.savez(folder / "mnist" / "test.npz", x=XE, y=YE)
    assert_read("mnist", X[:, None], Y, XE[:, None], YE)


@pytest.mark.parametrize("packed", [True, False])
def test_idx(folder: Path, packed: bool) -> None:
    made = folder / "fashion-mnist"
    made.mkdir()
    for part, x, y in (("train", X, Y), ("t10k", XE, YE)):
        for kind, values in ((f"{part}-images-idx3-ubyte", x), (f"{part}-labels-idx1-ubyte", y)):
            head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
            raw = head + values.tobytes()
            if packed:
                (made / f"{kind}.gz").write_bytes(gzip.compress(raw))
            else:
                (made / kind).write_bytes(raw)
    assert_read("fashion-mnist", X[:, None], Y, XE[:, None], YE)


def test_sheets(folder: Path) -> None:
    from PIL import Image

    made = folder / "cifar10"
    made.mkdir()
    for part, sheets in (("train", 2), ("test", 1)):
        x = draw(sheets, 2500, 3, 32, 32, seed=sheets)
        for index, sheet in enumerate(x):
            grid = sheet.reshape(50, 50, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(1600, 1600, 3)
            Image.fromarray(grid).save(made / f"{part}-{index:02}.webp", lossless=True)
        np.save(made / f"{part}-labels.npy", draw(2500 * sheets, seed=9, top=10))
    train, test = (draw(n, 2500, 3, 32, 32, seed=n).reshape(-1, 3, 32, 32) for n in (2, 1))
    labels = [draw(len(x), seed=9, top=10) for x in (train, test)]
    assert_read("cifar10", train, labels[0], test, labels[1])


def test_a_sorted_file_is_shuffled(folder: Path) -> None:
    (folder / "mnist").mkdir()
    classes = np.repeat(np.arange(10, dtype=np.uint8), 30)
    for part in ("train", "test"):
        np.savez(folder / "mnist" / f"{part}.npz", x=draw(300, 2, 2, seed=1), y=classes)
    assert len(set(images.load("mnist").take(30).labels.tolist())) > 5


def records(folder: Path) -> tuple[Bytes, Bytes]:
    folder.mkdir(parents=True)
    x, y = draw(12, 3, 32, 32, seed=5), draw(12, seed=6, top=10)
    rows = np.concatenate([y[:, None], x.reshape(12, -1)], 1)
    for index in range(5):
        rows[2 * index : 2 * index + 2].tofile(folder / f"data_batch_{index + 1}.bin")
    rows[10:].tofile(folder / "test_batch.bin")
    return x, y


def test_records(folder: Path) -> None:
    x, y = records(folder / "cifar10" / "cifar-10-batches-bin")
    assert_read("cifar10", x[:10], y[:10], x[10:], y[10:])


def test_what_cannot_be_read(folder: Path) -> None:
    with pytest.raises(DataError, match=r"mnist is not here; set ISOGRAD_DATA.*lab fetch mnist"):
        images.load("mnist")
    (folder / "mnist").mkdir()
    (folder / "mnist" / "train.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read as mnist"):
        images.load("mnist")
    np.savez(folder / "mnist" / "train.npz", x=X, y=YE)
    np.savez(folder / "mnist" / "test.npz", x=XE, y=YE)
    with pytest.raises(DataError, match="7 and 3 images for 3 and 3 labels"):
        images.load("mnist")
    with pytest.raises(DataError, match="no data set 'imagenet'; there is digits"):
        images.load("imagenet")


def test_fetching_checks_the_sum_and_unpacks(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    served = tmp_path / "served"
    records(served / "cifar-10-batches-bin")
    with tarfile.open(served / "made.tar.gz", "w:gz") as archive:
        archive.add(served / "cifar-10-batches-bin", "cifar-10-batches-bin")
    checksum = hashlib.md5((served / "made.tar.gz").read_bytes()).hexdigest()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/made.tar.gz"
        monkeypatch.setitem(fetching.FILES, "cifar10", {address: f"md5:{'0' * 32}"})
        with pytest.raises(DataError, match="cifar10 cannot be fetched"):
            fetching.fetch("cifar10", folder)
        monkeypatch.setitem(fetching.FILES, "cifar10", {address: f"md5:{checksum}"})
        assert fetching.fetch("cifar10", folder) == folder / "cifar10"
        server.shutdown()
    assert len(images.load("cifar10").labels) == 10
    with pytest.raises(DataError, match="no data set 'digits' to fetch"):
        fetching.fetch("digits")


def test_digits_are_split_once_and_for_all() -> None:
    read = images.load("digits")
    assert read.inputs.shape == (1438, 1, 8, 8)
    assert read.test_inputs.shape == (359, 1, 8, 8)
    assert (read.classes, read.size, float(read.inputs.max())) == (10, 64, 16.0)
    whole = read.standardized()
    assert abs(float(whole.inputs.mean())) < 1e-5
    assert abs(float(whole.inputs.std()) - 1) < 1e-5
    assert float(read.scaled().inputs.max()) == 1.0
    assert read.flat().take(5).inputs.shape == (5, 64)


def test_batches_are_an_epoch_in_another_order() -> None:
    read = images.load("digits").take(10)
    batches = list(read.batches(4, 5, seed=1))
    first = torch.cat([x for x, _ in batches[:2]])
    second = torch.cat([x for x, _ in batches[2:]])
    assert not torch.equal(first, second)
    assert torch.equal(first.sum(0), second.sum(0))
    again = list(read.batches(4, 5, seed=1))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(batches, again, strict=True))
