"""Repeats: what runs of similar networks have in common, computed once.

The networks of a sweep over depth begin with the same layers. The first operations of a run are
looked up among those of earlier runs, one after the other, by what is done to which fields; from
the first that differs on, rules are applied as ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from isograd.prediction.calls import function_name
from isograd.prediction.recording import law_of, values_law
from isograd.sites.batches import tensors

if TYPE_CHECKING:
    from isograd.prediction.fields import Field
    from isograd.prediction.propagation import Propagation
    from isograd.prediction.tracing import Reader
    from isograd.sites.batches import Batch
    from isograd.sites.tape import Tape

_MOST = 50_000
"""Operations that are kept."""
_SMALL = 4096
"""Entries of known tensors that are compared by their values."""
_PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.layout)
Counts = tuple[int, int, int]
"""How many nodes of the tape, steps of the run and rows of the reader there are."""


@dataclass(slots=True, eq=False)
class _Done:
    """One operation of an earlier run."""

    by: Following | None = None
    result: Any = None
    """What it returned; None for its first argument."""
    fields: tuple[Field, ...] = ()
    """Of the tensors in the result."""
    node: int = -1
    after: Counts = (0, 0, 0)
    before_next: Counts | None = None
    """Once the modules that ended with it have returned."""
    next: dict[Any, _Done] = field(default_factory=dict)


class Repeats:
    """What the runs of one sweep share."""

    def __init__(self) -> None:
        self.slopes: dict[int, Any] = {}
        """Of all runs: rules of earlier runs hand on gradients of later ones."""
        self.batch: Batch | None = None
        """The abstract inputs of all runs."""
        self.inputs: list[tuple[Tensor, Field]] = []
        """Their tensors and fields."""
        self.start = _Done()
        self.parameters: dict[Any, Field] = {}
        self.size = 0

    def forget(self) -> None:
        """Lets go of all runs, but not of the inputs."""
        self.start, self.parameters, self.size = _Done(), {}, 0


class Following(TorchFunctionMode):
    """One run: along earlier ones as far as it goes, then on its own."""

    def __init__(self, repeats: Repeats, run: Propagation, tape: Tape, reader: Reader) -> None:
        super().__init__()
        self.repeats, self.run, self.tape, self.reader = repeats, run, tape, reader
        self.hits = 0
        self._at = repeats.start
        self._places: list[tuple[Tensor, int]] = []
        self._tokens: dict[int, Any] = {}
        self._new: list[tuple[Any, Tensor]] = []

    def same(self, batch: Batch) -> Batch:
        """The abstract batch that stands for the inputs of all runs: that of the first one."""
        shared = self.repeats
        if shared.batch is None:
            shared.batch = batch
            known = [(t, self.run.field_of(t)) for t in tensors((batch.args, batch.kwargs))]
            shared.inputs = [(t, one) for t, one in known if one is not None]
        for tensor, one in shared.inputs:
            self.run.adopt(tensor, one)
        self.run.slopes, self.run.weighs = shared.slopes, False
        shared.slopes.clear()
        return shared.batch

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Follows while the model's forward runs."""
        self.tape.passing = True
        with self:
            yield
        if self.tape.passing:
            self._leave()
        elif self._at.before_next is None:
            self._at.before_next = self._counts()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs one torch function, or takes what it gave before."""
        kwargs = kwargs or {}
        name = function_name(func)
        if not self.run.concerns(name, args, kwargs):
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            key = self._key(func, args, kwargs)
        if self.tape.passing:
            done = self._at.next.get(key)
            if done is not None:
                return self._again(done, args)
            self._leave()
        return self._noted(key, func, args, kwargs)

    # -- along ----------------------------------------------------------------------------------

    def _again(self, done: _Done, args: tuple[Any, ...]) -> Any:
        self.hits += 1
        self._at = done
        assert done.by is not None
        self._take(done.by, done.after)
        self._share()
        result = args[0] if done.result is None else done.result
        made = (result,) if isinstance(result, Tensor) else result
        for tensor, one in zip(made, done.fields, strict=True):
            self.run.adopt(tensor, one)
            self._places.append((tensor, done.node))
        return result

    def _take(self, other: Following, counts: Counts) -> None:
        """Nodes, steps and rows of an earlier run up to there."""
        nodes, steps, rows = self.tape.nodes, self.run.steps, self.reader.rows
        for step in other.run.steps[len(steps) : counts[1]]:
            steps.append(step)
            self.run.twins.enter(step)
        nodes.extend(other.tape.nodes[len(nodes) : counts[0]])
        self.reader.fields.extend(other.reader.fields[len(rows) : counts[2]])
        rows.extend(other.reader.rows[len(rows) : counts[2]])

    def _leave(self) -> None:
        """From here on the run is on its own."""
        if self._at.by is not None and self._at.before_next is not None:
            self._take(self._at.by, self._at.before_next)
        self.tape.passing = False
        self.tape.placed(self._places)

    # -- alone ----------------------------------------------------------------------------------

    def _noted(self, key: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._at.before_next is None:
            self._at.before_next = self._counts()
        self._share()
        result = func(*args, **kwargs)
        for token, tensor in self._new:
            of_parameter = self.run.parameter_field(tensor)
            if of_parameter is not None:
                self.repeats.parameters[token] = of_parameter
        self._new = []
        made = (result,) if isinstance(result, Tensor) else result
        fields: tuple[Field | None, ...] = ()
        if type(made) in (tuple, list):
            fields = tuple(self.run.field_of(t) if isinstance(t, Tensor) else None for t in made)
        done = _Done(self, after=self._counts())
        if fields and None not in fields and key is not None and self.repeats.size < _MOST:
            done.result = None if args and result is args[0] else result
            done.fields = tuple(one for one in fields if one is not None)
            node = self.tape.node_of(made[0])
            done.node = -1 if node is None else node.index
            self.repeats.size += 1
            self._at.next[key] = done
        self._at = done
        return result

    def _counts(self) -> Counts:
        return len(self.tape.nodes), len(self.run.steps), len(self.reader.rows)

    # -- what is done to what -------------------------------------------------------------------

    def _key(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The same for the same operation on the same fields; None where that cannot be told."""
        try:
            return func, self._all(args), tuple((k, self._token(v)) for k, v in kwargs.items())
        except (LookupError, TypeError):
            return None

    def _all(self, values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple([self._token(value) for value in values])

    def _token(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            found = self.run.field_of(value)
            if found is not None:
                return "field", id(found)
            known = self._tokens.get(id(value))
            return known if known is not None else self._of_tensor(value)
        if value is None or value is ... or isinstance(value, _PLAIN):
            return type(value), value
        if type(value) in (tuple, list, torch.Size):
            return type(value), self._all(value)
        if isinstance(value, slice):
            return slice, self._all((value.start, value.stop, value.step))
        raise LookupError

    def _of_tensor(self, value: Tensor) -> Any:
        """A parameter is the first, second … that comes up, and drawn by its law."""
        if not isinstance(value, torch.nn.Parameter) and not value.is_meta:
            if value.numel() > _SMALL or value.dtype is torch.bfloat16:
                raise LookupError
            return tuple(value.shape), value.dtype, value.detach().numpy().tobytes()
        law = law_of(value) if value.is_meta else values_law(value)
        kind = None if law is None else (law.mean, law.variance, law.kind)
        grad = value.requires_grad
        token = "parameter", len(self._tokens), tuple(value.shape), value.dtype, grad, kind
        self._tokens[id(value)] = token
        self._new.append((token, value))
        return token

    def _share(self) -> None:
        """Parameters that come up for the first time have the fields of earlier runs."""
        if self._new:
            shared = self.repeats.parameters
            for token, tensor in self._new:
                if token in shared:
                    self.run.adopt(tensor, shared[token], parameter=True)
            self._new = [(token, tensor) for token, tensor in self._new if token not in shared]
