"""What is recorded of a meta tensor: the draw its storage would hold.

The record hangs on the tensor's storage, so that views, `.data` and `nn.Parameter(t)` share it
and it dies with the tensor. A registered parameter holds it too: `model.half()` gives it another
storage. Parts of a tensor that were written on their own (one bias gate, one row of an embedding)
are kept as writes, each with the stretches of the storage it covers.
"""

from __future__ import annotations

import math
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Parameter
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from isograd.prediction.drawing import draws
from isograd.prediction.drawing.draws import EMPTY, Draw, Unknown, Values

Indices = NDArray[np.int64]
_KEY = "_isograd_recorded"
_META = torch.device("meta")
HELD = frozenset((_KEY, "__deepcopy__"))
"""What a registered tensor has among its attributes."""
COMPLEX = Unknown("complex numbers are not recorded")
_LOST = Unknown("its values were not recorded")
_MOST_STRETCHES = 2_000_000
_LISTED = 1_000_000
"""Entries up to which the places that an index tensor picks are listed one by one."""


class Region:
    """Entries of a storage: stretches of one length."""

    __slots__ = ("length", "starts")

    def __init__(self, starts: Indices, length: int) -> None:
        self.starts, self.length = starts, length

    @property
    def token(self) -> int:
        """The same for the same region."""
        return draws.token(self.length, crc32(self.starts.tobytes()))


class Write:
    """Values written into a part of a storage."""

    __slots__ = ("region", "values")

    def __init__(self, region: Region, values: Values) -> None:
        self.region, self.values = region, values


class Recorded:
    """What a storage would hold."""

    __slots__ = ("derived", "registered", "shared", "values", "writes")

    def __init__(self, values: Values, writes: tuple[Write, ...] = ()) -> None:
        self.values, self.writes = values, writes
        self.registered = False
        """Whether a module holds it as a parameter or buffer."""
        self.derived = False
        """Whether it was computed from what a module holds."""
        self.shared = False
        """Whether another tensor may look at it (`.data`, views)."""


def recorded(tensor: Tensor) -> Recorded | None:
    """What is recorded of a tensor; None for a real one."""
    if not tensor.is_meta or tensor.layout is not torch.strided:
        return None
    if isinstance(tensor, UninitializedTensorMixin):
        return None
    found = tensor.untyped_storage().__dict__.get(_KEY) or tensor.__dict__.get(_KEY)
    return found if isinstance(found, Recorded) else None


def record(tensor: Tensor, values: Values, writes: tuple[Write, ...] = ()) -> Tensor:
    """Notes what a new meta tensor would hold, and returns the tensor."""
    setattr(tensor.untyped_storage(), _KEY, Recorded(values, writes))
    return tensor


def parameter(shape: torch.Size, dtype: torch.dtype, trained: bool, values: Values) -> Parameter:
    """A registered parameter that would hold some values."""
    kept, made = Recorded(values), torch.empty(shape, dtype=dtype, device=_META)
    setattr(made.untyped_storage(), _KEY, kept)
    result = Parameter(made, trained)
    attach(result, kept)
    return result


def region(tensor: Tensor) -> Region:
    """The entries of the storage that a tensor shows."""
    length, outer = 1, []
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride == length:
            length *= size
        elif size > 1 and stride:
            outer.append((stride, size))
    starts = np.array([tensor.storage_offset()], dtype=np.int64)
    if math.prod(size for _, size in outer) > _MOST_STRETCHES:
        return Region(starts, tensor.numel())
    for stride, size in reversed(outer):
        starts = (starts[:, None] + stride * np.arange(size)).ravel()
    return Region(starts, length)


def picked(tensor: Tensor, index: Any) -> Region:
    """The entries that an index with tensors in it picks.

    Of a large tensor only their number is right, not their places.
    """
    if tensor.numel() <= _LISTED:
        reach = 1 + sum(s * (n - 1) for s, n in zip(tensor.stride(), tensor.shape, strict=True))
        places = int(tensor.storage_offset()) + torch.arange(reach)
        places = places.as_strided(tensor.shape, tensor.stride())[index]
        return Region(np.unique(places.numpy()), 1)
    return Region(np.array([tensor.storage_offset()]), math.prod(picked_shape(tensor, index)))


def picked_shape(tensor: Tensor, index: Any) -> torch.Size:
    """The shape of what an index picks; masks tell theirs only to a real tensor."""
    return torch.zeros((), dtype=torch.bool).expand(tensor.shape)[index].shape


def is_whole(tensor: Tensor) -> bool:
    """Whether a tensor shows all of its storage."""
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()


def read(tensor: Tensor, kept: Recorded) -> Values:
    """What a tensor would hold, as one draw."""
    whole = is_whole(tensor)
    if whole and not kept.writes and tensor.is_contiguous():
        return kept.values
    shown = region(tensor)
    values = kept.values if not kept.writes else draws.mixture(_parts(shown, kept))
    if isinstance(values, Unknown) or values.is_constant:
        return values
    # Other entries of the storage, or the same in another order: other random numbers.
    if whole and tensor.is_contiguous():
        return values
    place = shown.token, tuple(tensor.shape), tuple(tensor.stride())
    return values._replace(root=hash((values.root, place)), identity=hash((values.identity, place)))


