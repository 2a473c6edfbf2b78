"""Propagation: a model's forward run on fields instead of values, then its backward.

An abstract tensor is a meta tensor with a field. Torch functions are intercepted; everything
that does not touch an abstract tensor (ids, masks, positions) is computed for real.
"""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from isograd.errors import IsogradError, PredictionError
from isograd.prediction import dtypes, given, misfits, operands
from isograd.prediction.backward import holding
from isograd.prediction.backward.gradients import added, dependent
from isograd.prediction.backward.links import Link
from isograd.prediction.backward.passages import Meetings
from isograd.prediction.backward.twins import Twins
from isograd.prediction.calls import DEVICE, PLAIN, VALUES, function_name, plain_name, unwrapped
from isograd.prediction.chance import Chance
from isograd.prediction.moments.distances import Copies, without_distances
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import cuts_of
from isograd.prediction.moments.masks import steps_of
from isograd.prediction.ops import Op, Outcome, by_function
from isograd.prediction.steps import Slope, Step, inherit
from isograd.sites.batches import tensors

if TYPE_CHECKING:
    from isograd.prediction.repeats import Done, Following


def _each(out: Any) -> tuple[Any, ...]:
    return tuple(out) if isinstance(out, (tuple, list)) else (out,)


@dataclass(slots=True)
class Call:
    """One intercepted call."""

    run: Propagation
    name: str
    function: Callable[..., Any]
    lines: bool = True
    """Whether fields may tell near from far; see `Op.lines`."""

    def field(self, value: Any, like: Field | None = None) -> Field:
        """The field of a tensor or number.

        Args:
            value: abstract tensor, parameter, known tensor or number.
            like: a field that a known tensor is to be combined with; its classes are taken.
        """
        found = self.run.field(value, like)
        return found if self.lines else self.run.plain.of(self.run, found)

    def known(self, value: Any) -> bool:
        """Whether the values of a tensor are known: it is neither abstract nor a parameter."""
        return self.run.is_known(value)

    def refuse(self, why: str, cure: str) -> PredictionError:
        """An error that says where."""
        where = self.run.where()
        return PredictionError(f"predict: {self.name} in {where or 'the forward'!r} {why}; {cure}")


