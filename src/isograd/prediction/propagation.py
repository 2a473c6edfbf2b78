"""Propagation: a model's forward run on fields instead of values, then its backward.

An abstract tensor is a meta tensor with a field. Torch functions are intercepted; everything
that does not touch an abstract tensor (ids, masks, positions) is computed for real.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from isograd.errors import ModelError, PredictionError
from isograd.prediction import misfits
from isograd.prediction.aligning import aligned
from isograd.prediction.calls import DEVICE, PLAIN, VALUES, function_name, plain_name, unwrapped
from isograd.prediction.chance import Chance
from isograd.prediction.distances import Copies, without_distances
from isograd.prediction.fields import Field
from isograd.prediction.gradients import added
from isograd.prediction.known import cuts_of, empirical, independent, patterned, scalar
from isograd.prediction.ops import Outcome, by_function
from isograd.prediction.recording import law_of, values_law
from isograd.prediction.steps import Slope, Step, inherit
from isograd.prediction.twins import Link, Twins
from isograd.sites.batches import tensors


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
        self.slopes: dict[int, Slope] = {}
        self.sampled: list[str] = []
        self._fields: dict[int, tuple[Tensor, Field]] = {}
        self._parameters: dict[int, tuple[Tensor, Field]] = {}
        self._known: dict[int, tuple[Tensor, Field]] = {}
        self._kept: set[int] = set()
        self.twins = Twins()
        self._chance = Chance()
        self._doing = "an operation"
        """The operation under way, for errors."""
        self.weighs = True
        """Whether gradients of parameters are wanted."""
        self.plain = Copies()
        self.draws: dict[int, int] = {}
        """Parameters by identity, and which of them hold the same values."""

    # -- tensors and fields ---------------------------------------------------------------------

    def abstract(self, field: Field, dtype: torch.dtype = torch.float32) -> Tensor:
        """A meta tensor that stands for a field."""
        with torch._C.DisableTorchFunction():
            tensor = torch.empty(field.shape, dtype=dtype, device="meta")
        self._fields[id(tensor)] = (tensor, field)
        return tensor

    def adopt(self, tensor: Tensor, field: Field, *, parameter: bool = False) -> None:
        """Takes a tensor of another run, or a parameter, with the field that it has there."""
        (self._parameters if parameter else self._fields)[id(tensor)] = (tensor, field)

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
            return scalar(float(value))
        found = self._fields.get(id(value)) or self._parameters.get(id(value))
        if found is not None:
            return found[1]
        with torch._C.DisableTorchFunction():
            if value.is_meta or isinstance(value, torch.nn.Parameter):
                return self._parameter(value)
            return self._constant(value, like)

    def _parameter(self, value: Tensor) -> Field:
        law = law_of(value) if value.is_meta else values_law(value)
        if law is None and not value.is_floating_point():
            raise PredictionError(
                f"predict: {self._doing} in {self.where() or 'the forward'!r} uses whole numbers "
                "that are never computed, such as indices of the largest entries: what it does "
                "there depends on data (routing, mixtures of experts); use isograd.measure on one "
                "batch"
            )
        if law is None:
            raise PredictionError(
                f"predict: a tensor of shape {list(value.shape)} in "
                f"{self.where() or 'the model'!r} is on the meta device with unknown values; build "
                "the model inside isograd.recording(), so that its initialization is known"
            )
        made = None if value.is_meta or value.requires_grad else patterned(value)
        made = made or independent(tuple(value.shape), law.mean, law.variance)
        made.notes["draw"] = self.draws.get(id(value), id(value))
        if law.kind == "uniform":
            made.notes["kurtosis"] = 1.8
        if not self.weighs:
            made.notes["fixed"] = True
        self._parameters[id(value)] = (value, made)
        return made

    def _constant(self, value: Tensor, like: Field | None) -> Field:
        if value.numel() == 1:
            return scalar(float(value)).regrouped((0,) * value.ndim)
        cuts = None if like is None else cuts_of(like, tuple(value.shape))
        if cuts is None and id(value) in self._known:
            return self._known[id(value)][1]
        values = value.detach()
        if values.is_complex():
            values = torch.view_as_real(values)
        made = empirical(values.double().numpy(), cuts)
        if cuts is None:
            self._known[id(value)] = (value, made)
        return made

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

    def concerns(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call of a torch function is one that a rule is for."""
        return name not in PLAIN and name not in DEVICE and self._touches(args, kwargs)

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
            raise self._values_wanted(name)
        plain, in_place = plain_name(name)
        self._doing = plain
        rule = by_function().get(plain)
        call = Call(self, plain, func, rule is not None and plain in rule.lines)
        if misfits.find(plain, args, kwargs) and (said := misfits.told(plain, func, args, kwargs)):
            raise self._misfit(plain, args, said)
        if rule is None and isinstance(func, types.FunctionType):
            with self:
                return unwrapped(func)(*args, **kwargs)
        if rule is None:
            from isograd.prediction.sampling import sampled

            outcome, source = sampled(call, *args, **kwargs), "sampled"
        else:
            try:
                outcome, source = rule.apply(call, *args, **kwargs), rule.source
            except (LookupError, ValueError) as error:
                if said := misfits.refused(func, args, kwargs):
                    raise self._misfit(plain, args, said) from error
                raise
        if not call.lines:
            outcome.back = without_distances(outcome.back)
        result = self._outcome(plain, source, outcome, args, kwargs)
        if in_place and isinstance(args[0], Tensor):
            with torch._C.DisableTorchFunction():
                self._fields[id(args[0])] = (args[0], self._fields[id(result)][1])
            return args[0]
        return result

    def _outcome(self, name: str, source: str, outcome: Outcome, args: Any, kwargs: Any) -> Any:
        several = isinstance(outcome.out, (tuple, list))
        found = tuple(outcome.out) if several else (outcome.out,)
        fields = tuple(one for one in found if isinstance(one, Field))
        if not fields:
            return outcome.out
        self.record(name, source, outcome)
        dtype = outcome.dtype or self._dtype(args, kwargs)
        made = [self.abstract(one, dtype) if isinstance(one, Field) else one for one in found]
        return type(outcome.out)(made) if several else made[0]

    def record(self, name: str, source: str, outcome: Outcome) -> None:
        """Adds one step to the run."""
        several = isinstance(outcome.out, (tuple, list))
        found = tuple(outcome.out) if several else (outcome.out,)
        fields = tuple(one for one in found if isinstance(one, Field))
        for one in fields:
            inherit(one, outcome.inputs)
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

    def _dtype(self, args: Any, kwargs: Any) -> torch.dtype:
        with torch._C.DisableTorchFunction():
            for value in tensors((args, kwargs)):
                if id(value) in self._fields and value.is_floating_point():
                    return value.dtype
            return next(
                (t.dtype for t in tensors((args, kwargs)) if t.is_floating_point()), torch.float32
            )

    def _misfit(self, name: str, args: Any, said: str) -> ModelError:
        where, of = self.where(), misfits.shapes(args)
        return ModelError(
            f"predict: {name}{of and ' of '}{of} in {where or 'the forward'!r} would fail: {said}; "
            "give inputs of the shapes and ids that the model takes"
        )

    def _values_wanted(self, name: str) -> PredictionError:
        where = self.where()
        return PredictionError(
            f"predict: {name}() in {where or 'the forward'!r} needs a value that is never "
            "computed; what the model does there depends on data: use isograd.measure on one batch"
        )

    # -- backward -------------------------------------------------------------------------------

    def backward(self, seeds: Sequence[tuple[Field, Field]]) -> None:
        """Propagates gradients from `seeds`, pairs of (field, gradient's field)."""
        for where, gradient in seeds:
            self.arrive(where, gradient)
        for step in reversed(self.steps):
            arrived = [self.slopes.get(id(out)) for out in step.outputs]
            direct = [None if one is None else one.direct for one in arrived]
            if step.back is None or all(one is None for one in direct):
                self._told(step, arrived)
                continue
            handed = list(step.back(direct) if step.several else step.back(direct[0]))
            noise = max(one.noise for one in direct if one is not None)
            from_each = [place for place, one in enumerate(direct) if one is not None]
            if len(from_each) != len(handed):
                from_each = from_each[:1] * len(handed)
            for (where, gradient), place in zip(handed, from_each, strict=True):
                if any(where is out for out in step.outputs):
                    continue  # the field went through as it was
                gradient.noise = max(gradient.noise, noise)
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
                whole, twice = aligned(result, shared)
                second_moments = whole.second + 2 * twice.second
                kept = result
                result = whole.like(second_moments)
                result.noise, result.notes = kept.noise, kept.notes
            self.twins.bear_sum(result, first, second)
        return result

    def gradient_of(self, where: Field) -> Field | None:
        """The gradient that arrived at a field."""
        found = self.slopes.get(id(where))
        return None if found is None else found.whole
