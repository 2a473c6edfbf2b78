"""--data: one batch to look at, and the batches of a rehearsal."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from isograd import datasets
from isograd.cli import _targets
from isograd.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

_FILES = (".npz", ".safetensors")


@dataclass(frozen=True)
class Data:
    """One batch, and all batches to train on where there are more."""

    batch: Any
    batches: Iterable[Any] | None = None
    cast: bool = False
    """Whether its floating-point numbers take the model's type: a file of float64 is no wish."""


def source(text: str, *, batch_size: int, seed: int) -> Callable[[], Data]:
    """Judges --data now, and loads it when called.

    Args:
        text: a built-in name, a file, or a target that returns a batch or batches.
        batch_size: samples per batch drawn from a built-in set or a file.
        seed: of the order in which they are drawn.

    Raises:
        DataError: neither a known name, nor a file, nor a target.
        TargetError: a target that cannot be found.
    """
    if text in datasets.names():
        return lambda: _draw(datasets.load(text), batch_size=batch_size, seed=seed)
    if text.endswith(_FILES) or os.path.isfile(text):
        datasets.check_file(Path(text))
        return lambda: _draw(datasets.from_file(text), batch_size=batch_size, seed=seed)
    if ":" in text:
        target = _targets.locate(text, "--data")
        return lambda: _from_target(target)
    raise DataError(f"--data: {datasets.unknown(text)}; or name a file, or module:factory")


def split(value: Any, text: str) -> Data:
    """Tells a batch from an iterable of batches, and takes the first of the latter.

    A tensor, a mapping, a tuple, and a list of tensors are one batch.

    Raises:
        DataError: it is neither, or is empty.
    """
    import torch

    if isinstance(value, (torch.Tensor, Mapping, tuple)) or (
        isinstance(value, list) and value and all(isinstance(v, torch.Tensor) for v in value)
    ):
        return Data(tuple(value) if isinstance(value, list) else value)
    if not isinstance(value, Iterable):
        raise DataError(
            f"--data {text}: gave type {type(value).__name__}; give a batch (a tensor, "
            "(inputs, targets) or a dict), an iterable of batches or a DataLoader"
        )
    stream = iter(value)
    try:
        first = next(stream)
    except StopIteration:
        raise DataError(f"--data {text}: is empty; it must give at least one batch") from None
    first = tuple(first) if isinstance(first, list) else first
    # An iterator would be missing the batch just taken; anything else starts anew.
    return Data(first, itertools.chain([first], stream) if stream is value else value)


def fit(data: Data, model: Any, dtype: Any) -> Data:
    """Puts the data where the model is, in the model's floating-point type if need be.

    Args:
        data: what was loaded.
        model: the model, in place.
        dtype: the type asked for; `None` for what the data has.
    """
    import torch

    tensors = list(itertools.chain(model.parameters(), model.buffers()))
    device = tensors[0].device if tensors else torch.device("cpu")
    if data.cast and dtype is None:
        dtype = next((t.dtype for t in tensors if t.is_floating_point()), None)

    def move(tensor: "Tensor") -> "Tensor":
        return tensor.to(device, dtype if tensor.is_floating_point() else None)

    batches = None if data.batches is None else _Moved(data.batches, move)
    return Data(_each(data.batch, move), batches)


def unplaced(data: Data) -> Any:
    """The batch for a model that is not built yet: in torch's default type if need be."""
    import torch

    def move(tensor: "Tensor") -> "Tensor":
        return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor

    return _each(data.batch, move) if data.cast else data.batch


@dataclass(frozen=True)
class _Moved:
    """Batches that are moved as they are drawn."""

    batches: Iterable[Any]
    move: Callable[["Tensor"], "Tensor"]

    def __iter__(self) -> Iterator[Any]:
        return (_each(batch, self.move) for batch in self.batches)


def _each(value: Any, function: Callable[["Tensor"], "Tensor"]) -> Any:
    """Applies a function to every tensor of a batch; what is no container is left alone."""
    import torch

    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _each(item, function) for key, item in value.items()}
    if type(value) in (list, tuple):
        return tuple(_each(item, function) for item in value)
    return value


def _from_target(target: _targets.Target) -> Data:
    made = _targets.factory(target, _targets.load(target))
    return cast(
        Data, _targets.call(target, "drawing its first batch", lambda: split(made, target.text))
    )


def _draw(value: Any, *, batch_size: int, seed: int) -> Data:
    """Batches in random order: a set sorted by class would give a batch of one class."""
    import torch

    parts = list(value.values()) if isinstance(value, dict) else _tuple(value)
    lengths = {part.shape[0] if part.ndim else 0 for part in parts}
    if len(lengths) != 1 or 0 in lengths:
        return Data(value, cast=True)  # nothing to draw from, or arrays that belong together
    samples = lengths.pop()
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    # The rest that does not fill a batch is left out: its numbers would be noisier.
    ends = range(batch_size, samples + 1, batch_size) if samples >= batch_size else [samples]
    chunks = [order[max(end - batch_size, 0) : end] for end in ends]
    batches = [_each(value, partial(_rows, chunk=chunk)) for chunk in chunks]
    return Data(batches[0], batches, cast=True)


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _rows(part: "Tensor", *, chunk: "Tensor") -> "Tensor":
    return part[chunk]