def _parts(shown: Region, kept: Recorded) -> list[tuple[float, Values]]:
    """How many of the entries shown hold which values: the last write to an entry counts."""
    regions = [shown, *(write.region for write in kept.writes)]
    edges = np.unique(np.concatenate([r.starts for r in regions] + [_ends(r) for r in regions]))
    owner = np.zeros(len(edges) - 1, dtype=np.int64)
    for number, write in enumerate(kept.writes, 1):
        owner[_covered(edges, write.region)] = number
    inside = _covered(edges, shown)
    sizes = np.bincount(owner[inside], np.diff(edges)[inside], len(kept.writes) + 1)
    held = [kept.values, *(write.values for write in kept.writes)]
    return list(zip(sizes.tolist(), held, strict=True))


def _ends(one: Region) -> Indices:
    return one.starts + one.length


def _covered(edges: Indices, one: Region) -> NDArray[np.bool_]:
    steps = np.zeros(len(edges), dtype=np.int64)
    np.add.at(steps, np.searchsorted(edges, one.starts), 1)
    np.add.at(steps, np.searchsorted(edges, _ends(one)), -1)
    return np.asarray(np.cumsum(steps)[:-1] > 0)


def write(tensor: Tensor, kept: Recorded, values: Values) -> None:
    """Notes new values of all that a tensor shows."""
    if is_whole(tensor):
        kept.values, kept.writes = values, ()
    else:
        write_region(kept, region(tensor), values)


def write_region(kept: Recorded, place: Region, values: Values) -> None:
    """Notes new values of a part of a storage."""
    token = place.token
    earlier = tuple(one for one in kept.writes if one.region.token != token)
    kept.writes = (*earlier, Write(place, values))


def attach(tensor: Tensor, kept: Recorded) -> None:
    """Lets a registered tensor hold its own record, and hand it to its deep copies."""
    kept.registered = True
    if _KEY in tensor.__dict__ and tensor.__dict__[_KEY] is kept:
        return
    tensor.__dict__[_KEY] = kept
    tensor.__dict__["__deepcopy__"] = _Copier(tensor)


def forget(tensor: Tensor) -> None:
    """Takes the record off a tensor that has become real."""
    for name in HELD:
        tensor.__dict__.pop(name, None)


class _Copier:
    """`copy.deepcopy` of one recorded tensor: the copy holds the same values."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> tuple[Any, ...]:
        # An unpickled tensor has its record among its attributes, which copy.deepcopy copies too.
        return type(None), ()

    def __call__(self, memo: dict[int, Any]) -> Tensor:
        tensor = self.tensor
        if id(tensor) in memo:
            found: Tensor = memo[id(tensor)]
            return found
        with torch._C.DisableTorchFunction(), torch.no_grad():
            copied = tensor.data.clone()
            if isinstance(tensor, torch.nn.Parameter):
                copied = torch.nn.Parameter(copied, tensor.requires_grad)
            kept = recorded(tensor)
            if kept is not None:
                record(copied, kept.values, kept.writes)
                attach(copied, recorded(copied) or kept)
        memo[id(tensor)] = copied
        return copied


def can_be_real(tensor: Tensor, kept: Recorded) -> bool:
    """Whether a tensor is a mere number so far, and seen by nobody else."""
    if kept.registered or kept.shared or kept.writes or tensor._is_view():
        return False
    return kept.values is EMPTY or (isinstance(kept.values, Draw) and kept.values.is_constant)


def real(tensor: Tensor, kept: Recorded) -> Tensor:
    """The real tensor that a constant one stands for."""
    value = kept.values.shift if isinstance(kept.values, Draw) else 0.0
    return torch.full(tensor.shape, value, dtype=tensor.dtype)


def become(tensor: Tensor, other: Tensor) -> None:
    """Exchanges the contents of two tensors; the object, its class and attributes stay."""
    if isinstance(tensor, torch.nn.Parameter):
        other = torch.nn.Parameter(other, tensor.requires_grad)
    other.__dict__.update(tensor.__dict__)
    torch.utils.swap_tensors(tensor, other)


# -- operands of any sort -----------------------------------------------------------------------


def operand(value: Any) -> Values:
    """What a number or tensor holds, or would hold."""
    if not isinstance(value, Tensor):
        if isinstance(value, complex):
            return COMPLEX
        return draws.constant(float(value))
    kept = recorded(value)
    if kept is not None:
        return read(value, kept)
    return _LOST if value.is_meta else of_real(value)


MOST_VALUES = 1 << 18
"""Entries of a real tensor that are looked at, evenly strided: their variance is known to 0.3 %."""


def _some(tensor: Tensor) -> Tensor:
    """At most MOST_VALUES entries, by a step that meets every index of every axis equally often."""
    flat = tensor.detach().flatten()
    step = -(-len(flat) // MOST_VALUES)
    while math.gcd(step, len(flat)) > 1:
        step += 1
    return flat[::step]


def of_real(tensor: Tensor) -> Values:
    """Mean and variance of the values of a real tensor, of a large one from a sample."""
    if tensor.is_complex():
        return COMPLEX
    if not tensor.numel():
        return draws.constant(0.0)
    values = _some(tensor).double()
    low, high = (float(end) for end in values.aminmax())
    if low == high and len(values) < tensor.numel():  # the few that differ may be all there is
        values = tensor.detach().double()
        low, high = (float(end) for end in values.aminmax())
    if low == high:
        return draws.constant(low)
    if not math.isfinite(high - low):
        return Unknown("it holds numbers that are not finite")
    variance, mean = (float(one) for one in torch.var_mean(values, correction=0))
    made = draws.opaque("values", mean=mean, variance=variance)
    sample = values.flatten()[:: 1 + values.numel() // 16].tolist()
    return made._replace(identity=draws.token(mean, variance, *sample))


def on_meta(value: Any) -> Any:
    """A tensor without its values; anything else as it is."""
    if not isinstance(value, Tensor) or value.is_meta:
        return value
    return value.detach().to("meta")
