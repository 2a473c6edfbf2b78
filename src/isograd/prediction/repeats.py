"""Repeats: what runs of similar networks have in common, computed once.

The networks of a sweep over depth begin with the same layers. As long as a run does to the same
fields what an earlier run did, one operation after the other, it takes what came out there; from
the first operation that differs on, rules are applied as ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isograd.prediction.drawing.draws import Draw
from isograd.prediction.drawing.recorded import read, recorded
from isograd.prediction.replaying import Replay, Replays

if TYPE_CHECKING:
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.propagation import Propagation
    from isograd.prediction.steps import Step
    from isograd.prediction.tracing import Reader
    from isograd.sites.tape import Tape

_LARGEST = 1 << 18
"""Entries of known tensors that are compared by their values."""
_PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.layout)


@dataclass(slots=True, eq=False)
class Done:
    """One operation of an earlier run."""

    key: Any
    """What was done to which fields; None where that cannot be told."""
    named: tuple[Field, ...]
    """The fields that the key names, kept for their identity."""
    out: Any
    """Field or fields that came out, or any other value."""
    dtype: torch.dtype
    steps: list[Step]
    copies: list[tuple[Field, Field]]
    notes: list[str]
    sampled: list[str]


class Repeats:
    """What the runs of one sweep share.

    Args:
        weighs: whether gradients of parameters are wanted.
    """

    def __init__(self, *, weighs: bool = True) -> None:
        self.weighs = weighs
        self.slopes: dict[int, Any] = {}
        """Of all runs: rules of earlier runs hand on gradients of later ones."""
        self.done: list[Done] = []
        """The longest run so far."""
        self.calls: dict[int, Replay] = {}
        """Calls of modules in it, by how many operations there were before."""
        self.parameters: dict[Any, tuple[Tensor, Field]] = {}
        self.batch: Any = None
        """The latest that was found to be good."""
        self._inputs: dict[Any, tuple[Tensor, Field]] = {}
        self.latest: Propagation | None = None

    def following(self, run: Propagation) -> Following:
        """A new run that follows the earlier ones."""
        return Following(self, run)

    def of_input(self, value: Tensor, stepwise: bool) -> Field | None:
        """The field that an input has had in an earlier run."""
        found = self._inputs.get((id(value), stepwise))
        return None if found is None else found[1]

    def keep(self, value: Tensor, stepwise: bool, made: Field) -> None:
        """Keeps the field of an input."""
        self._inputs[id(value), stepwise] = value, made


class Following:
    """One run: along an earlier one as far as it goes, then on its own."""

    def __init__(self, repeats: Repeats, run: Propagation) -> None:
        self.repeats, self.run = repeats, run
        run.slopes, run.weighs = repeats.slopes, repeats.weighs
        repeats.slopes.clear()
        if repeats.latest is not None:
            repeats.latest.let_go()
        repeats.latest = run
        self.hits = 0
        self.along = not run.draws  # layers that share values are followed through one whole run
        self.own: list[Done] = []
        """Operations for which rules were applied."""
        self.calls: dict[int, Replay] = {}
        self._key: Any = None
        self._named: list[Field] = []
        self.tokens: dict[int, Any] = {}
        """What is told of each parameter used so far, by its identity."""
        self._before = (0, 0, 0, 0)

    def again(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Done | None:
        """What an earlier run made of the same operation; None if the rule has to be applied."""
        run = self.run
        self._named = []
        self._key = self._told(func, args, kwargs)
        if self.along and self._key is not None and self.hits < len(self.repeats.done):
            done = self.repeats.done[self.hits]
            if done.key == self._key:
                self.hits += 1
                run.take(done)
                return done
        self.along = False
        self._before = run.extent()
        return None

    def note(self, out: Any, dtype: torch.dtype) -> None:
        """Keeps what has come out of the operation of which `again` knew nothing."""
        run, before = self.run, self._before
        if isinstance(out, (tuple, list)):
            out = type(out)([self._field(one) for one in out])
        else:
            out = self._field(out)
        self.own.append(
            Done(
                self._key,
                tuple(self._named),
                out,
                dtype,
                run.steps[before[0] :],
                run.plain.made[before[1] :],
                run.notes[before[2] :],
                run.sampled[before[3] :],
            )
        )

    def _field(self, one: Any) -> Any:
        """The field of an abstract tensor: rules made of others give tensors."""
        found = self.run.field_of(one) if isinstance(one, Tensor) else None
        return one if found is None else found

    def end(self) -> None:
        """The longest run is the one to follow."""
        if self.hits + len(self.own) > len(self.repeats.done):
            self.repeats.done[self.hits :] = self.own
            before = {k: one for k, one in self.repeats.calls.items() if k < self.hits}
            self.repeats.calls = before | self.calls

    def replays(self, tape: Tape, reader: Reader) -> Replays:
        """The calls of modules in this run."""
        return Replays(self, tape, reader)

    # -- what is done to what -------------------------------------------------------------------

    def _told(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
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
                self._named.append(found)
                return "field", id(found)
            return self.token_of(value)
        if value is None or value is ... or isinstance(value, _PLAIN):
            return type(value), value
        if type(value) in (tuple, list, torch.Size):
            return type(value), self._all(value)
        if isinstance(value, slice):
            return slice, self._all((value.start, value.stop, value.step))
        raise LookupError

    def token_of(self, value: Tensor) -> Any:
        """What is told of a tensor that has no field of this run's own.

        A parameter is the first, second … that comes up, and drawn by its law.

        Raises:
            LookupError: it is too large to be told from others, or has no law.
        """
        known = self.tokens.get(id(value))
        if known is not None:
            return known
        with torch._C.DisableTorchFunction():
            if not value.is_meta:
                if value.numel() > _LARGEST or value.layout is not torch.strided:
                    raise LookupError
                held = value.detach().contiguous().flatten().view(torch.uint8).numpy()
                of_values = hashlib.blake2b(held.tobytes(), digest_size=16).digest()
                kind: Any = isinstance(value, torch.nn.Parameter), of_values
            else:
                kind = _law(value)
        drawn = tuple(value.shape), value.dtype, value.requires_grad, kind
        if not value.is_meta and not kind[0]:
            return drawn
        token = self.tokens[id(value)] = "parameter", len(self.tokens), *drawn
        shared = self.repeats.parameters.get(token)
        if shared is None:
            self.repeats.parameters[token] = value, self.run.field(value)
        else:
            self.run.adopt(value, shared[1])
        return token

    def is_told(self, value: Tensor, token: Any, field: Field) -> bool:
        """Whether a parameter has a token; one that comes up first has that field then, too."""
        try:
            if not value.is_meta or id(value) in self.tokens:
                return bool(self.token_of(value) == token)
            _, number, shape, dtype, trained, law = token
            new = number == len(self.tokens) and value.shape == shape and value.dtype is dtype
            if not new or value.requires_grad is not trained or _law(value) != law:
                return False
        except LookupError:
            return False
        self.tokens[id(value)] = token
        self.run.adopt(value, field)
        return True


def _law(value: Tensor) -> tuple[Any, ...]:
    """How a tensor on the meta device is drawn."""
    kept = recorded(value)
    drawn = None if kept is None else read(value, kept) if kept.writes else kept.values
    if not isinstance(drawn, Draw):
        raise LookupError
    base = drawn.base
    return base.kind, base.mean, base.variance, drawn.shift, drawn.scale
