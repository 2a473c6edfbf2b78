"""Data sets at hand without a download: scikit-learn's bundled ones, and files of arrays."""

import ast
import difflib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isograd.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

_LOADERS = {
    "breast-cancer": "load_breast_cancer",
    "diabetes": "load_diabetes",
    "digits": "load_digits",
    "iris": "load_iris",
    "wine": "load_wine",
}

_PAIRS = (("x", "y"), ("X", "y"), ("X", "Y"), ("inputs", "targets"))
"""Names under which a file holds inputs and targets."""


def names() -> tuple[str, ...]:
    """Every name that `load` knows; `-raw` is the same set as it was collected."""
    return tuple(sorted([*_LOADERS, *(f"{name}-raw" for name in _LOADERS)]))


def load(name: str) -> tuple["Tensor", "Tensor"]:
    """Inputs and targets of a bundled data set.

    Every input column has mean 0 and standard deviation 1 over the set (a constant column is
    all 0), and so have the targets of a regression; a `-raw` set is left as it was collected.

    Args:
        name: one of `names()`.

    Returns:
        Inputs [samples, features], float32; and class numbers [samples], int64, or for a
        regression (diabetes) targets [samples, 1], float32.

    Raises:
        DataError: there is no such set, or scikit-learn is missing.
    """
    if name not in names():
        raise DataError(unknown(name))
    try:
        import sklearn.datasets
    except ImportError as error:
        raise DataError(
            f"data set {name!r}: scikit-learn is missing ({error}); "
            "install it with: pip install 'isograd[data]'"
        ) from error
    import torch

    base = name.removesuffix("-raw")
    if base == "diabetes":
        x, y = sklearn.datasets.load_diabetes(return_X_y=True, scaled=False)
    else:
        x, y = getattr(sklearn.datasets, _LOADERS[base])(return_X_y=True)
    inputs, targets = torch.tensor(x), torch.tensor(y)
    if targets.is_floating_point():
        targets = targets[:, None]
    if not name.endswith("-raw"):
        inputs = _standardize(inputs)
        targets = _standardize(targets) if targets.is_floating_point() else targets
    return inputs.float(), targets.float() if targets.is_floating_point() else targets.long()


def unknown(name: str) -> str:
    """What to say of a name that `load` does not know, the nearest ones included."""
    close = difflib.get_close_matches(name, names(), n=3)
    advice = f"did you mean {' or '.join(close)}" if close else f"there is {', '.join(names())}"
    return f"no data set is named {name!r}; {advice}"


def from_file(path: str | Path) -> Any:
    """Tensors from an `.npz` or `.safetensors` file; nothing in it is ever executed.

    Args:
        path: a file that holds arrays `x` and `y`, or `inputs` and `targets`, or arrays named
            like the arguments of the model's forward.

    Returns:
        `(inputs, targets)`; the inputs alone where there are no targets; otherwise a dict of all
        arrays.

    Raises:
        DataError: no such file, another format, damaged, holding Python objects, empty, or with
            inputs and targets of different lengths.
    """
    path = Path(path)
    check_file(path)
    read = _read_npz if path.suffix == ".npz" else _read_safetensors
    return _pair_up(read(path), path)


def check_file(path: Path) -> None:
    """Refuses a file that `from_file` cannot read, by its header and without torch or numpy.

    Raises:
        DataError: no such file, another format, damaged, or holding Python objects.
    """
    checks = {".npz": _check_npz, ".safetensors": _check_safetensors}
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file (looked in {Path.cwd()})")
    if path.suffix not in checks:
        raise DataError(
            f"{path}: cannot read {path.suffix or 'a file without suffix'}; save the arrays with "
            "numpy.savez(file, x=…, y=…) as .npz, or as .safetensors"
        )
    checks[path.suffix](path)


def _standardize(x: "Tensor") -> "Tensor":
    """Columns of x [samples, features] at mean 0 and standard deviation 1; constant ones at 0."""
    deviation = x.std(dim=0, correction=0)
    return (x - x.mean(dim=0)) / deviation.where(deviation > 0, 1)


def _check_npz(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as file:
                    holds_objects = "O" in str(_npy_header(file.read(4096))["descr"])
                if holds_objects:
                    raise DataError(
                        f"{path}: {member} holds pickled Python objects, which are not loaded "
                        "because a pickle can run any code; save plain arrays of numbers"
                    )
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, SyntaxError) as error:
        raise DataError(
            f"{path}: not a readable .npz file ({error}); write it with numpy.savez"
        ) from error


def _read_npz(path: Path) -> dict[str, "Tensor"]:
    import numpy as np
    import torch

    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                arrays[name] = torch.from_numpy(archive[name])
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: an array in it cannot be used: {error}") from error
    return arrays


def _npy_header(start: bytes) -> Mapping[str, Any]:
    """The header of the .npy format, versions 1 to 3: a Python dict after 10 or 12 bytes."""
    if start[:6] != b"\x93NUMPY":
        raise ValueError("it holds something else than arrays")
    version_1 = start[6] == 1
    offset, width = (10, 2) if version_1 else (12, 4)
    length = int.from_bytes(start[8 : 8 + width], "little")
    header = ast.literal_eval(start[offset : offset + length].decode("utf-8").strip())
    if not isinstance(header, dict):
        raise ValueError("an array has no header")
    return header


def _check_safetensors(path: Path) -> None:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise DataError(
            f"{path}: the safetensors package is missing ({error}); "
            "install it with: pip install 'isograd[safetensors]'"
        ) from error
    try:
        with safe_open(path, framework="np"):  # reads the header, which holds all sizes
            pass
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a readable .safetensors file ({error})") from error


def _read_safetensors(path: Path) -> dict[str, "Tensor"]:
    from safetensors.torch import load_file

    return dict(load_file(path))


def _pair_up(arrays: Mapping[str, "Tensor"], path: Path) -> Any:
    if not arrays:
        raise DataError(f"{path}: holds no array; it needs x and y")
    for first, second in _PAIRS:
        if set(arrays) == {first}:
            return arrays[first]
        if set(arrays) == {first, second}:
            x, y = arrays[first], arrays[second]
            if x.shape[:1] != y.shape[:1]:
                raise DataError(
                    f"{path}: {first} has shape {tuple(x.shape)} and {second} {tuple(y.shape)}; "
                    "the first axis counts the samples and must be equal"
                )
            return x, y
    return dict(arrays)
