"""The weight layers of a measured network: what they feed, and what stands around them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from isograd.errors import InputError
from isograd.probe.weights import weight_numbers
from isograd.records import WEIGHT_KINDS, Number, Parameter, Record
from isograd.remedies._computed import Computed, computed
from isograd.remedies._remedy import Case
from isograd.sites import ELEMENTWISE, NORMS
from isograd.sites.paths import unavoidable
from isograd.sites.tape import class_of
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
    """Of the weight: as in `model.get_parameter(name)`, unless it is computed."""
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
    """Whether it asks for a gradient, and can be assigned."""
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
    computed: Computed | None = None
    """How it is computed from other parameters; None where it is one itself."""

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
    found: dict[str, Layer] = {}
    for index in record.weight_sites():
        for weight, place, numbers, how in _weights(case, index):
            if weight.name in found or not numbers.get("fan_in") or not numbers.get("fan_out"):
                continue
            fan_in, fan_out = (int(numbers[f"fan_{way}"] or 0) for way in ("in", "out"))
            module, _, last = weight.name.rpartition(".")
            owner = case.model.get_submodule(module)
            ahead = list(_ahead(record, readers, index))
            kinds = [record.sites[i].kind for i in ahead]
            reader = next((i for i in ahead if record.sites[i].kind in SHAPING), None)
            if weight.kind == "recurrent" or record.sites[index].kind in (
                "recurrent",
                "attention",
            ):
                reader = None
            behind = _behind(record, index)
            found[weight.name] = Layer(
                index,
                weight.name,
                module,
                weight.kind,
                weight.shape,
                fan_in,
                fan_out,
                numbers["gain"] or 0.0,
                numbers["row_spread"] or 0.0,
                numbers["row_cosine"] or 0.0,
                weight.trainable,
                _bias(record, index, module, last),
                _activation(case, behind) if behind is not None else None,
                behind,
                _activation(case, reader),
                reader,
                any(kind in NORMS for kind in kinds),
                index not in everywhere,
                not any(kind in WEIGHT_KINDS for kind in kinds),
                calls.count(place),
                _blocks(owner, last),
                len(weight.shape) == 2 and fan_in == weight.shape[0] != weight.shape[1],
                case.model.get_parameter(record.parameters[place].name).dtype.itemsize < 4,
                how,
            )
    return list(found.values())


_NUMBERS = ("fan_in", "fan_out", "gain", "row_spread", "row_cosine")


def _weights(
    case: Case, site: int
) -> Iterator[tuple[Parameter, int, dict[str, Number], Computed | None]]:
    """Weights of a site: what each is, a parameter of it, its numbers, how it is computed."""
    record = case.record
    for place in record.sites[site].parameters:
        parameter = record.parameters[place]
        name = parameter.name.partition(".parametrizations.")[0]
        name = name if name != parameter.name else name.rpartition(".")[0]
        owner = case.model.get_submodule(name)
        made = computed(owner)
        if made is not None and parameter.name.removeprefix(f"{name}.") in made[0].parts:
            how, value = made
            weight = Parameter(
                f"{name}.weight", tuple(value.shape), record.sites[site].kind, parameter.trainable
            )
            groups = getattr(owner, "groups", 1)
            turned = getattr(owner, "transposed", False)
            numbers = weight_numbers(value, weight, layout=(turned, groups))
            weight = replace(weight, trainable=weight.trainable and bool(how.put))
            yield weight, place, {k: numbers.get(f"weight.{k}") for k in _NUMBERS}, how
        elif parameter.is_weight:
            yield parameter, place, {k: record.value(f"weight.{k}", place) for k in _NUMBERS}, None


def stands_alone(case: Case, layer: Layer) -> bool:
    """Whether a layer is a plain module that can be wrapped: of torch, used once, by one name."""
    owner = case.model.get_submodule(layer.module)
    names = [n for n, m in case.model.named_modules(remove_duplicate=False) if m is owner]
    own = layer.computed or isinstance(owner._parameters.get("weight"), nn.Parameter)
    return class_of(owner) in _WRAPPED and bool(own) and layer.calls == 1 and len(names) == 1


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


def _blocks(owner: nn.Module, weight: str) -> int:
    if isinstance(owner, nn.MultiheadAttention) and weight == "in_proj_weight":
        return 3
    if isinstance(owner, nn.RNNBase):
        return {"LSTM": 4, "GRU": 3}.get(owner.mode, 1)
    if isinstance(owner, nn.LSTMCell):
        return 4
    return 3 if isinstance(owner, nn.GRUCell) else 1
