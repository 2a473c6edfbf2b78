"""Replaying: calls of torch's own modules that an earlier run of a sweep has made just so.

Where a run follows an earlier one (`isograd.prediction.repeats`), the way to an operation costs
more than looking up what it came to: hooks, the tape, and torch's handing over of functions. A
module of torch.nn without parts does the same to the same field if its settings and the laws of its
parameters are the same; then run, tape and sites take what the earlier call has left there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.repeats import Done, Following
    from isograd.prediction.tracing import Reader
    from isograd.sites.places import Row
    from isograd.sites.tape import Node, Tape
    from isograd.sites.tree import Modules

_OF_ALL = frozenset(vars(nn.Module())) - {"training"}
"""Attributes that every module has."""
_EMPTY = (
    "_modules",
    "_buffers",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
"""Attributes that hold nothing where a call of a module is no more than its forward."""
_VALUES = frozenset((bool, int, float, str, type(None)))
_INSTEAD = "_compiled_call_impl"
"""What torch calls in place of a module's hooks and forward, if it is there."""


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """The first call of a module in one run."""

    module: tuple[Any, ...]
    """Its path, class and settings."""
    parameters: tuple[tuple[str, int, Any], ...]
    """Name, index in the model and token of each, in the order in which they were used."""
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
    index: int
    """Of the node that made the result."""


class Replays:
    """The calls of modules of one run."""

    def __init__(self, following: Following, tape: Tape, reader: Reader) -> None:
        self.following, self.run = following, following.run
        self.tape, self.reader = tape, reader

    @contextmanager
    def of(self, modules: Modules) -> Iterator[None]:
        """Comes before the calls of those modules that can be looked up."""
        watched = [module for _, module in modules if _is_plain(module)]
        for module in watched:
            vars(module)[_INSTEAD] = partial(self._call, module)
        try:
            yield
        finally:
            for module in watched:
                vars(module).pop(_INSTEAD, None)

    def _call(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != 1 or id(module) in self.tape.called:
            return module._call_impl(*args, **kwargs)
        (given,) = args
        with torch._C.DisableTorchFunction():
            if self.following.along:
                kept = self.following.repeats.calls.get(self.following.hits)
                if kept is not None and self._is_same(kept, module, given):
                    return self._again(kept, module)
            field = self.run.field_of(given)
            source = None if field is None else self.tape.node_of(given)
            before = self._extent()
        out = module._call_impl(given)
        if field is not None and source is not None:
            with torch._C.DisableTorchFunction():
                self._keep(module, given, (field, source), before, out)
        return out

    # -- looking up -----------------------------------------------------------------------------

    def _is_same(self, kept: Replay, module: nn.Module, given: Any) -> bool:
        tape, following = self.tape, self.following
        if self.run.field_of(given) is not kept.given[0] or given.dtype is not kept.given[1]:
            return False
        source = tape.node_of(given)
        if source is not kept.source and source != kept.source:
            return False
        if (len(tape.nodes), len(self.reader.rows)) != kept.before or self._is_inside():
            return False
        if self._told(module) != kept.module:
            return False
        own = {name: one for name, one in module._parameters.items() if one is not None}
        if len(own) != len(kept.parameters):
            return False
        try:
            for name, index, token in kept.parameters:
                one = own[name]
                if tape.parameters[id(one)] != index or following.token_of(one) != token:
                    return False
        except LookupError:
            return False
        return True

    def _again(self, kept: Replay, module: nn.Module) -> Tensor:
        self.following.hits += len(kept.done)
        for done in kept.done:
            self.run.take(done)
        out = self.run.abstract(*kept.made)
        self.tape.adopt(module, kept.nodes, out, kept.index)
        self.reader.adopt(kept.rows, kept.names, kept.fields)
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
        tokens = list(following.tokens.items())[used:]
        if len(tokens) != len(names) or not names.keys() >= {key for key, _ in tokens}:
            return
        path = told[0]
        called = (path, *(f"{path}:{node.op.rstrip('_')}" for node in nodes))
        following.calls[hits + own] = Replay(
            told,
            tuple((names[key], tape.parameters[key], token) for key, token in tokens),
            (of[0], given.dtype),
            of[1],
            (first, site),
            nodes,
            reader.rows[site:],
            {name: reader.names[name] for name in called if name in reader.names},
            reader.fields[site:],
            done,
            (made, out.dtype),
            result.index,
        )

    def _is_inside(self) -> bool:
        """Whether calls are part of a module that is one operation to its user."""
        return bool(self.tape.stack and self.tape.stack[-1].opaque)

    def _told(self, module: nn.Module) -> tuple[Any, ...] | None:
        """Path, class and settings of a module; None where these are more than plain values."""
        told: list[Any] = [self.tape.paths[id(module)], type(module)]
        for name, value in vars(module).items():
            if name in _OF_ALL or name == _INSTEAD:
                continue
            if type(value) in (tuple, list):
                if not all(type(one) in _VALUES for one in value):
                    return None
                told += name, tuple(value)
            elif type(value) in _VALUES:
                told += name, value
            else:
                return None
        return tuple(told) if told[0] else None


def _is_plain(module: nn.Module) -> bool:
    """Whether all that a call does follows from its argument, settings and parameters."""
    own, kind = vars(module), type(module)
    if not kind.__module__.startswith("torch.nn.modules.") or issubclass(kind, nn.RNNBase):
        return False
    return _INSTEAD not in own and not any(own[name] for name in _EMPTY)
