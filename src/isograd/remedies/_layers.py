"""The weight layers of a measured network: what they feed, and what stands around them."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from isograd.errors import InputError
from isograd.records import WEIGHT_KINDS, Record
from isograd.remedies._remedy import Case
from isograd.sites import ELEMENTWISE, NORMS
from isograd.sites.paths import unavoidable
from isograd.theory import Activation, activation

_LINEAR = "linear"
SHAPING = ELEMENTWISE | {"softmax"}
"""Kinds of sites that give the signal another law; theory knows none for softmax."""
_KEEPING = ("dropout", "pool", "module")
"""Kinds of sites behind which the law of an activation's output is about what it was."""


@dataclass(frozen=True)
class Layer:
    """One weight of a weight layer, of the first of its calls."""

    site: int
    """Index of its site."""
    name: str
    """Of the parameter, as in `model.get_parameter(name)`."""
    module: str
    """Of the module that holds it."""
    kind: str
    """linear, conv or recurrent."""
    shape: tuple[int, ...]
    fan_in: int
    fan_out: int
    gain: float
    """rms(w) sqrt(fan_in)."""
    spread: float
    """How far the units' weights differ from each other, over their size."""
    cosine: float
    """Mean squared cosine between two units' weights: 0 where orthogonal, 1/fan_in where drawn."""
    trainable: bool
    bias: str | None
    """Name of its bias, where there is one."""
    reads: Activation | None
    """The activation whose output it reads; None where it reads data, a norm or a sum."""
    read: int | None
    """Index of that activation's site."""
    activation: Activation
    """What it feeds; linear where it feeds none."""
    reader: int | None
    """Index of that activation's site."""
    normalized: bool
    """Whether a norm sets the scale before the next weight layer."""
    bypassed: bool
    """Whether a path from the input to the output goes around it, such as a skip connection."""
    output: bool
    """Whether no weight layer comes after it."""
    calls: int
    """Sites that use it."""
    blocks: int
    """Matrices one above the other: 3 of an attention's projection, 4 of an LSTM."""
    transposed: bool
    """Whether it is laid out [in, out]."""
    half: bool
    """Whether it is in a format of 16 bits, for which torch has no orthogonal matrices."""

    @property
    def plain(self) -> bool:
        """Whether nothing but its own gain sets the scale that the next layer sees."""
        return not (self.normalized or self.bypassed)


def layers(case: Case) -> list[Layer]:
    """The layers in order of execution, each weight once."""
    record = case.record
    readers = readers_of(record)
    everywhere = unavoidable(record)
    calls = [p for site in record.sites for p in site.parameters]
    found: dict[int, Layer] = {}
    for index in record.weight_sites():
        for place in record.sites[index].parameters:
            parameter = record.parameters[place]
            fan_in, fan_out = (record.value(f"weight.fan_{way}", place) for way in ("in", "out"))
            gain = record.value("weight.gain", place)
            if not parameter.is_weight or place in found or not fan_in or not fan_out:
                continue
            module, _, last = parameter.name.rpartition(".")
            if _is_part(case.model.get_submodule(module), last):
                continue
            ahead = list(_ahead(record, readers, index))
            kinds = [record.sites[i].kind for i in ahead]
            reader = next((i for i in ahead if record.sites[i].kind in SHAPING), None)
            if parameter.kind == "recurrent" or record.sites[index].kind in (
                "recurrent",
                "attention",
            ):
                reader = None
            behind = _behind(record, index)
            found[place] = Layer(
                index,
                parameter.name,
                module,
                parameter.kind,
                parameter.shape,
                int(fan_in),
                int(fan_out),
                gain or 0.0,
                record.value("weight.row_spread", place) or 0.0,
                record.value("weight.row_cosine", place) or 0.0,
                parameter.trainable,
                _bias(record, index, module, last),
                _activation(case, behind) if behind is not None else None,
                behind,
                _activation(case, reader),
                reader,
                any(kind in NORMS for kind in kinds),
                index not in everywhere,
                not any(kind in WEIGHT_KINDS for kind in kinds),
                calls.count(place),
                _blocks(case.model, module, last),
                len(parameter.shape) == 2 and fan_in == parameter.shape[0] != parameter.shape[1],
                case.model.get_parameter(parameter.name).dtype.itemsize < 4,
            )
    return list(found.values())


def _is_part(owner: nn.Module, name: str) -> bool:
    """Whether the real weight is computed from it, as by the older weight norm."""
    whole = name.removesuffix("_g").removesuffix("_v")
    return whole != name and hasattr(owner, whole) and whole not in owner._parameters


def stands_alone(case: Case, layer: Layer) -> bool:
    """Whether a layer is a plain module that can be wrapped: of torch, used once, by one name."""
    owner = case.model.get_submodule(layer.module)
    names = [n for n, m in case.model.named_modules(remove_duplicate=False) if m is owner]
    own = isinstance(owner._parameters.get("weight"), nn.Parameter)
    return type(owner) in _WRAPPED and own and layer.calls == 1 and len(names) == 1


_WRAPPED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def readers_of(record: Record) -> list[list[int]]:
    """For every site the sites that read its output."""
    found: list[list[int]] = [[] for _ in record.sites]
    for index, site in enumerate(record.sites):
        for source in site.inputs:
            if 0 <= source < index:
                found[source].append(index)
    return found


def _ahead(record: Record, readers: list[list[int]], site: int) -> Iterator[int]:
    """Sites after one, nearest first, up to and with the next weight layers and additions."""
    waiting, done = list(readers[site]), set[int]()
    while waiting:
        here = waiting.pop(0)
        if here in done:
            continue
        done.add(here)
        yield here
        kind = record.sites[here].kind
        if kind not in WEIGHT_KINDS:
            waiting.extend(readers[here])


def _behind(record: Record, site: int) -> int | None:
    """The activation that a site reads, directly or through what keeps its law."""
    waiting = list(record.sites[site].inputs)
    while waiting:
        here = waiting.pop(0)
        kind = record.sites[here].kind
        if kind in SHAPING:
            return here
        if kind in _KEEPING:
            waiting.extend(record.sites[here].inputs)
    return None


def _bias(record: Record, site: int, module: str, weight: str) -> str | None:
    wanted = f"{module}.{weight.replace('weight', 'bias')}".lstrip(".")
    own = [record.parameters[p] for p in record.sites[site].parameters]
    return next((p.name for p in own if p.name == wanted and len(p.shape) == 1), None)


def _activation(case: Case, site: int | None) -> Activation:
    """What the theory knows of an activation's site: of its module, else of its kind."""
    if site is None:
        return activation(_LINEAR)
    place = case.record.sites[site]
    try:
        return activation(case.model.get_submodule(place.name.split("#")[0]))
    except (AttributeError, InputError):
        pass
    try:
        return activation(place.kind)
    except InputError:
        return activation(_LINEAR)


def _blocks(model: nn.Module, module: str, weight: str) -> int:
    owner = model.get_submodule(module)
    if isinstance(owner, nn.MultiheadAttention) and weight == "in_proj_weight":
        return 3
    if isinstance(owner, nn.RNNBase):
        return {"LSTM": 4, "GRU": 3}.get(owner.mode, 1)
    if isinstance(owner, nn.LSTMCell):
        return 4
    return 3 if isinstance(owner, nn.GRUCell) else 1
