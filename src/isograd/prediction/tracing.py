"""trace(): one run of a model on fields, forward and backward."""

from __future__ import annotations

import gc
import random
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import is_
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from isograd.errors import InputError, IsogradError, ModelError, PredictionError, a_kind
from isograd.prediction.drawing.refusals import raised_in
from isograd.prediction.functions.spectral import estimated
from isograd.prediction.inputs import abstract, batch_of
from isograd.prediction.moments.fields import Field
from isograd.prediction.propagation import Propagation
from isograd.prediction.recording import recording, sharing
from isograd.prediction.seeding import seeds_of
from isograd.sites.batches import Batch, check_filled, check_finite, misread, tensors
from isograd.sites.containers import put_back
from isograd.sites.losses import Loss
from isograd.sites.places import Places, Row
from isograd.sites.tape import Frame, Tape
from isograd.sites.tree import Modules, buffers_of, modules_of

if TYPE_CHECKING:
    from isograd.prediction.repeats import Repeats


class Reader(Places):
    """Keeps the field of every site."""

    def __init__(self, run: Propagation, residual_scale: float | None = None) -> None:
        super().__init__()
        self.run = run
        self.residual_scale = residual_scale
        self.fields: list[Field | None] = []
        self.branches: dict[int, tuple[Field | None, Field | None]] = {}
        self.loops: dict[int, tuple[Field | None, int]] = {}
        """Of recurrent layers: the field of the input, and its axis of time."""
        self._branch: tuple[Field | None, Field | None] | None = None

    def read(self, tape: Tape, row: Row, out: Tensor, frame: Frame | None, /) -> None:
        """Keeps the field of a new site."""
        del tape
        if frame is not None and isinstance(frame.module, nn.RNNBase) and out.ndim == 3:
            given = frame.arguments[0] if frame.arguments else None
            before = self.run.field_of(given) if isinstance(given, Tensor) else None
            self.loops[len(self.fields)] = before, 1 if frame.module.batch_first else 0
        if row.kind == "add" and self._branch is not None:
            self.branches[len(self.fields)] = self._branch
        self._branch = None
        found = self.run.field_of(out)
        if found is None and self.run.is_known(out) and out.is_floating_point():
            found = self.run.field(out)  # such as waves of known times
        self.fields.append(found)

    def adopt(
        self, rows: Sequence[Row], names: Mapping[str, int], fields: Sequence[Field | None] = ()
    ) -> None:
        """Takes the sites that a module call has made in another run, with their fields."""
        super().adopt(rows, names)
        self.fields += fields
        self._branch = None

    def residual(self, tape: Tape, skip: Tensor, branch: Tensor, /) -> None:
        """Keeps the fields of the two terms of a residual addition."""
        del tape
        if self.residual_scale is not None:
            self.run.multiply(branch, self.residual_scale)
        self._branch = (self.run.field_of(skip), self.run.field_of(branch))


@dataclass(frozen=True, slots=True)
class Trace:
    """What a run leaves behind."""

    model: nn.Module
    batch: Batch
    tape: Tape
    reader: Reader
    run: Propagation
    loss_name: str
    loss_note: str | None
    loss_chosen: bool
    loss: Field | None = None
    """Of the loss itself; None with random probes."""


def trace(
    model: nn.Module | Callable[[], nn.Module],
    inputs: Any,
    *,
    input_stats: Mapping[str, float] | None = None,
    loss: Loss | None = None,
    seed: int = 0,
    residual_scale: float | None = None,
    repeats: Repeats | None = None,
) -> Trace:
    """Runs a model forward and backward on fields; arguments are those of `predict`.

    With `residual_scale` the branch of every residual addition is multiplied by it. `repeats`
    is what runs of similar networks on the same inputs share.
    """
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"predict: seed={seed!r}; it must be a whole number, 0 or more")
    built, batch = build(model), batch_of(inputs, seed)
    modules = modules_of(built)
    with undisturbed():
        if repeats is None or repeats.batch is not batch:
            check_filled(batch)
            check_finite(batch)
        if repeats is not None:
            repeats.batch = batch
        _check(modules)
        options = (modules, batch, input_stats or {}, loss, seed, residual_scale)
        found = _run(*options, repeats)
        if repeats is not None and found.run.twins.found:
            return _run(*options, None)  # layers that share values are followed in one whole run
    return found


@contextmanager
def undisturbed() -> Iterator[None]:
    """A run makes many small things: no search for cycles among them, and one thread.

    Threads of torch that have shared out an array keep their cores busy for 10 ms, waiting for
    the next.
    """
    enabled, threads = gc.isenabled(), torch.get_num_threads()
    gc.disable()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if enabled:
            gc.enable()


def _check(modules: Modules) -> None:
    """Refuses what nothing can be predicted of."""
    for path, module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            raise PredictionError(
                f"predict: {_place(path, module)} is compiled by torch.jit, so that its operations "
                "cannot be followed; predict from the module that it was made of"
            )
        held: list[Any] = [*module._parameters.values()]
        if any(map(is_lazy, held)):
            raise PredictionError(
                f"predict: {_place(path, module)} takes its shape from the first batch that it "
                "sees; say its number of inputs, or call the model once and predict from that"
            )


def _place(path: str, module: nn.Module) -> str:
    kind = f"a {type(module).__name__}"
    return f"{path!r}, {kind}," if path else kind


