"""The activations of a network that are modules, and so can be exchanged."""

from dataclasses import dataclass

from torch import nn

from isograd.records import WEIGHT_KINDS
from isograd.remedies._layers import SHAPING, readers_of
from isograd.remedies._remedy import Case
from isograd.sites import ACTIVATIONS

RANGES: dict[str, tuple[float, float | None]] = {
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "softplus": (0.0, None),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "softmax": (0.0, 1.0),
}
"""What outputs of each kind can be."""


@dataclass(frozen=True)
class Place:
    """One activation module."""

    sites: tuple[int, ...]
    """Of its calls."""
    names: tuple[str, ...]
    """All names under which the model holds it."""
    kind: str


def hidden(case: Case) -> tuple[list[Place], list[str]]:
    """Activations between weight layers: those that are modules, and names of those that are not.

    What multiplies another signal, such as a gate, is none of them; nor is a module that
    also works elsewhere.
    """
    record = case.record
    readers = readers_of(record)
    calls: dict[str, list[int]] = {}
    for index, site in enumerate(record.sites):
        if site.kind in SHAPING and site.kind != "exp":
            calls.setdefault(site.name.split("#")[0], []).append(index)
    aliases = _aliases(case.model)
    places, functions = [], []
    for name, sites in calls.items():
        if not all(_between(case, readers, i) for i in sites):
            continue
        if name in aliases and not _has_children(case.model, name):
            places.append(Place(tuple(sites), aliases[name], record.sites[sites[0]].kind))
        else:
            functions.append(name)
    return places, functions


def last_activation(case: Case) -> int | None:
    """The activation that stands between the last weight layer and the loss."""
    record = case.record
    end = record.fact("loss.input_site")
    while isinstance(end, int) and 0 <= end < len(record.sites):
        site = record.sites[end]
        if site.kind in WEIGHT_KINDS or len(site.inputs) != 1:
            return None
        if site.kind in ACTIVATIONS or site.kind == "softmax":
            return end
        end = site.inputs[0]
    return None


def aliases_of(model: nn.Module, name: str) -> tuple[str, ...]:
    """All names under which a model holds a module, for its first one; empty if it is none."""
    return _aliases(model).get(name, ())


def _aliases(model: nn.Module) -> dict[str, tuple[str, ...]]:
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if name:
            names.setdefault(id(module), []).append(name)
    return {group[0]: tuple(group) for group in names.values()}


def _has_children(model: nn.Module, name: str) -> bool:
    return next(model.get_submodule(name).children(), None) is not None


def _between(case: Case, readers: list[list[int]], site: int) -> bool:
    """Whether a weight layer comes before and after, and nothing is multiplied with the output."""
    record = case.record
    after = readers[site]
    alone = all(len(record.sites[i].inputs) == 1 or record.sites[i].kind == "add" for i in after)
    return alone and _reaches(case, readers, site) and _follows_weight(case, site)


def _reaches(case: Case, readers: list[list[int]], site: int) -> bool:
    waiting, done = list(readers[site]), set[int]()
    while waiting:
        here = waiting.pop()
        if here in done:
            continue
        done.add(here)
        if case.record.sites[here].kind in WEIGHT_KINDS:
            return True
        waiting.extend(readers[here])
    return False


def _follows_weight(case: Case, site: int) -> bool:
    return case.record.sites[site].depth > 0