class Propagation(TorchFunctionMode):
    """Runs torch functions on fields while it is entered.

    Args:
        where: tells the path of the module whose forward runs.
    """

    def __init__(self, where: Callable[[], str] = lambda: "") -> None:
        super().__init__()
        self.where = where
        self.steps: list[Step] = []
        self.notes: list[str] = []
        self.factors: Counter[int] = Counter()
        """How often each draw has multiplied something entry by entry."""
        self.slopes: dict[int, Slope] = {}
        self.sampled: list[str] = []
        self._fields: dict[int, tuple[Tensor, Field]] = {}
        self._parameters: dict[int, tuple[Tensor, Field]] = {}
        self._known = operands.Constants()
        self._kept: set[int] = set()
        self.twins = Twins()
        self.meetings = Meetings(())
        self._chance = Chance()
        self._doing = "an operation"
        """The operation under way, for errors."""
        self.cast = False
        """Whether operations ran under autocast: dtypes are not followed from there on."""
        self.weighs = True
        """Whether gradients of parameters are wanted."""
        self.plain = Copies()
        self.draws: dict[int, int] = {}
        """Parameters by identity, and which of them hold the same values."""
        self.following: Following | None = None
        """What runs of similar networks share; None for a run by itself."""

    # -- tensors and fields ---------------------------------------------------------------------

    def abstract(self, field: Field, dtype: torch.dtype = torch.float32) -> Tensor:
        """A meta tensor that stands for a field."""
        with torch._C.DisableTorchFunction():
            tensor = torch.empty(field.shape, dtype=dtype, device="meta")
        self._fields[id(tensor)] = (tensor, field)
        return tensor

    def adopt(self, parameter: Tensor, field: Field) -> None:
        """Takes a parameter with the field that one drawn in the same way has in another run."""
        self._parameters[id(parameter)] = (parameter, field)

    def take(self, done: Done) -> None:
        """Takes what an operation of another run has left there."""
        self.plain.take(done.copies)
        for step in done.steps:
            self.steps.append(step)
            self.twins.enter(step)
        self.notes += done.notes
        self.sampled += done.sampled

    def let_go(self) -> None:
        """Lets go of model and tensors: what rules of this run have made may be used by others."""
        self.where = lambda: ""
        self.steps, self.twins, self._chance = [], Twins(), Chance()
        self._fields, self._known, self._parameters = {}, operands.Constants(), {}

    def extent(self) -> tuple[int, int, int, int]:
        """How many steps, copies, notes and sampled operations there are."""
        return len(self.steps), len(self.plain.made), len(self.notes), len(self.sampled)

    def keep(self, tensors: Sequence[Tensor]) -> None:
        """Tensors of the model that an in-place operation must not change."""
        self._kept.update(id(tensor) for tensor in tensors)

    def link(self, copy: Field, start: Field, link: Link) -> None:
        """Notes that a field is another one laid out anew, so that gradients find their way."""
        behind = link.behind
        assert behind is not None
        copy.condition = start.condition
        self.record("layout", "", Outcome(copy, lambda g: [(start, behind(g))], [start], link=link))

    def multiply(self, tensor: Tensor, factor: float) -> None:
        """Makes an abstract tensor a multiple of itself from here on."""
        made = self._run("mul", torch.mul, (tensor, factor), {})
        self._fields[id(tensor)] = (tensor, self._fields[id(made)][1])

    def field_of(self, tensor: Tensor) -> Field | None:
        """The field of an abstract tensor, None for any other."""
        found = self._fields.get(id(tensor))
        return None if found is None else found[1]

    def tensor_of(self, field: Field) -> Tensor | None:
        """The abstract tensor of a field."""
        return next((tensor for tensor, one in self._fields.values() if one is field), None)

    def parameter_field(self, tensor: Tensor) -> Field | None:
        """The field of a parameter that the run has used."""
        found = self._parameters.get(id(tensor))
        return None if found is None else found[1]

    def is_known(self, value: Any) -> bool:
        """Whether it is a tensor with values that is no parameter."""
        if not isinstance(value, Tensor) or id(value) in self._fields:
            return False
        return not value.is_meta and not isinstance(value, torch.nn.Parameter)

    def field(self, value: Any, like: Field | None = None) -> Field:
        """The field of a tensor or number; see `Call.field`."""
        if isinstance(value, Field):
            return value
        if not isinstance(value, Tensor):
            return operands.number(value, self._doing, self.where())
        found = self._fields.get(id(value)) or self._parameters.get(id(value))
        if found is not None:
            return found[1]
        with torch._C.DisableTorchFunction():
            if value.is_meta or isinstance(value, torch.nn.Parameter):
                return self._parameter(value)
            return self._constant(value, like)

    def _parameter(self, value: Tensor) -> Field:
        made = operands.parameter(value, self._doing, self.where())
        made.notes["draw"] = self.draws.get(id(value), id(value))
        if not self.weighs:
            made.notes["fixed"] = True
        self._parameters[id(value)] = (value, made)
        return made

    def _constant(self, value: Tensor, like: Field | None) -> Field:
        if value.numel() == 1:
            return operands.constant(value)
        cuts = None if like is None else cuts_of(like, tuple(value.shape)) or steps_of(value)
        return self._known.of(value, cuts)

    # -- forward --------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs one torch function: on fields if a tensor in it has one."""
        kwargs = kwargs or {}
        name = function_name(func)
        if name in DEVICE and name != func.__name__ and self._is_abstract(args[0]):
            return DEVICE[name]
        if name in PLAIN or not self._touches(args, kwargs):
            if self._kept and plain_name(name)[1] and args and id(args[0]) in self._kept:
                return args[0]  # such as the counter of a batch norm
            return self._drawn(name, func(*args, **kwargs), args, kwargs)
        return self._run(name, func, args, kwargs)

    def _drawn(self, name: str, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A mask that a model draws for itself stands for all masks, not for the one drawn."""
        law = self._chance.seen(name, args, kwargs, out)
        if law is not None:
            self._fields[id(out)] = (out, law)
        return out

    def _touches(self, args: Any, kwargs: Any) -> bool:
        """Whether a tensor among the arguments is abstract, or a parameter without values."""
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                if self._is_abstract(value):
                    return True
            elif isinstance(value, (tuple, list, dict)) and any(
                self._is_abstract(t) for t in tensors(value)
            ):
                return True
        return False

    def _is_abstract(self, tensor: Tensor) -> bool:
        if id(tensor) in self._fields or isinstance(tensor, torch.nn.Parameter):
            return True
        with torch._C.DisableTorchFunction():
            return tensor.is_meta

    def _run(self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name in VALUES:
            raise misfits.values_wanted(name, self.where())
        plain, in_place = plain_name(name)
        self._doing = plain
        rule = by_function().get(plain)
        if rule is None and isinstance(func, types.FunctionType):
            misfits.check(plain, func, args, kwargs, self.where)
            with self:
                return unwrapped(func)(*args, **kwargs)
        following, self.following = self.following, None  # what a rule calls is part of it
        try:
            done = None if following is None else following.again(func, args, kwargs)
            if done is not None:
                result = self._made(done.out, done.dtype)
            else:
                out, dtype = self._applied(plain, rule, func, args, kwargs)
                result = self._made(out, dtype)
                if following is not None:
                    following.note(out, dtype)
        finally:
            self.following = following
        if in_place and isinstance(args[0], Tensor):
            with torch._C.DisableTorchFunction():
                self._fields[id(args[0])] = (args[0], self._fields[id(result)][1])
            return args[0]
        return result

    def _applied(
        self, name: str, rule: Op | None, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, torch.dtype]:
        """What an operation makes of fields, and the dtype of its result."""
        misfits.check(name, func, args, kwargs, self.where)
        dtypes.check(self, name, func, args, kwargs)
        call = Call(self, name, func, rule is not None and name in rule.lines)
        if rule is None:
            from isograd.prediction.sampling import sampled

            outcome, source = sampled(call, *args, **kwargs), "sampled"
        else:
            try:
                outcome, source = rule.apply(call, *args, **kwargs), rule.source
            except IsogradError:
                raise
            except Exception as error:
                raise misfits.failed(rule, call, args, kwargs, error) from error
        if not call.lines:
            outcome.back = without_distances(outcome.back)
        given.follow(self, func, args, kwargs, outcome)
        if any(isinstance(one, Field) for one in _each(outcome.out)):
            self.record(name, source, outcome)
        return outcome.out, outcome.dtype or dtypes.of_result(self, func, args, kwargs)

    def _made(self, out: Any, dtype: torch.dtype) -> Any:
        """Tensors in the place of fields."""
        if isinstance(out, (tuple, list)):
            made = [self.abstract(one, dtype) if isinstance(one, Field) else one for one in out]
            return type(out)(made) if any(isinstance(one, Field) for one in out) else out
        return self.abstract(out, dtype) if isinstance(out, Field) else out

    def record(self, name: str, source: str, outcome: Outcome) -> None:
        """Adds one step to the run."""
        several = isinstance(outcome.out, (tuple, list))
        fields = tuple(one for one in _each(outcome.out) if isinstance(one, Field))
        for one in fields:
            inherit(one, outcome.inputs, outcome.link)
        self.notes.extend(outcome.notes)
        step = Step(
            name,
            self.where(),
            source,
            outcome.formula,
            tuple(outcome.inputs),
            fields,
            outcome.back,
            several,
            outcome.link,
        )
        self.steps.append(step)
        self.twins.enter(step)

    # -- backward -------------------------------------------------------------------------------

    def backward(self, seeds: Sequence[tuple[Field, Field]]) -> None:
        """Propagates gradients from `seeds`, pairs of (field, gradient's field)."""
        self.meetings = Meetings(self.steps if self.twins.found else ())
        for where, gradient in seeds:
            self.arrive(where, gradient)
        for step in reversed(self.steps):
            arrived = [self.slopes.get(id(out)) for out in step.outputs]
            direct = [None if one is None else one.direct for one in arrived]
            known = [one for one in direct if one is not None]
            if step.back is None or not known:
                self._told(step, arrived)
                continue
            handed = list(step.back(direct) if step.several else step.back(direct[0]))
            noise = max(one.noise for one in known)
            common = max([one.common or one.noise for one in known])
            from_each = [place for place, one in enumerate(direct) if one is not None]
            if len(from_each) != len(handed):
                from_each = from_each[:1] * len(handed)
            for (where, gradient), place in zip(handed, from_each, strict=True):
                if where in step.outputs:
                    continue  # the field went through as it was
                gradient.noise = max(gradient.noise, noise)
                gradient.common = gradient.common or common + gradient.noise - noise
                holding.pass_on(step, direct[place], gradient)
                gradient = self.meetings.pass_on(step, direct[place], where, gradient)
                if self.twins.found:
                    self.twins.bear(step, direct, where, gradient, place)
                self.arrive(where, gradient)

    def _told(self, step: Step, arrived: Sequence[Slope | None]) -> None:
        """The same entries before a layout get to know what has gone straight to their origin."""
        link, slope = step.link, arrived[0]
        if step.back is None or slope is None or not isinstance(link, Link):
            return
        if link.kind == "layout" and link.behind is not None and len(step.inputs) == 1:
            self.arrive(step.inputs[0], link.behind(slope.whole), passed_on=True)

    def arrive(self, where: Field, gradient: Field, *, passed_on: bool = False) -> None:
        """Adds to the gradient of a field; contributions of separate paths are independent.

        Args:
            where: the field.
            gradient: that of dLoss/d(where), from one path.
            passed_on: it has been handed to the field's origin already.
        """
        found = self.slopes.get(id(where))
        if found is None:
            self.slopes[id(where)] = Slope(gradient, None if passed_on else gradient)
            return
        both = found.direct is found.whole and not passed_on
        whole = self._sum(found.whole, gradient, where)
        if not passed_on and not both:
            direct = found.direct
            found.direct = gradient if direct is None else self._sum(direct, gradient, where)
        found.whole = whole
        if both:
            found.direct = whole

    def _sum(self, first: Field, second: Field, where: Field) -> Field:
        result = added(first, second, where)
        if self.twins.found:
            shared = self.twins.gradients(first, second)
            if shared is not None:
                result = dependent(result, shared)
            self.twins.bear_sum(result, first, second)
            self.meetings.add(result, first, second)
        return result

    def gradient_of(self, where: Field) -> Field | None:
        """The gradient that arrived at a field."""
        found = self.slopes.get(id(where))
        return None if found is None else found.whole