def _run(
    modules: Modules,
    batch: Batch,
    input_stats: Mapping[str, float],
    loss: Loss | None,
    seed: int,
    residual_scale: float | None,
    repeats: Repeats | None,
) -> Trace:
    run = Propagation()
    reader = Reader(run, residual_scale)
    built = modules[0][1]
    tape = Tape(built, reader, modules)
    run.draws = draws_of(tape.named)
    run.where = lambda: tape.stack[-1].path if tape.stack else ""
    if repeats is not None:
        run.following = repeats.following(run)
    with untouched(modules, run), estimated(modules), ExitStack() as stack:
        stepwise = any(isinstance(module, nn.RNNBase) for _, module in modules)
        swapped = abstract(run, batch, input_stats, stepwise=stepwise, repeats=repeats)
        stack.enter_context(run)
        stack.enter_context(tape.recording())
        if run.following is not None:
            stack.enter_context(run.following.replays(tape, reader).of(modules))
        with tape.quiet():
            for tensor in swapped.inputs():
                tape.introduce(tensor, "input")
            for tensor in tensors(batch.targets):
                tape.introduce(tensor, "target")
        outputs = _guarded(tape, batch, lambda: swapped.call(built))
        tape.phase = "loss"
        chosen = _guarded(
            tape, batch, lambda: seeds_of(run, tape, outputs, batch.targets, loss, seed)
        )
    if not reader.rows:
        raise ModelError(
            f"predict: found no site in the forward of a {type(built).__name__} of "
            f"{sum(1 for _ in built.parameters())} parameters: it runs no layer, norm or "
            "activation; give a model whose forward calls its layers"
        )
    if run.following is not None:
        run.following.end()
    run.backward(chosen.seeds)
    own = chosen.seeds[0][0] if chosen.seeds and chosen.name != "random probes" else None
    return Trace(built, batch, tape, reader, run, chosen.name, chosen.note, loss is None, own)


def draws_of(named: Sequence[tuple[str, Tensor]]) -> dict[int, int]:
    """Parameters by identity that share their values with others, and which one stands for all."""
    return {id(one): id(group[0][1]) for group in sharing(named) for _, one in group}


def build(model: nn.Module | Callable[[], Any]) -> nn.Module:
    """The model itself, or what a factory gives under `recording()`."""
    if isinstance(model, nn.Module):
        inner = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
        return inner if isinstance(inner, nn.Module) else model
    if not callable(model):
        raise ModelError(
            f"predict: expected a torch.nn.Module or a callable that returns one, found "
            f"{a_kind(model)}"
        )
    made = _made(model)
    if isinstance(made, tuple) and made and isinstance(made[0], nn.Module):
        made = made[0]
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"predict: the factory returned a {type(made).__name__}; it must return a "
            "torch.nn.Module"
        )
    return made


def _made(factory: Callable[[], Any]) -> Any:
    """What a factory returns; of its own errors, which line to look at and what to do."""
    with recording():
        try:
            return factory()
        except IsogradError:
            raise
        except Exception as error:
            lines = str(error).strip().splitlines()
            said = f"{type(error).__name__}: {lines[0] if lines else '(no message)'}"
            raise PredictionError(
                f"predict: building the model raised {said}, in {raised_in(error)}; nothing has "
                "values while it is built: if it needs them (a file, weights), build the real "
                "model first and predict from that, or measure it"
            ) from error


@contextmanager
def untouched(modules: Modules, run: Propagation) -> Iterator[None]:
    """Leaves buffers, attributes, what these contain, and random states as they were."""
    held = [vars(module) for _, module in modules]
    attributes = [(one, one.copy()) for one in held]
    buffers = [(own["_buffers"], own["_buffers"].copy()) for own in held]
    contents: dict[int, tuple[Any, Any]] = {}
    for own in held:
        for name, value in own.items():
            if name not in _OF_MODULES and type(value) in _CONTAINERS:
                _keep_contents(value, contents)
    run.keep(buffers_of(modules))
    state, python_state = torch.get_rng_state(), random.getstate()
    try:
        with warnings.catch_warnings(), torch.no_grad(), torch.inference_mode(False):
            warnings.simplefilter("ignore")
            with torch.no_grad():
                yield
    finally:
        torch.set_rng_state(state)
        random.setstate(python_state)
        for now, before in attributes:
            if [*now] != [*before] or not all(map(is_, now.values(), before.values())):
                now.clear()
                now.update(before)
        for now, before in buffers:
            if now or before:
                now.clear()
                now.update(before)
        for container, content in contents.values():
            put_back(container, content)


_CONTAINERS = frozenset({list, dict, set, deque, OrderedDict, defaultdict})
"""Kinds of attributes that a forward may put tensors into."""
_OF_MODULES = frozenset(vars(nn.Module()))


def _keep_contents(value: Any, found: dict[int, tuple[Any, Any]]) -> None:
    """Notes a container with its contents as they are, and the containers in it."""
    if type(value) not in _CONTAINERS or id(value) in found:
        return
    found[id(value)] = value, value.copy()
    for inner in value.values() if isinstance(value, dict) else value:
        _keep_contents(inner, found)


def _guarded(tape: Tape, batch: Batch, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except IsogradError:
        raise
    except Exception as error:
        frame = tape.deepest
        where = "the model's forward"
        if frame is not None and frame.path:
            where = f"{frame.path!r} ({type(frame.module).__name__})"
        lines = str(error).strip().splitlines()
        said = f"{type(error).__name__}: {lines[0] if lines else '(no message)'}"
        if hint := misread(batch, error):
            raise ModelError(f"predict: {where} raised {said}; {hint}") from error
        raise PredictionError(
            f"predict: {where} raised {said}; check that the model runs on such inputs; if it "
            "does, what it computes there cannot be predicted: use isograd.measure on one batch"
        ) from error
