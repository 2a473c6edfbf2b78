"""Labeled images by name: scikit-learn's digits; MNIST, Fashion-MNIST, CIFAR-10 from a folder.

Folders are looked for in $ISOGRAD_DATA, then where `isograd lab fetch` puts them.
"""

import gzip
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isograd.datasets import load as load_bundled
from isograd.errors import DataError
from isograd.lab import fetching

Bytes = NDArray[np.uint8]

BUNDLED = ("digits", "iris", "wine", "breast-cancer")
"""Sets that come with scikit-learn."""
FOLDERS = tuple(fetching.FILES)
"""Sets that are read from a folder."""
_TEST_SHARE = 5
"""One in five samples of a bundled set is kept for testing."""


@dataclass(frozen=True)
class Images:
    """A data set as it was collected; `inputs` and `test_inputs` [n, ...], float32, raw units."""

    name: str
    inputs: Tensor
    labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    largest: float
    """The largest value that an input can have: 255 for bytes, 16 for digits; 1 for features."""

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.labels.max()) + 1

    @property
    def size(self) -> int:
        """Numbers per sample."""
        return self.inputs[0].numel()

    def take(self, train: int, test: int | None = None) -> "Images":
        """The first samples only; every set is in a shuffled order, always the same."""
        return self._with(
            self.inputs[:train],
            self.test_inputs[:test],
            self.labels[:train],
            self.test_labels[:test],
        )

    def flat(self) -> "Images":
        """Samples as vectors, [n, size]."""
        return self._with(self.inputs.flatten(1), self.test_inputs.flatten(1))

    def scaled(self) -> "Images":
        """Inputs from 0 to 1."""
        return self._with(self.inputs / self.largest, self.test_inputs / self.largest)

    def standardized(self) -> "Images":
        """Mean 0 and standard deviation 1 over all training inputs; tests by the same numbers."""
        mean, std = self.inputs.mean(), self.inputs.std()
        return self._with((self.inputs - mean) / std, (self.test_inputs - mean) / std)

    def to(self, device: torch.device | str) -> "Images":
        """On another device."""
        moved = (
            x.to(device) for x in (self.inputs, self.test_inputs, self.labels, self.test_labels)
        )
        return self._with(*moved)

    def batches(self, steps: int, size: int, *, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Random batches, epoch after epoch, every epoch in another order.

        Yields:
            Inputs [size, ...] and labels [size], `steps` times.
        """
        stream = torch.Generator().manual_seed(seed)
        count = len(self.labels)
        size = min(size, count)
        order = torch.empty(0, dtype=torch.int64)
        for _ in range(steps):
            if len(order) < size:
                order = torch.randperm(count, generator=stream)
            chosen, order = order[:size].to(self.labels.device), order[size:]
            yield self.inputs[chosen], self.labels[chosen]

    def _with(
        self,
        inputs: Tensor,
        test_inputs: Tensor,
        labels: Tensor | None = None,
        test_labels: Tensor | None = None,
    ) -> "Images":
        return Images(
            self.name,
            inputs,
            self.labels if labels is None else labels,
            test_inputs,
            self.test_labels if test_labels is None else test_labels,
            self.largest,
        )


def available(name: str) -> bool:
    """Whether a data set is at hand without a download."""
    return name in BUNDLED or _folder(name) is not None


@lru_cache(maxsize=2)  # the experiments of one process mostly share one set
def load(name: str) -> Images:
    """A data set by name.

    Raises:
        DataError: no such set, not at hand, or a damaged file.
    """
    if name in BUNDLED:
        return _bundled(name)
    if name not in FOLDERS:
        known = ", ".join((*BUNDLED, *FOLDERS))
        raise DataError(f"the lab has no data set {name!r}; there is {known}")
    folder = _folder(name)
    if folder is None:
        raise DataError(absent(name))
    reader = _READERS[next(form for form, mark in _MARKS[name] if _present(folder, mark))]
    try:
        x, y, xe, ye = reader(folder)
    except (OSError, ValueError, KeyError, struct.error, EOFError) as error:
        raise DataError(f"{folder}: cannot be read as {name}: {error}") from error
    if len(x) != len(y) or len(xe) != len(ye):
        raise DataError(
            f"{folder}: {len(x)} and {len(xe)} images for {len(y)} and {len(ye)} labels"
        )
    parts: list[Tensor] = []
    for images, numbers in ((x, y), (xe, ye)):
        order = _order(len(numbers)).numpy()  # some files are sorted by class
        parts += [torch.from_numpy(images[order].astype(np.float32))]
        parts += [torch.from_numpy(numbers[order].astype(np.int64))]
    inputs, labels, test_inputs, test_labels = parts
    return Images(name, inputs, labels, test_inputs, test_labels, 255.0)


def absent(name: str) -> str:
    """What to say of a data set that is not at hand."""
    size = fetching.MEGABYTES[name]
    return (
        f"{name} is not here; set ISOGRAD_DATA to a folder that holds {name}/ "
        f"({', or '.join(mark for _, mark in _MARKS[name])}), or run "
        f"`isograd lab fetch {name}` ({size} MB)"
    )


_MARKS = {
    "mnist": (("npz", "train.npz"), ("idx", "train-images-idx3-ubyte*")),
    "fashion-mnist": (("npz", "train.npz"), ("idx", "train-images-idx3-ubyte*")),
    "cifar10": (
        ("npz", "train.npz"),
        ("sheets", "train-00.webp"),
        ("records", "cifar-10-batches-bin/data_batch_1.bin"),
    ),
}
"""Per set, the forms it may have, each with the file that tells it."""


def _present(folder: Path, mark: str) -> bool:
    return next(folder.glob(mark), None) is not None


def _folder(name: str) -> Path | None:
    roots = [os.environ.get("ISOGRAD_DATA"), fetching.home()]
    for root in roots:
        if root and any(_present(Path(root) / name, mark) for _, mark in _MARKS.get(name, ())):
            return Path(root) / name
    return None


def _order(count: int) -> Tensor:
    """A shuffled order, always the same."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def _bundled(name: str) -> Images:
    inputs, labels = load_bundled(f"{name}-raw")
    order = _order(len(labels))
    inputs, labels = inputs[order], labels[order]
    if name == "digits":
        inputs = inputs.view(-1, 1, 8, 8)
    held = len(labels) // _TEST_SHARE
    return Images(
        name,
        inputs[held:],
        labels[held:],
        inputs[:held],
        labels[:held],
        16.0 if name == "digits" else 1.0,
    )


Arrays = tuple[Bytes, Bytes, Bytes, Bytes]


def _npz(folder: Path) -> Arrays:
    parts = []
    for part in ("train", "test"):
        with np.load(folder / f"{part}.npz", allow_pickle=False) as file:
            x, y = file["x"], file["y"]
        parts += [x[:, None] if x.ndim == 3 else x, y]
    return parts[0], parts[1], parts[2], parts[3]


def _idx(folder: Path) -> Arrays:
    parts = []
    for part in ("train", "t10k"):
        parts += [_idx_file(folder, f"{part}-images-idx3-ubyte")[:, None]]
        parts += [_idx_file(folder, f"{part}-labels-idx1-ubyte")]
    return parts[0], parts[1], parts[2], parts[3]


def _idx_file(folder: Path, name: str) -> Bytes:
    """The idx format: two zero bytes, the type, the number of axes, their lengths, the values."""
    packed = folder / f"{name}.gz"
    raw = gzip.decompress(packed.read_bytes()) if packed.is_file() else (folder / name).read_bytes()
    zero, kind, axes = struct.unpack(">HBB", raw[:4])
    if zero or kind != 8:
        raise ValueError(f"{name} is no idx file of bytes")
    shape = struct.unpack(f">{axes}I", raw[4 : 4 + 4 * axes])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _sheets(folder: Path) -> Arrays:
    """Sheets of 50 x 50 color images of 32 x 32, row by row, lossless WebP."""
    from PIL import Image

    parts: list[Bytes] = []
    for part in ("train", "test"):
        images = []
        for path in sorted(folder.glob(f"{part}-*.webp")):
            with Image.open(path) as sheet:
                pixels = np.asarray(sheet.convert("RGB")).reshape(50, 32, 50, 32, 3)
            images.append(pixels.transpose(0, 2, 4, 1, 3).reshape(2500, 3, 32, 32))
        parts += [
            np.concatenate(images),
            np.load(folder / f"{part}-labels.npy", allow_pickle=False),
        ]
    return parts[0], parts[1], parts[2], parts[3]


def _records(folder: Path) -> Arrays:
    """CIFAR-10's binary version: a byte of label and 3072 of image, 10,000 times a file."""
    parts: list[Bytes] = []
    for names in ([f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]):
        paths = [folder / "cifar-10-batches-bin" / f"{name}.bin" for name in names]
        rows = np.concatenate([np.fromfile(path, np.uint8).reshape(-1, 3073) for path in paths])
        parts += [rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]]
    return parts[0], parts[1], parts[2], parts[3]


_READERS: dict[str, Callable[[Path], Arrays]] = {
    "npz": _npz,
    "idx": _idx,
    "sheets": _sheets,
    "records": _records,
}
