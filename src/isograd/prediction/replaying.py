"""Replaying: calls of torch's own modules that an earlier run of a sweep has made just so.

Where a run follows an earlier one (`isograd.prediction.repeats`), the way to an operation costs
more than looking up what it came to: hooks, the tape, and torch's handing over of functions. A
module of torch.nn without parts does the same to the same field if its settings and the laws of its
parameters are the same; then run, tape and sites take what the earlier call has left there.
Between such calls in a row, in an `nn.Sequential`, no tensor is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.repeats import Done, Following
    from isograd.prediction.tracing import Reader
    from isograd.sites.places import Row
    from isograd.sites.tape import Node, Tape
    from isograd.sites.tree import Modules

_INSTEAD = "_compiled_call_impl"
"""What torch calls in place of a module's hooks and forward, if it is there."""
_OF_ALL = frozenset((*vars(nn.Module()), _INSTEAD)) - {"training"}
"""Attributes that every module has."""
_HOOKS = "_forward_hooks _forward_pre_hooks _backward_hooks _backward_pre_hooks".split()
_VALUES = frozenset((bool, int, float, str, type(None)))


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """The first call of a module in one run."""

    module: _Told
    parameters: tuple[tuple[str, int, Any, Field], ...]
    """Name, index in the model, token and field of each, in the order of their use."""
    given: tuple[Field, torch.dtype]
    source: Node
    """What made the argument."""
    before: tuple[int, int]
    """Nodes and sites before it."""
    nodes: Sequence[Node]
    rows: Sequence[Row]
    names: Mapping[str, int]
    """How often each name of a site has been given."""
    fields: Sequence[Field | None]
    done: Sequence[Done]
    made: tuple[Field, torch.dtype]
    result: Node
    """What made the result."""


@dataclass(frozen=True, slots=True, eq=False)
class _Told:
    """What is known of a module beside its parameters."""

    path: str
    kind: type[nn.Module]
    settings: Sequence[tuple[str, Any]]
    """Its own attributes."""
    attributes: int
    """How many it has in all."""

    def fits(self, path: str, module: nn.Module) -> bool:
        """Whether it is just as well known of a module at some path."""
        own = vars(module)
        if path != self.path or type(module) is not self.kind or len(own) != self.attributes:
            return False
        for name, value in self.settings:
            one = own.get(name, _OF_ALL)
            if type(one) is not type(value) or one != value:
                return False
        return True


