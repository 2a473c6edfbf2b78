"""What a batch is: how the model is called with it, and which targets come with it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isograd.errors import DataError, a_kind

LABEL_KEYS = ("labels", "label", "targets", "target", "y")


@dataclass(frozen=True)
class Batch:
    """One batch, taken apart."""

    args: tuple[Any, ...]
    """Positional arguments of the model."""
    kwargs: Mapping[str, Any]
    """Keyword arguments of the model."""
    targets: Any = None
    """What the loss compares with; `None` without targets."""

    def call(self, model: nn.Module) -> Any:
        """The model's output for this batch."""
        return model(*self.args, **self.kwargs)

    def inputs(self) -> list[Tensor]:
        """Every tensor that goes into the model, labels left out."""
        named = [value for key, value in self.kwargs.items() if key not in LABEL_KEYS]
        return list(tensors((self.args, named)))

    @property
    def size(self) -> int:
        """Number of samples: length of the first input's first axis, 1 for a scalar."""
        first = next(iter(self.inputs()), None)
        return 1 if first is None or first.ndim == 0 else first.shape[0]


def as_batch(batch: Any) -> Batch:
    """Takes a batch apart.

    Args:
        batch: a tensor; a mapping, called as `model(**batch)`; or a pair `(inputs, targets)`
            whose inputs are a tensor, a sequence (positional) or a mapping (keywords). A
            sequence of one is inputs without targets.

    Raises:
        DataError: it is none of these.
    """
    if isinstance(batch, Batch):  # taken apart already
        return batch
    if isinstance(batch, Tensor):
        return Batch((batch,), {})
    if isinstance(batch, Mapping) or (hasattr(batch, "keys") and hasattr(batch, "__getitem__")):
        kwargs = {str(key): batch[key] for key in batch.keys()}  # noqa: SIM118  # UserDict-likes
        labels = next((kwargs[key] for key in LABEL_KEYS if key in kwargs), None)
        return Batch((), kwargs, labels)
    if isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) in (1, 2):
        inner = _inputs(batch[0])
        targets = batch[1] if len(batch) == 2 else None
        return Batch(inner.args, inner.kwargs, targets)
    found = a_kind(batch)
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        found += f" of {len(batch)}"
    if isinstance(batch, Iterable) and not isinstance(batch, (str, Sequence, np.ndarray)):
        raise DataError(
            f"batch: {found} yields batches; take one, next(iter(loader)), and pass the loader "
            "itself as data="
        )
    raise DataError(
        f"batch: expected a tensor, a dict or a pair (inputs, targets), found {found}; several "
        "inputs go into the first place of the pair: ((a, b), targets)"
    )


def beside(batch: Any, model: Any) -> Any:
    """The batch where the model is: loaders yield tensors of the CPU, whatever trains on them.

    Left as it is where the parameters are on the CPU, on several devices or on none.
    """
    return sent(batch, place_of(model))


def place_of(model: Any) -> torch.device | None:
    """The device that batches have to be sent to, if any."""
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    places = {parameter.device for parameter in parameters}
    if len(places) != 1 or {place.type for place in places} <= {"cpu", "meta"}:
        return None
    return places.pop()


def sent(value: Any, device: torch.device | None) -> Any:
    """A batch on a device; left as it is where there is none."""
    if device is None:
        return value
    if isinstance(value, Tensor):
        return value.to(device) if value.device.type == "cpu" else value
    if isinstance(value, Mapping) or (hasattr(value, "keys") and hasattr(value, "__getitem__")):
        return {key: sent(value[key], device) for key in value.keys()}  # noqa: SIM118  # as above
    if callable(getattr(value, "to", None)):  # packed sequences
        return value.to(device)
    if isinstance(value, (list, tuple)):
        return [sent(item, device) for item in value]
    return value


def _inputs(inputs: Any) -> Batch:
    if isinstance(inputs, Tensor):
        return Batch((inputs,), {})
    if isinstance(inputs, Mapping):
        return Batch((), dict(inputs))
    if isinstance(inputs, Sequence) and not isinstance(inputs, str):
        return Batch(tuple(inputs), {})
    raise DataError(
        f"batch: the inputs are a {type(inputs).__name__}; expected a tensor, a sequence of "
        "positional arguments or a dict of keyword arguments (torch.as_tensor converts arrays)"
    )


def tensors(value: Any, depth: int = 4) -> Iterator[Tensor]:
    """All tensors in nested sequences, mappings and dataclasses, in order."""
    if isinstance(value, Tensor):
        yield value
    elif depth == 0:
        return
    elif isinstance(value, (list, tuple)):  # mappings take longer to tell
        for item in value:
            yield from tensors(item, depth - 1)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item, depth - 1)
    elif is_dataclass(value) and not isinstance(value, type):
        for entry in fields(value):
            yield from tensors(getattr(value, entry.name, None), depth - 1)


def listed(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """All tensors among the arguments of a call, as `tensors` finds them."""
    found: list[Tensor] = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, Tensor):
            found.append(value)
        elif value is not None and not isinstance(value, (int, float, str)):
            found += tensors(value, 3)
    return found


def check_finite(batch: Batch) -> None:
    """Refuses a batch whose inputs or targets hold NaN or infinite values.

    Raises:
        DataError: with the place and number of the values.
    """
    given = [(f"input {place}", tensor) for place, tensor in enumerate(batch.inputs())]
    given += [("the targets", tensor) for tensor in tensors(batch.targets)]
    for what, tensor in given:
        if not is_signal(tensor) or bool(torch.isfinite(tensor.detach().sum())):
            continue
        bad = ~torch.isfinite(tensor.detach())
        count = int(bad.sum())
        if count:
            first = tuple(int(i) for i in bad.nonzero()[0])
            verb = "hold" if what == "the targets" else "holds"
            raise DataError(
                f"batch: {what} {verb} {count} NaN or infinite values of {tensor.numel()}"
                f" (the first at {first}); remove or impute them"
            )


def check_batched(batch: Batch, like: Batch) -> None:
    """Refuses single samples, as a data set gives them, in the place of batches.

    Raises:
        DataError: the first input has the shape of one sample of those of `like`.
    """
    one, many = (next(iter(b.inputs()), None) for b in (batch, like))
    if one is None or many is None or not many.ndim or one.shape != many.shape[1:]:
        return
    raise DataError(
        f"batch: it is one sample of shape {list(one.shape)}, where batch= holds {len(many)} of "
        f"them; hand in batches: torch.utils.data.DataLoader(data, batch_size={len(many)}, "
        "shuffle=True)"
    )


def check_filled(batch: Batch) -> None:
    """Refuses a batch in which an input has no entries.

    Raises:
        DataError: with the shape of that input.
    """
    for place, tensor in enumerate(batch.inputs()):
        if not tensor.numel():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise DataError(
                f"batch: input {place} is {kind}{list(tensor.shape)}, which holds no entries; give "
                "one sample or more"
            )


def misread(batch: Batch, error: Exception) -> str:
    """What may be wrong with how a batch was taken apart, after a call of the model has raised."""
    if batch.kwargs and isinstance(error, TypeError) and "keyword argument" in str(error):
        return (
            "check that the model takes these keywords, model(**inputs); if forward takes the dict "
            "itself, give (({...},), targets)"
        )
    return ""


def is_signal(tensor: Tensor) -> bool:
    """Whether statistics of it make sense: floating point or complex, dense, with data."""
    return (
        (tensor.is_floating_point() or tensor.is_complex())
        and tensor.layout == torch.strided
        and not tensor.is_meta
    )