class Replays:
    """The calls of modules of one run."""

    def __init__(self, following: Following, tape: Tape, reader: Reader) -> None:
        self.following, self.run = following, following.run
        self.tape, self.reader = tape, reader

    @contextmanager
    def of(self, modules: Modules) -> Iterator[None]:
        """Comes before the calls of those modules that can be looked up."""
        changed: list[tuple[dict[str, Any], str]] = []
        for _, module in modules:
            own = vars(module)
            if _is_plain(module):
                own[_INSTEAD] = partial(self._call, module)
                changed.append((own, _INSTEAD))
            elif _is_chain(module):
                own["forward"] = partial(self._chain, module)
                changed.append((own, "forward"))
        try:
            yield
        finally:
            for own, name in changed:
                own.pop(name, None)

    def _call(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != 1 or id(module) in self.tape.called:
            return module._call_impl(*args, **kwargs)
        (given,) = args
        with torch._C.DisableTorchFunction():
            kept = self._known(module, given)
            if kept is not None:
                self._take(kept, module)
                return self._tensor(kept)
            field = self.run.field_of(given)
            source = None if field is None else self.tape.node_of(given)
            before = self._extent()
        out = module._call_impl(given)
        if field is not None and source is not None:
            with torch._C.DisableTorchFunction():
                self._keep(module, given, (field, source), before, out)
        return out

    def _chain(self, chain: nn.Sequential, given: Any) -> Any:
        """The modules of a chain: between calls that are looked up nobody needs a tensor."""
        kept: Replay | None = None
        for module in chain:
            if _INSTEAD in vars(module) and self.following.along:
                with torch._C.DisableTorchFunction():
                    found = self._known(module, kept or given)
                    if found is not None:
                        self._take(found, module)
                        kept = found
                        continue
            if kept is not None:
                given, kept = self._tensor(kept), None
            given = module(given)
        return given if kept is None else self._tensor(kept)

    # -- looking up -----------------------------------------------------------------------------

    def _known(self, module: nn.Module, given: Any) -> Replay | None:
        """An earlier call of the same to the same: a tensor, or what another call came to."""
        following, tape = self.following, self.tape
        kept = following.repeats.calls.get(following.hits) if following.along else None
        if kept is None or id(module) in tape.called:
            return None
        made: tuple[Field | None, torch.dtype]
        source: Node | None
        if isinstance(given, Replay):
            made, source = given.made, given.result
        else:
            made, source = (self.run.field_of(given), given.dtype), tape.node_of(given)
        if made[0] is not kept.given[0] or made[1] is not kept.given[1]:
            return None
        if source is not kept.source and source != kept.source:
            return None
        if (len(tape.nodes), len(self.reader.rows)) != kept.before or self._is_inside():
            return None
        if not kept.module.fits(tape.paths[id(module)], module):
            return None
        held = module._parameters
        if len([one for one in held.values() if one is not None]) != len(kept.parameters):
            return None
        for name, index, token, field in kept.parameters:
            one = held.get(name)
            if one is None or tape.parameters[id(one)] != index:
                return None
            if not following.is_told(one, token, field):
                return None
        return kept

    def _take(self, kept: Replay, module: nn.Module) -> None:
        self.following.hits += len(kept.done)
        for done in kept.done:
            self.run.take(done)
        self.tape.adopt(module, kept.nodes)
        self.reader.adopt(kept.rows, kept.names, kept.fields)

    def _tensor(self, kept: Replay) -> Tensor:
        """Stands for the result of a call."""
        with torch._C.DisableTorchFunction():
            out = self.run.abstract(*kept.made)
            self.tape.made(out, kept.result.index)
            return out

    # -- keeping --------------------------------------------------------------------------------

    def _extent(self) -> tuple[int, ...]:
        """How much there is before a call."""
        following, tape = self.following, self.tape
        own, used = len(following.own), len(following.tokens)
        return following.hits, own, used, len(tape.nodes), len(self.reader.rows)

    def _keep(
        self, module: nn.Module, given: Tensor, of: tuple[Field, Node], before: Any, out: Any
    ) -> None:
        """Keeps a call that was not looked up, if one just like it can be."""
        following, tape, reader = self.following, self.tape, self.reader
        hits, own, used, first, site = before
        done, nodes = following.own[own:], tape.nodes[first:]
        made, result = self.run.field_of(out), tape.node_of(out) if out is not given else None
        told = self._told(module)
        if made is None or result is None or told is None or self.run.field_of(given) is not of[0]:
            return
        if hits != following.hits or not done or any(one.key is None for one in done):
            return
        if self._is_inside() or any(node.kind == "add" for node in nodes):
            return
        names = {id(one): name for name, one in module._parameters.items() if one is not None}
        tokens = [*islice(reversed(following.tokens.items()), len(following.tokens) - used)][::-1]
        if len(tokens) != len(names) or not names.keys() >= {key for key, _ in tokens}:
            return
        called = (told.path, *(f"{told.path}:{node.op.rstrip('_')}" for node in nodes))
        following.calls[hits + own] = Replay(
            told,
            tuple(
                (names[key], tape.parameters[key], token, following.repeats.parameters[token][1])
                for key, token in tokens
            ),
            (of[0], given.dtype),
            of[1],
            (first, site),
            nodes,
            reader.rows[site:],
            {name: reader.names[name] for name in called if name in reader.names},
            reader.fields[site:],
            done,
            (made, out.dtype),
            result,
        )

    def _is_inside(self) -> bool:
        """Whether calls are part of a module that is one operation to its user."""
        return bool(self.tape.stack and self.tape.stack[-1].opaque)

    def _told(self, module: nn.Module) -> _Told | None:
        """What is known of a module; None where its settings are more than plain values."""
        path, own = self.tape.paths[id(module)], vars(module)
        settings = []
        for name in own.keys() - _OF_ALL:
            value = own[name]
            several = type(value) in (tuple, list)
            if not all(type(one) in _VALUES for one in (value if several else (value,))):
                return None
            settings.append((name, type(value)(value) if several else value))
        return _Told(path, type(module), settings, len(own)) if path else None


@cache
def _is_torchs_own(kind: Any) -> bool:
    return kind.__module__.startswith("torch.nn.modules.") and not issubclass(kind, nn.RNNBase)


def _is_chain(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """Whether a call hands its argument from module to module."""
    return type(module).forward is nn.Sequential.forward and "forward" not in vars(module)


def _is_plain(module: nn.Module) -> bool:
    """Whether all that a call does follows from its argument, settings and parameters."""
    kind: Any = type(module)
    if not _is_torchs_own(kind) or module._modules or module._buffers:
        return False
    own = vars(module)
    return _INSTEAD not in own and not any(map(own.get, _HOOKS))
